"""
What was read of a node, as plain frozen values.

A dump of these is enough to plan for that node on another machine.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Optional

import attrs

from wlcg_isolate._values import as_mapping, as_tuple
from wlcg_isolate.host.nodefacts import NodeFacts
from wlcg_isolate.images.catalogue import Candidate
from wlcg_isolate.images.contents import Contents
from wlcg_isolate.images.digests import Proof


@functools.lru_cache(maxsize=4096)
def straight_way(path: str) -> tuple[tuple[str, str], ...]:
    """
    List the places on the way to a normal path, each with the rest of it.
    """
    parts = path[1:].split("/")

    return tuple(("/" + "/".join(parts[:i]), "/".join(parts[i:])) for i in range(1, len(parts) + 1))


@attrs.frozen(kw_only=True)
class PathFact:
    """
    What one look at one path said.

    Attributes:
        path: The path as asked for.

        state: ``"present"``, ``"missing"``, ``"unreadable"`` (it cannot be
            told, for lack of rights or an I/O error) or ``"no-answer"``.

        kind: ``"directory"``, ``"file"``, ``"other"``, or None.

        resolved: The path with all links followed as far as it exists, or
            None when it cannot be told.

        is_link: Whether the path itself is a symbolic link.

        readable: Whether this user may read (and enter) it.

        writable: Whether this user may write it.

        reason: The system's words when *state* is not ``"present"``.
    """

    path: str
    state: str
    kind: Optional[str] = None
    resolved: Optional[str] = None
    is_link: bool = False
    readable: bool = False
    writable: bool = False
    reason: str = ""

    @property
    def present(self) -> bool:
        """
        Whether there is something at the path.
        """
        return self.state == "present"


#: Where an image keeps scripts that the runtime runs before each command, and
#: the one after which it sets the variables that it was given.
RUNTIME_SCRIPTS = ("/.singularity.d/env", "/.singularity.d/env/99-base.sh")


@attrs.frozen(kw_only=True)
class TargetFact:
    """
    What a path is *inside* an image's own root.

    Attributes:
        path: The path as seen from inside.

        kind: ``"directory"``, ``"file"``, ``"other"``, or None when nothing
            is there.

        resolves_to: The path inside the root with all links followed.

        reason: Why it could not be told, or "".

        trail: The places that the way to it passes, in their order, each
            with what is left of the path there: a bind at one of them leads
            the rest of the way out of the image.
    """

    path: str
    kind: Optional[str] = None
    resolves_to: Optional[str] = None
    reason: str = ""
    trail: tuple[tuple[str, str], ...] = attrs.field(default=(), converter=as_tuple, eq=False)

    @property
    def way(self) -> tuple[tuple[str, str], ...]:
        """
        The *trail*, or what it is in an image without links.
        """
        return self.trail or straight_way(self.path)


@attrs.frozen(kw_only=True)
class ImageFact:
    """
    What was found where an image should be.

    Attributes:
        requested: The reference as the pilot gave it.

        root: The look at its path.

        form: ``"tree"``, ``"sif"``, ``"squashfs"``, ``"ext3"``, ``"uri"``,
            ``"descriptor"``, ``"unknown"``, or None when there is nothing to
            look at.

        machine: Architecture of ``/bin/sh`` by its ELF header (`os.uname`
            spelling), or None when it cannot be told.

        targets: Paths looked up inside, by path.

        locales: Locales that the image has beside C and POSIX; None when
            nobody asked, or it cannot be told.

        candidate: The place that was looked at, and who named it.

        contents: What is inside, as far as it was read.

        fault: Kind and words of what is wrong with the image, or None.

        note: What else there is to say of it.

        size: Bytes of an image file.

        inodes: Files and directories in an image file.

        label: Architecture that a SIF's label claims.

        proof: Whether an image file is the right one.

        unsquashfs: Program that can unpack an image file, or None.

        room: Bytes free where an image file would be unpacked, or None.

        others: What else was looked at; none of them was taken.

        number: When it was looked at, counted from 0.
    """

    requested: str
    root: PathFact
    form: Optional[str] = None
    machine: Optional[str] = None
    targets: Mapping[str, TargetFact] = attrs.field(factory=dict, converter=as_mapping)
    locales: Optional[tuple[str, ...]] = attrs.field(default=None, converter=as_tuple)
    candidate: Optional[Candidate] = None
    contents: Optional[Contents] = None
    fault: Optional[tuple[str, str]] = None
    note: str = ""
    size: Optional[int] = None
    inodes: Optional[int] = None
    label: Optional[str] = None
    proof: Optional[Proof] = None
    unsquashfs: Optional[str] = None
    room: Optional[int] = None
    others: tuple[ImageFact, ...] = attrs.field(default=(), converter=as_tuple)
    number: int = 0


@attrs.frozen(kw_only=True)
class ProbeFact:
    """
    What happened when a runtime was really started, with an image that the
    library makes itself.

    Attributes:
        mode: In which mode it was started: ``"userns"`` or ``"setuid"``.

        start: ``"yes"`` (the payload ended with the status that it was made
            for, in namespaces of its own), ``"no"`` or ``"no-answer"``.

        kind: Kind of problem when *start* is not ``"yes"``, or None.

        reason: The cause when *start* is not ``"yes"``, or "".

        advice: What mends it, or "".

        layer: What creates a target that the image lacks: ``"overlay"``,
            ``"underlay"`` or ``"none"``; None when it was not seen.

        pid_namespace: Whether the container can have PIDs of its own; None
            when it was not seen.

        nested: Whether a container inside this one could have a user
            namespace; None when it was not seen.

        method: How an image file was opened: ``"fuse"``, ``"kernel"`` or
            ``"unpacked"``; None for a tree.

        seconds: From the call to the payload's first instruction.

        starts: How many containers it took to find out.
    """

    mode: str
    start: str
    kind: Optional[str] = None
    reason: str = ""
    advice: str = ""
    layer: Optional[str] = None
    pid_namespace: Optional[bool] = None
    nested: Optional[bool] = None
    method: Optional[str] = None
    seconds: float = 0.0
    starts: int = 0


@attrs.frozen(kw_only=True)
class RuntimeFact:
    """
    What is known of one candidate for the runtime.

    Attributes:
        path: Absolute path of the program.

        verdict: ``"works"`` (it answered as a runtime does), ``"missing"``,
            ``"broken"``, ``"no-answer"``, or ``"unasked"`` when one before
            it is good enough.

        reason: Why it does not work, or "".

        banner: Its answer to ``--version``, first line.

        setuid: Whether it has a set-uid starter that can act as such.

        config_file: Path of its configuration file, or None when it is not
            known.

        config: What that file says: directive (``"bind path"``, ``"allow
            setuid"``, ...) to its values in their order.  A directive that
            the file leaves out is left out here; None when the file cannot
            be read.

        tree: The probe with a tree image, or None when there was none.

        file: The probe with a single-file image, or None.
    """

    path: str
    verdict: str
    reason: str = ""
    banner: str = ""
    setuid: bool = False
    config_file: Optional[str] = None
    config: Optional[Mapping[str, tuple[str, ...]]] = attrs.field(default=None, converter=as_mapping)
    tree: Optional[ProbeFact] = None
    file: Optional[ProbeFact] = None

    def allows(self, directive: str) -> bool:
        """
        Tell whether its configuration leaves a yes-or-no *directive* at yes.
        """
        return (self.config or {}).get(directive, ("yes",))[0] != "no"


@attrs.frozen(kw_only=True)
class HostFacts:
    """
    What a plan needs to know of a node.

    Attributes:
        hostname: Name of the node.

        machine: Architecture (`os.uname` spelling).

        kernel: Kernel release.

        uid: The user's number; the effective one.

        gid: The user's group number.

        cwd: Current directory of the pilot, or None when it is gone.

        environ: The pilot's environment.  Never in a repr: it holds secrets.

        runtimes: Candidates for the runtime, in order of preference.

        image: The image, or None when no reference led to a path.

        paths: One `PathFact` for each path that the request needs, by path.

        sysctl: Kernel limits by name, None where the kernel has no such.

        node: What else is known of the node, or None.

        loader_fault: Why the loader cannot be executed here, or None when it
            can.

        automounts: Where file systems are mounted on demand (autofs), and
            whether what is mounted there later also appears in a container
            that shows the place (the mount is shared).
    """

    hostname: str
    machine: str
    kernel: str
    uid: int
    gid: int
    cwd: Optional[str]
    environ: Mapping[str, str] = attrs.field(converter=as_mapping, repr=False)
    runtimes: tuple[RuntimeFact, ...] = attrs.field(converter=as_tuple)
    image: Optional[ImageFact] = None
    paths: Mapping[str, PathFact] = attrs.field(factory=dict, converter=as_mapping)
    sysctl: Mapping[str, Optional[str]] = attrs.field(factory=dict, converter=as_mapping)
    node: Optional[NodeFacts] = None
    loader_fault: Optional[str] = "nobody tried the loader"
    automounts: Mapping[str, bool] = attrs.field(factory=dict, converter=as_mapping)

    def resolved(self, path: str) -> str:
        """
        Return a path with all links followed, or itself when that is not known.
        """
        fact = self.paths.get(path)

        return path if fact is None or fact.resolved is None else fact.resolved


def config_of(runtimes: Iterable[RuntimeFact]) -> tuple[Mapping[str, tuple[str, ...]], Optional[str]]:
    """
    Return the configuration of the runtime that works, and its file.
    """
    for fact in runtimes:
        if fact.verdict == "works" and all(p is None or p.start == "yes" for p in (fact.tree, fact.file)):
            return fact.config or {}, fact.config_file

    return {}, None
