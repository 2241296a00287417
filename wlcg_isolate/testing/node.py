"""
Nodes as sites have them, to plan on without being there.

A plan is a function of request, policy and the facts of a node; a test says
what is on the node, and the rest is as it was where its facts were read.
"""

from __future__ import annotations

import contextlib
import fnmatch
import json
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Optional

import attrs

from wlcg_isolate._values import as_tuple
from wlcg_isolate.errors import PolicyError
from wlcg_isolate.host import (
    HostFacts,
    ImageFact,
    PathFact,
    TargetFact,
    config_of,
    paths_to_look_at,
    trace_candidates,
    workdir_of,
)
from wlcg_isolate.host.dump import load
from wlcg_isolate.images.catalogue import Candidate, candidates
from wlcg_isolate.plan import Plan, make_plan
from wlcg_isolate.policy import Policy
from wlcg_isolate.policy.settle import settle
from wlcg_isolate.request import Request

_DIRECTORIES = ("/tmp", "/var/tmp", "/cvmfs")

_SUFFIXES = {".sif": "sif", ".sqfs": "squashfs", ".squashfs": "squashfs"}


def _texts(value: Iterable[str]) -> tuple[str, ...]:
    # One pattern by itself is a list of one, not of its letters.
    return (value,) if isinstance(value, str) else as_tuple(value)


@attrs.frozen(kw_only=True)
class Node:
    """
    A worker node that a test plans on.

    Patterns are those of `fnmatch`; ``*`` also stands for what holds ``/``.

    Attributes:
        name: What it is called.

        about: One sentence on what kind of node it is.

        facts: What was read of it.

        images: Patterns of the images that are there.

        directories: Patterns of directories that are there, beside those in
            *facts*.

        files: The same of files.

        missing: Patterns of what is not there, whatever else says so.
    """

    name: str
    about: str
    facts: HostFacts
    images: tuple[str, ...] = attrs.field(default=("*",), converter=_texts)
    directories: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    files: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    missing: tuple[str, ...] = attrs.field(default=(), converter=_texts)

    def plan(self, request: Request, policy: Policy) -> Plan:
        """
        Plan for this node.

        Raises:
            PlanError: With every reason why there is no isolated way.
        """
        return make_plan(request, policy, self.facts_for(request, policy))

    def facts_for(self, request: Request, policy: Policy) -> HostFacts:
        """
        Return what would be read of this node for *request*.
        """
        facts = self.facts
        config, file = config_of(facts.runtimes)
        # A plan settles again, and reports what is wrong together with all else.
        with contextlib.suppress(PolicyError):
            policy = settle(policy, request, facts.environ, config, file)
        trace_dirs = trace_candidates(policy, facts.environ, facts.uid)
        own = {workdir_of(request, facts.cwd), request.trace_dir, *trace_dirs}
        asked = paths_to_look_at(request, policy, facts.cwd, facts.environ, facts.uid)
        wanted = dict.fromkeys([*asked, *(path for path in own if path is not None), *facts.paths])
        paths = {path: self._look(path, own=path in own) for path in wanted}
        image = self._image(request, policy)
        if image is not None:
            paths[image.root.path] = image.root

        return attrs.evolve(facts, paths=paths, image=image)

    def _look(self, path: str, *, own: bool) -> PathFact:
        gone = PathFact(path=path, state="missing", reason="No such file or directory")
        if _matches(path, self.missing):
            return gone
        if _matches(path, self.files):
            return _there(path, "file")
        if own or _matches(path, self.directories):
            return _there(path, "directory")

        return self.facts.paths.get(path, gone)

    def _image(self, request: Request, policy: Policy) -> Optional[ImageFact]:
        places, _ = candidates(request.image, request.platform, policy, self.facts.machine)
        looks = [self._look_at_image(place, request, policy, number) for number, place in enumerate(places)]
        if not looks:
            return None
        taken = next((look for look in looks if look.root.present and look.candidate in _usable(places)), looks[0])

        return attrs.evolve(taken, others=tuple(look for look in looks if look is not taken))

    def _look_at_image(self, place: Candidate, request: Request, policy: Policy, number: int) -> ImageFact:
        requested = request.image or request.platform or ""
        if place.source == "image.pull":
            root = PathFact(path=place.path, state="present", resolved=place.path, readable=True)
            return ImageFact(requested=requested, root=root, form="uri", candidate=place, number=number)
        if not _matches(place.path, self.images) or _matches(place.path, self.missing):
            root = PathFact(path=place.path, state="missing", reason="No such file or directory")
            return ImageFact(requested=requested, root=root, candidate=place, number=number)
        form = next((form for suffix, form in _SUFFIXES.items() if place.path.endswith(suffix)), "tree")
        root = attrs.evolve(_there(place.path, "directory" if form == "tree" else "file"), writable=False)
        inside = dict.fromkeys((policy.container_workdir, *_DIRECTORIES), "directory")

        return ImageFact(
            requested=requested,
            root=root,
            form=form,
            machine=place.architecture or self.facts.machine,
            targets={path: _target(path, kind) for path, kind in {**inside, "/bin/sh": "file"}.items()},
            candidate=place,
            number=number,
        )


def _usable(places: Iterable[Candidate]) -> tuple[Candidate, ...]:
    return tuple(place for place in places if place.usable)


def _there(path: str, kind: str) -> PathFact:
    return PathFact(path=path, state="present", kind=kind, resolved=path, readable=True, writable=True)


def _target(path: str, kind: str) -> TargetFact:
    return TargetFact(path=path, kind=kind, resolves_to=path)


def _matches(path: str, patterns: Iterable[str]) -> bool:
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in patterns)


def node_names() -> tuple[str, ...]:
    """
    List the nodes that the package brings.
    """
    files = (resources.files("wlcg_isolate.testing") / "nodes").iterdir()

    return tuple(sorted(file.name[: -len(".json")] for file in files if file.name.endswith(".json")))


def load_node(
    name: str = "el9-userns-apptainer",
    *,
    environ: Optional[Mapping[str, str]] = None,
    images: Iterable[str] = ("*",),
    directories: Iterable[str] = (),
    files: Iterable[str] = (),
    missing: Iterable[str] = (),
) -> Node:
    """
    Take one of the nodes that the package brings.

    Args:
        name: One of `node_names`.

        environ: The pilot's environment there; what the node's has beside
            these variables stays, with its values removed.

        images: Patterns of the images that are there; all, when none are
            named.

        directories: Patterns of directories that are there as well.

        files: The same of files.

        missing: Patterns of what is not there, whatever else says so.

    Raises:
        ValueError: There is no such node.

        HostError: Its facts cannot be read.
    """
    if name not in node_names():
        msg = f"there is no node {name!r}; there are: {', '.join(node_names())}"
        raise ValueError(msg)
    text = (resources.files("wlcg_isolate.testing") / "nodes" / f"{name}.json").read_text(encoding="utf-8")
    data = json.loads(text)
    facts = load(data["facts"], name)

    return Node(
        name=name,
        about=data["about"],
        facts=attrs.evolve(facts, environ={**facts.environ, **(environ or {})}),
        images=images,
        directories=directories,
        files=files,
        missing=missing,
    )
