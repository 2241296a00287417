"""
Where the image that a pilot names may be.

Rules:

1. Nothing here touches the machine: `candidates` says what to look at and in
   which order, somebody else looks.
2. Names, layouts, spellings and fall-backs are values of policy.
3. A place that is published for another architecture is listed as well, so
   that a refusal can say so; it is never taken.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Optional, Union

import attrs

from wlcg_isolate._values import normal_path
from wlcg_isolate.errors import Problem
from wlcg_isolate.policy import Policy

if TYPE_CHECKING:
    from wlcg_isolate.images.names import Reference
    from wlcg_isolate.platforms import Platform

#: What an x86_64 kernel starts as well.
RUNS_ALSO: Mapping[str, tuple[str, ...]] = {"x86_64": ("i686",), "i686": ()}

#: Architectures that images of the grid are published for.
_PUBLISHED = ("x86_64", "aarch64", "ppc64le")

#: Docker puts its own repositories below this name.
_OFFICIAL = "library/"


@attrs.frozen(kw_only=True)
class Candidate:
    """
    One place where an image may be.

    Attributes:
        path: Absolute path, or the URI itself where policy allows to pull.

        reference: The reference that it was made from.

        source: What named the place: ``"request"``, ``"image.names"``,
            ``"image.search"`` or ``"image.pull"``.

        architecture: For which it is published by its name, or None when the
            name does not tell.

        usable: Whether it may be taken; otherwise it is only looked at, to
            tell that it is there for another architecture.

        fallback: Whether nobody asked for it, but ``image.fallback``.
    """

    path: str
    reference: str
    source: str
    architecture: Optional[str] = None
    usable: bool = True
    fallback: bool = False


def candidates(
    image: Optional[str], platform: Optional[str], policy: Policy, machine: str
) -> tuple[tuple[Candidate, ...], tuple[Problem, ...]]:
    """
    List where to look for an image.

    Args:
        image: Image reference, or several in order of preference with commas
            between them.

        platform: The same for platforms; only used when there is no image.

        policy: What holds here.

        machine: Architecture of the node, as `os.uname` spells it.

    Returns:
        The places in the order to look, and what is wrong with the names.
    """
    found: list[Candidate] = []
    problems: list[Problem] = []
    option = "--platform" if image is None else "--image"
    for place in itertools.chain(
        *(_of_name(name, policy, machine, option) for name in _listed(image or platform or "", policy)),
        *(_fallback(name, policy, machine) for name in policy.image_fallback if image or platform),
    ):
        if isinstance(place, Problem):
            problems.append(place)
        elif place.path not in [other.path for other in found]:
            found.append(place)
    found.sort(key=lambda place: not place.usable)

    return tuple(found), tuple(problems)


def _listed(text: str, policy: Policy) -> Iterator[str]:
    # A path may hold a comma.
    for name in [text] if text.startswith("/") or "://" in text else text.split(","):
        name = name.strip()  # noqa: PLW2901 - as GlideinWMS's lists have them
        if name == "any" and name not in policy.image_names:
            yield from policy.image_names
        elif name:
            yield name


def _fallback(name: str, policy: Policy, machine: str) -> Iterator[Union[Candidate, Problem]]:
    for place in _of_name(name, policy, machine, "image.fallback"):
        yield attrs.evolve(place, fallback=True) if isinstance(place, Candidate) else place


def _of_name(name: str, policy: Policy, machine: str, option: str) -> Iterator[Union[Candidate, Problem]]:
    known = _named(name, policy)
    if known is not None:
        key, wanted = known
        yield from _of_policy(name, key, wanted or machine, policy, (machine, option))
        return
    if name.startswith("/") and ".." not in name:
        yield Candidate(path=policy.on_node(normal_path(name)), reference=name, source="request")
        return
    from wlcg_isolate.images.names import parse_reference

    reference = parse_reference(name)
    if isinstance(reference, Problem):
        yield reference
    elif reference.kind == "path":
        yield Candidate(path=policy.on_node(normal_path(name)), reference=name, source="request")
    elif reference.kind == "name" or option == "--platform":
        yield Problem(
            kind="image-unknown",
            message=f"policy maps {name!r} to no path{_as_os(name, policy)}",
            origin=option,
            advice="name the absolute path of an image, or add the name to image.names",
        )
    elif reference.kind == "uri":
        yield from _of_uri(reference, policy, machine)
    elif reference.tag is None and reference.digest is not None:
        yield _no_digests(name)
    else:
        yield from _searched(reference, policy, machine)


def _as_os(name: str, policy: Policy) -> str:
    from wlcg_isolate.platforms import parse_platform

    platform = parse_platform(policy.image_platforms.get(name, name))

    return f", nor {platform.os}, which it means" if platform is not None and platform.os != name else ""


def _named(name: str, policy: Policy) -> Optional[tuple[str, Optional[str]]]:
    """
    Find a name in policy.

    Returns:
        The key of ``image.names``, and the architecture that the name asks
        for or None.
    """
    if name in policy.image_names:
        return name, None
    if name.startswith("/"):
        return None
    from wlcg_isolate.platforms import parse_platform

    meant = policy.image_platforms.get(name)
    platform = parse_platform(meant if meant is not None else name)
    if platform is None:
        return None
    key = _key_of(platform, policy.image_names)

    return None if key is None else (key, platform.architecture)


def _key_of(platform: Platform, names: Iterable[str]) -> Optional[str]:
    from wlcg_isolate.platforms import canonical_os

    for key in (platform.os, *names):
        if key in names and canonical_os(key) == platform.os:
            return key

    return None


def _of_policy(
    name: str, key: str, wanted: str, policy: Policy, where: tuple[str, str]
) -> Iterator[Union[Candidate, Problem]]:
    machine, option = where
    value = policy.image_names[key]
    by_architecture = {wanted: value} if isinstance(value, str) else dict(value)
    if wanted != machine and wanted not in RUNS_ALSO.get(machine, ()):
        yield Problem(
            kind="image-wrong-architecture",
            message=f"{name!r} asks for {wanted}; this node is {machine}",
            origin=option,
            advice="send the payload to a node of that architecture",
        )
        return
    if wanted not in by_architecture:
        yield Problem(
            kind="image-other-architecture",
            message=f"policy names {name!r} for {', '.join(sorted(by_architecture))}, not for {wanted}",
            origin=option,
            advice="add the path for this architecture to image.names, or run on another node",
        )
    for architecture, path in by_architecture.items():
        usable = architecture == wanted
        for spelled in _spelled(path, architecture, policy):
            yield Candidate(
                path=policy.on_node(normal_path(spelled)),
                reference=name,
                source="image.names",
                architecture=None if isinstance(value, str) else architecture,
                usable=usable,
            )


def _spelled(template: str, machine: str, policy: Policy) -> Iterator[str]:
    for go in _go_names(machine, policy) if "{goarch}" in template else ("",):
        yield template.replace("{arch}", machine).replace("{goarch}", go)


def _go_names(machine: str, policy: Policy) -> tuple[str, ...]:
    from wlcg_isolate.platforms import spell_architecture

    return policy.image_goarch.get(machine) or (spell_architecture(machine, "go") or machine,)


def _of_uri(reference: Reference, policy: Policy, machine: str) -> Iterator[Union[Candidate, Problem]]:
    if reference.repository is not None and reference.digest is None:
        yield from _searched(reference, policy, machine)
    if reference.scheme in policy.image_pull:
        yield Candidate(path=reference.text, reference=reference.text, source="image.pull")
        return
    yield Problem(
        kind="image-pull-refused",
        message=f"{reference.text} would be pulled by {reference.scheme} for this payload",
        origin="--image",
        advice="publish the image on CVMFS or as a file, and name its path; image.pull can allow it",
    )


def _searched(reference: Reference, policy: Policy, machine: str) -> Iterator[Candidate]:
    """
    Fill the layouts of policy with the parts of an OCI name.
    """
    registries = (reference.registry,) if reference.registry else policy.image_registries
    repository = reference.repository or ""
    if reference.registry is None and "/" not in repository:
        repository = _OFFICIAL + repository
    others = [name for name in _PUBLISHED if name != machine]
    for architecture, layout in itertools.product((machine, *others), policy.image_search):
        if architecture != machine and "{goarch}" not in layout and "{arch}" not in layout:
            continue
        for registry, tag in itertools.product(
            registries if "{registry}" in layout else ("",),
            _tags(reference, architecture, policy) if "{tag}" in layout else ("",),
        ):
            filled = layout.replace("{registry}", registry).replace("{repository}", repository)
            filled = filled.replace("{name}", repository.rpartition("/")[2])
            for path in _spelled(filled.replace("{tag}", tag), architecture, policy):
                yield Candidate(
                    path=policy.on_node(normal_path(path)),
                    reference=reference.text,
                    source="image.search",
                    architecture=architecture if "arch}" in layout else None,
                    usable=architecture == machine,
                )


def _tags(reference: Reference, architecture: str, policy: Policy) -> Iterator[str]:
    if reference.tag is not None:
        yield reference.tag
        return
    from wlcg_isolate.platforms import spell_architecture

    go = spell_architecture(architecture, "go") or architecture
    for tag in policy.image_tags:
        yield tag.replace("{arch}", architecture).replace("{goarch}", go)


def _no_digests(name: str) -> Problem:
    return Problem(
        kind="image-unknown",
        message=f"{name!r} names a manifest digest and no tag; CVMFS publishes images by tag",
        origin="--image",
        advice="add the tag, or name the path of the image",
    )
