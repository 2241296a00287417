"""
The look at an image: where its reference leads, and what is there.

Rule: one place after the other is looked at, until one is found that runs on
this node.  Which one is taken, and why not the others, is decided by
`wlcg_isolate.fitness` on the facts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

import attrs

from wlcg_isolate._values import is_below
from wlcg_isolate.host.facts import RUNTIME_SCRIPTS, ImageFact, PathFact, RuntimeFact
from wlcg_isolate.host.rootfs import look_inside
from wlcg_isolate.host.runtimes import RUNTIME_ENVIRON
from wlcg_isolate.host.touch import look_at, within
from wlcg_isolate.images.catalogue import Candidate, candidates
from wlcg_isolate.images.contents import locales, read_contents
from wlcg_isolate.images.fault import ImageFault
from wlcg_isolate.images.identify import Opened, open_image
from wlcg_isolate.images.misfit import Node, misfits
from wlcg_isolate.images.places import misplaced
from wlcg_isolate.images.rootfs import look_up
from wlcg_isolate.images.tree import Entry, Tree
from wlcg_isolate.policy import Policy
from wlcg_isolate.request import Request
from wlcg_isolate.variables import may_pass, paths_of_interest

#: How the name of a descriptor ends.
_DESCRIPTOR = ".image.json"

#: Forms that the runtime can make a container of.
RUNNABLE = ("tree", "sif", "squashfs")


class _On(NamedTuple):
    """
    What an image must fit: the node, and where images may be.
    """

    node: Node
    policy: Policy
    paths: Mapping[str, PathFact]

    def resolved(self, path: str) -> str:
        """
        Follow the links of a path, as far as that is known.
        """
        fact = self.paths.get(path)

        return path if fact is None or fact.resolved is None else fact.resolved


def look_at_image(
    request: Request,
    policy: Policy,
    node: Node,
    *,
    paths: Mapping[str, PathFact],
    workdir: Optional[str] = None,
    runtimes: Sequence[RuntimeFact] = (),
    prove: bool = True,
) -> Optional[ImageFact]:
    """
    Look at the image that *request* names, and into it.

    Args:
        request: What the pilot asks.

        policy: What holds here.

        node: What the image must fit.

        paths: Looks at other paths, those of ``image.allowed_roots`` among
            them.

        workdir: Where image files would be unpacked.

        runtimes: The runtimes of this node; one checks signatures in a SIF.

        prove: Whether to verify an image file as policy asks.

    Returns:
        The look at what is to be taken, or at what comes nearest, with all
        others; None when there is no place to look at.
    """
    on = _On(node, policy, paths)
    looks: list[ImageFact] = []
    places, _ = candidates(request.image, request.platform, policy, node.machine)
    todo = list(reversed(places))
    while todo:
        place = todo.pop()
        fact, inner = _look(place, request, policy)
        looks.append(attrs.evolve(fact, number=len(looks)))
        todo += reversed(inner)
        if place.usable and _is_enough(fact, on):
            break
    if not looks:
        return None
    best = _best(looks, on)
    others = tuple(look for look in looks if look is not best)
    if best.form in ("sif", "squashfs", "ext3") and best.root.resolved is not None:
        best = _of_file(best, policy, policy.runtime_tmpdir or workdir)
        if prove and best.fault is None:
            from wlcg_isolate.host.proving import prove_image

            best = attrs.evolve(best, proof=prove_image(best, request, policy, runtimes))

    return attrs.evolve(best, others=others)


def _best(looks: list[ImageFact], on: _On) -> ImageFact:
    """
    Choose what comes nearest: what is enough, what is there, what was asked for.
    """

    def worth(look: ImageFact) -> tuple[bool, bool, bool]:
        usable = look.candidate is None or look.candidate.usable
        return usable and _is_enough(look, on), usable and look.root.present, usable

    return max(looks, key=worth)


def _is_enough(fact: ImageFact, on: _On) -> bool:
    if fact.form == "uri":
        return True
    if fact.fault is not None or fact.form not in RUNNABLE or fact.contents is None or fact.root.resolved is None:
        return False

    return (
        not any(misplaced(fact.root.resolved, "", on.policy, on.resolved))
        and fact.contents.shell
        and not any(misfits(fact.root.path, fact.contents, on.node))
    )


def _look(place: Candidate, request: Request, policy: Policy) -> tuple[ImageFact, list[Candidate]]:
    """
    Look at one place.

    Returns:
        The look, and the places that a descriptor there names.
    """
    requested = request.image or request.platform or ""
    empty = ImageFact(requested=requested, root=PathFact(path=place.path, state="present"), candidate=place)
    if place.source == "image.pull":
        return attrs.evolve(empty, form="uri", root=attrs.evolve(empty.root, resolved=place.path, readable=True)), []
    seconds = policy.touch_seconds(place.path)
    found = within(seconds, lambda: _look_into(place, empty, request, policy))
    if found is None:
        silent = PathFact(path=place.path, state="no-answer", reason=f"no answer within {seconds:g} s")
        return attrs.evolve(empty, root=silent), []

    return found


def _look_into(
    place: Candidate, empty: ImageFact, request: Request, policy: Policy
) -> tuple[ImageFact, list[Candidate]]:
    root = look_at_place(place.path, policy.cvmfs_root)
    fact = attrs.evolve(empty, root=root)
    if not root.present or not root.readable or root.resolved is None:
        return fact, []
    if place.path.endswith(_DESCRIPTOR) and root.kind == "file":
        return _read_descriptor(fact, place, policy)
    try:
        with open_image(root.resolved) as opened:
            return _read(fact, opened, request, policy), []
    except OSError as e:
        reason = e.strerror or str(e)
        return attrs.evolve(fact, root=attrs.evolve(root, readable=False, reason=reason)), []


def _read(fact: ImageFact, opened: Opened, request: Request, policy: Policy) -> ImageFact:
    fact = attrs.evolve(
        fact,
        form=opened.form,
        note=opened.note,
        size=opened.size,
        inodes=opened.inodes,
        label=opened.label,
        fault=None if opened.fault is None else (opened.fault.kind, opened.fault.reason),
    )
    if opened.root is None:
        return fact
    root = opened.root
    try:
        contents = read_contents(root)
    except ImageFault as fault:
        return attrs.evolve(fact, fault=(fault.kind, fault.reason))
    except OSError as e:
        # Of the image's making: what is wrong with /bin/sh is told as that.
        contents = None
        fact = attrs.evolve(fact, note=e.strerror or str(e))
    wanted = dict.fromkeys(
        (
            "/bin/sh",
            policy.container_workdir,
            "/tmp",
            "/var/tmp",
            *RUNTIME_SCRIPTS,
            *(bind.target for bind in (*policy.bind_default, *request.binds)),
            *paths_of_interest(os.environ, request, policy),
        )
    )

    return attrs.evolve(
        fact,
        contents=contents,
        machine=None if contents is None else contents.machine,
        targets={path: look_inside(root, path) for path in wanted},
        locales=tuple(locales(root)) if _wants_locales(request, policy) else None,
    )


def _wants_locales(request: Request, policy: Policy) -> bool:
    """
    Tell whether a variable may pass that names a locale.
    """
    names = [name for name in os.environ if name in ("LANG", "LANGUAGE") or name.startswith("LC_")]

    return any(may_pass(name, request, policy) for name in names)


class _MovedCvmfs(Tree):
    """
    The host's tree, with CVMFS elsewhere than links say.
    """

    def __init__(self, cvmfs_root: str) -> None:
        super().__init__("/")
        self._cvmfs_root = cvmfs_root

    def goal(self, node: Entry) -> str:
        """
        Read where a link points to, on this node.
        """
        goal = super().goal(node)

        return self._cvmfs_root + goal[len("/cvmfs") :] if is_below(goal, "/cvmfs") else goal


def look_at_place(path: str, cvmfs_root: str) -> PathFact:
    """
    Look at a path, following links as CVMFS is mounted on this node.
    """
    if cvmfs_root == "/cvmfs":
        return look_at(path)
    try:
        resolved = look_up(_MovedCvmfs(cvmfs_root), path).path
    except OSError as e:
        return PathFact(path=path, state="unreadable", reason=e.strerror or str(e))

    return attrs.evolve(look_at(resolved), path=path)


def _read_descriptor(fact: ImageFact, place: Candidate, policy: Policy) -> tuple[ImageFact, list[Candidate]]:
    from wlcg_isolate.host import signature
    from wlcg_isolate.images import sums

    path = fact.root.resolved or place.path
    fact = attrs.evolve(fact, form="descriptor")
    try:
        with open(path, "rb") as f:
            data = f.read(sums.MOST_LIST)
        read = sums.parse_descriptor(data)
        signature.check_list(path, data, policy.image_signature_keys, policy.touch_seconds(path))
    except ImageFault as fault:
        return attrs.evolve(fact, fault=(fault.kind, fault.reason)), []
    except OSError as e:
        return attrs.evolve(fact, fault=("image-unreadable", e.strerror or str(e))), []
    forms = list(sums.forms_of(os.path.dirname(path), read, policy.image_prefer))
    inner = [attrs.evolve(place, path=form, source="descriptor") for form in forms]

    return attrs.evolve(fact, note=f"it names {', '.join(forms)}"), inner


def _of_file(fact: ImageFact, policy: Policy, workdir: Optional[str]) -> ImageFact:
    """
    Add what a plan needs to know of a node that must unpack an image file.
    """
    room = None if workdir is None else within(policy.touch_seconds(workdir), lambda: _room(workdir))
    import shutil

    search = f"{RUNTIME_ENVIRON['PATH']}:{os.environ.get('PATH', '')}"

    return attrs.evolve(fact, room=room, unsquashfs=shutil.which("unsquashfs", path=search))


def _room(path: str) -> Optional[int]:
    try:
        found = os.statvfs(path)
    except OSError:
        return None

    return found.f_bavail * found.f_frsize
