"""
What the messages of the runtimes mean, and what mends the cause.

Rule: text is read only when the runtime is known to have failed, or by a
caller who knows nothing better.  What a payload prints is never looked at
for a payload that did start.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Optional, Union

from wlcg_isolate.errors import Problem


class _Message(NamedTuple):
    """
    What a line that the runtime prints means.

    Attributes:
        kind: A key of `KINDS`.

        pattern: What the line looks like; compiled on use, for most pilots
            never see one.

        cause: The cause in plain words, or "" where the runtime's own are.

        advice: What mends it.
    """

    kind: str
    pattern: str
    cause: str
    advice: str


def _row(kind: str, pattern: str, cause: str, advice: str) -> _Message:
    return _Message(kind, pattern, cause, advice)


_APPARMOR = (
    "let the runtime's program have an AppArmor profile with 'userns,' (the packaged apptainer brings one), or: "
    "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
)

#: First match wins.  Each was seen with Apptainer 1.4.5, or is in the source
#: of the version or in the issue named.
_MESSAGES: tuple[_Message, ...] = (
    _row(
        "user-namespaces-disabled",
        # apptainer#2027, #2360, #2457, #2691
        r"Could not write info to setgroups: Permission denied"
        r"|Failed to create user namespace: Permission denied"
        r"|waiting event for user namespace mappings",
        "AppArmor restricts user namespaces to programs that have a profile (Ubuntu 23.10 and newer)",
        _APPARMOR,
    ),
    _row(
        "user-namespaces-disabled",
        r"unprivileged_userns_clone",
        "the kernel's setting kernel.unprivileged_userns_clone forbids user namespaces",
        "sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    _row(
        "network-unavailable",
        # Apptainer 1.4.5; sites that need no network namespaces are advised to set it to 0.
        r"Failed to create network namespace",
        "the kernel allows no more network namespaces",
        "sysctl -w user.max_net_namespaces=15000, or say isolation.network = 'host'",
    ),
    _row(
        "user-namespaces-exhausted",
        # bubblewrap#764: what the kernel calls "no space" counts namespaces; apptainer#1686
        r"nesting depth or /proc/sys/user/max_\S+ exceeded",
        "too many namespaces exist, or they are nested too deep; it is not about a disk",
        "raise user.max_user_namespaces, or do not nest containers",
    ),
    _row(
        "user-namespaces-disabled",
        # apptainer#2455, singularity#415
        r"Failed to create user namespace"
        r"|(?:create container process|NEWUSER namespace runtime|clone|unshare)[^\n]*: No space left on device"
        r"|NEWUSER namespace runtime|max_user_namespaces",
        "the kernel allows no more user namespaces; 'No space left on device' here is not about a disk",
        "sysctl -w user.max_user_namespaces=15000 (and in /etc/sysctl.d for the next boot)",
    ),
    _row(
        "runtime-privileges",
        # apptainer#1294: a build without its set-uid starter on EL7
        r"Requesting capability set|requires privileges|Failed to create mount namespace"
        r"|must be owned by root|not setuid root|nosuid",
        "the runtime lacks rights that it asks the kernel for",
        "check which rights the batch system or an outer container leaves to the pilot; a set-uid runtime works "
        "neither inside a user namespace nor from a file system mounted nosuid",
    ),
    _row(
        "user-unknown",
        # singularity#5757, #760; apptainer#2213
        r"Couldn't determine user account information|unknown userid",
        "the user has no entry in the node's user database; a directory service may be slow or down",
        "give the user an entry: 'getent passwd UID' must answer",
    ),
    _row(
        "pid-namespace-unavailable",
        # DIRAC#7166: the pilot itself runs in Docker or Kubernetes
        r"mount(?:ing)?[^\n]*\bproc\b[^\n]*(?:operation not permitted|permission denied)",
        "a new /proc may not be mounted here, since an outer container has masked its own",
        "start the outer container with systempaths=unconfined (Kubernetes: procMount: Unmasked)",
    ),
    _row(
        "image-slow",
        # apptainer#949, #1033: the first read of a large file on CVMFS
        r"failed to mount \S+ in \d+s",
        "the image file did not answer in the time that the runtime gives it",
        "try again: the next read is faster",
    ),
    _row(
        "image-unusable",
        r"Something went wrong trying to read the squashfs",
        "the image file is damaged or not whole",
        "fetch it anew and compare its checksum",
    ),
    _row(
        "fuse-unavailable",
        r"/dev/fuse|fuse: |squashfuse|fuse device",
        "FUSE cannot be used to mount the image file",
        "chmod 666 /dev/fuse (in an outer container: pass the device in), or use an unpacked tree",
    ),
    _row(
        "cvmfs-broken",
        # cvmfs#3512, #3992, #3151
        r"[Tt]ransport endpoint is not connected|software caused connection abort|Too many levels of symbolic links",
        "a network file system, mostly CVMFS or autofs, has lost its mount",
        "cvmfs_config probe; restart its client: cvmfs_config killall, or umount -l the dead mount",
    ),
    _row(
        "no-space",
        r"No space left on device|Disk quota exceeded|no space left|disk quota exceeded",
        "a disk or a quota is full",
        "free space where the runtime keeps temporary files, or let its TMPDIR point to another disk",
    ),
    _row(
        "runtime-forbids",
        r"configuration disallows",
        "the runtime's configuration forbids this form of image",
        "change the line 'allow container ...' in the runtime's configuration file",
    ),
    _row(
        "cpu-too-old",
        # chainguard-images/images#1658: EL9 needs x86-64-v2, EL10 x86-64-v3
        r"CPU does not support x86-64-v\d|CPU ISA level is lower than required",
        "the image's C library needs a newer processor than this node has",
        "use an image of an older system, or a node with a newer processor",
    ),
    _row(
        "kernel-too-old",
        # conda-docker#11
        r"kernel too old",
        "the image's C library needs a newer kernel than this node has",
        "use an image of an older system, or a node with a newer kernel",
    ),
    _row(
        "image-unusable",
        # apptainer#3792, cwl-utils#467
        r"image's architecture \(\S+\) could not run|[Ee]xec format error",
        "the image is made for another architecture than this node's",
        "use an image of the node's architecture",
    ),
    _row(
        "image-unusable",
        r"could not open image|image format not recognized|failed to retrieve path|image driver mount failure"
        r"|Unknown image format|Image path \S+ doesn't exist",
        "the runtime cannot open the image",
        "check the image: is it whole, readable and of a form that this runtime knows",
    ),
    _row(
        "bind-failed",
        r"No layer in use|doesn't exist in container",
        "a mount point is not in the image, and neither overlay nor underlay is there to create it",
        "set 'enable overlay = yes' or 'enable underlay = yes' in the runtime's configuration file",
    ),
    _row(
        "bind-failed",
        r"mount source .* doesn't exist|mount hook function failure|while mounting|mount point must contain"
        r"|destination must be|error binding the path",
        "a bind could not be mounted",
        "check that its source exists and can be read on this node",
    ),
    _row(
        "runtime-option",
        r"unknown (?:shorthand )?flag|Unknown option",
        "the runtime does not know an option",
        "install apptainer 1.1 or newer",
    ),
    _row(
        "runtime-failed",
        # Seen with Apptainer 1.4.5 in a container that has a bare /dev.
        r"multiple devpts instances unsupported",
        "the node's /dev/pts is no mounted devpts",
        "mount one: mount -t devpts devpts /dev/pts -o newinstance,ptmxmode=0666",
    ),
    _row("runtime-failed", r"^(FATAL|ERROR|ABORT) *:", "", "see the runtime's own words"),
)

#: The runtimes colour their messages also when they go to a file.
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
#: The runtimes are Go programs, and these may also come from a payload.
_CRASH = re.compile(r"(panic|fatal error): ", re.MULTILINE)
_SEVERE = re.compile(r"^(FATAL|ERROR|ABORT) *:|^Error for command", re.MULTILINE)

#: A message may hold paths of any length.
_MAX_WORDS = 1000


def plain(text: Union[str, bytes]) -> str:
    """
    Return what a runtime printed as text without colours.
    """
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text

    return _COLOUR.sub("", words)


def severe_lines(text: Union[str, bytes]) -> list[str]:
    """
    List the lines by which a runtime says that it failed.
    """
    return [line for line in plain(text).splitlines() if _SEVERE.match(line)]


def is_known(line: str) -> bool:
    """
    Tell whether a severe line is one of the table's, its catch-all aside.
    """
    return any(re.search(row.pattern, line) for row in _MESSAGES[:-1])


def cause_of(text: Union[str, bytes], origin: str = "the runtime") -> Problem:
    """
    Name the cause when the runtime is known to have failed.

    Args:
        text: What it printed.

        origin: For the problem.
    """
    severe = [line for line in plain(text).splitlines() if _SEVERE.match(line) or _CRASH.match(line)]
    words = " | ".join(severe or plain(text).split("\n")[-3:]).strip() or "it printed nothing"
    row = _row_for(words)
    if row is None:
        return Problem(kind="runtime-failed", message=words[:_MAX_WORDS], origin=origin, advice="try it by hand")
    message = f"{row.cause}: {words}" if row.cause else words

    return Problem(kind=row.kind, message=message[:_MAX_WORDS], origin=origin, advice=row.advice)


def _row_for(words: str) -> Optional[_Message]:
    return next((row for row in _MESSAGES if re.search(row.pattern, words)), None)
