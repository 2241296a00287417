"""
The messages of the runtimes, as users reported them, become the cause and the cure.
"""

from __future__ import annotations

import re

import pytest
from hypothesis import given, strategies as st

from wlcg_isolate import classify
from wlcg_isolate._kinds import KINDS
from wlcg_isolate._messages import cause_of, looks_like_failure
from wlcg_isolate._wordings import WORDINGS

#: Message, kind, a word of the advice.  From the issue named, or seen with Apptainer 1.4.5 where none is.
MESSAGES = [
    # apptainer#2455
    ("ERROR  : Failed to create container process: No space left on device", "user-namespaces-disabled", "sysctl"),
    # apptainer#1294
    (
        "ERROR  : Failed to create mount namespace: mount namespace requires privileges, check Apptainer installation",
        "runtime-privileges",
        "rights",
    ),
    # singularity#415
    (
        "ERROR  : Failed invoking the NEWUSER namespace runtime: Invalid argument",
        "user-namespaces-disabled",
        "max_user_namespaces",
    ),
    # bubblewrap#764
    (
        "FATAL:   Creating new namespace failed: nesting depth or /proc/sys/user/max_user_namespaces exceeded (ENOSPC)",
        "user-namespaces-exhausted",
        "raise",
    ),
    # singularity#5757
    ("FATAL:   Couldn't determine user account information: user: unknown userid 551", "user-unknown", "getent"),
    (
        "ERROR  : Failed to create user namespace: requires to set /proc/sys/kernel/unprivileged_userns_clone to 1",
        "user-namespaces-disabled",
        "unprivileged_userns_clone=1",
    ),
    # apptainer#2457
    (
        (
            "ERROR  : Could not write info to setgroups: Permission denied\n"
            "ERROR  : Error while waiting event for user namespace mappings: no event received"
        ),
        "user-namespaces-disabled",
        "AppArmor",
    ),
    # DIRAC#7166
    (
        (
            "FATAL:   container creation failed: mount hook function failure: mount proc->/proc error: while mounting "
            "proc: can't mount proc filesystem to /proc: operation not permitted"
        ),
        "pid-namespace-unavailable",
        "systempaths=unconfined",
    ),
    # singularity#890
    (
        "ERROR  : There was an error binding the path /share/PI: Too many levels of symbolic links",
        "cvmfs-broken",
        "cvmfs_config",
    ),
    # cvmfs#3512
    (
        "FATAL:   could not open image /cvmfs/x/y: lstat /cvmfs/x: transport endpoint is not connected",
        "cvmfs-broken",
        "umount",
    ),
    # apptainer#949
    (
        "FATAL:   image driver mount failure: squashfuse_ll failed to mount /var/apptainer/mnt/session/rootfs in 2s",
        "image-slow",
        "try again",
    ),
    (
        "FATAL:   squashfuse_ll exited: Something went wrong trying to read the squashfs image.",
        "image-unusable",
        "checksum",
    ),
    (
        "FATAL:   squashfuse_ll exited: fuse: device /dev/fuse not found, try 'modprobe fuse' first",
        "fuse-unavailable",
        "/dev/fuse",
    ),
    # singularity#3939
    (
        "FATAL:   while extracting x.sif: extraction failed: write /tmp/archive-1: no space left on device",
        "no-space",
        "TMPDIR",
    ),
    # peppy#337
    ("FATAL:   while extracting x.sif: write /tmp/rootfs-1: disk quota exceeded", "no-space", "TMPDIR"),
    # apptainer#3792
    (
        "FATAL:   While checking image: the image's architecture (arm64) could not run on the host's (amd64)",
        "image-unusable",
        "architecture",
    ),
    # chainguard-images/images#1658
    ("Fatal glibc error: CPU does not support x86-64-v2", "cpu-too-old", "newer processor"),
    # conda-docker#11
    ("FATAL: kernel too old", "kernel-too-old", "newer kernel"),
    # gwms#250
    (
        (
            "WARNING: No layer in use (overlay or underlay), check your configuration, Apptainer can't create /hadoop\n"
            "FATAL:   mount /hadoop->/hadoop error: destination /hadoop doesn't exist in container"
        ),
        "bind-failed",
        "enable overlay",
    ),
    # runtimes: configuration that forbids
    (
        "FATAL:   container creation failed: configuration disallows users from running sandbox containers",
        "runtime-forbids",
        "allow container",
    ),
    ("ERROR  : Requesting capability set 0x1 while permitted capability set is 0x0", "runtime-privileges", "rights"),
    ('Error for command "exec": unknown flag: --no-eval', "runtime-option", "1.1"),
    # Singularity 2.6.1
    ("ERROR: Unknown option: --no-eval", "runtime-option", "1.1"),
    ("ERROR  : Image path /x doesn't exist: No such file or directory", "image-unusable", "image"),
    ("ERROR  : Unknown image format/type: /x.sif", "image-unusable", "image"),
    (
        "FATAL:   container creation failed: multiple devpts instances unsupported and /dev/pts configured",
        "runtime-failed",
        "devpts",
    ),
    ("FATAL:   nobody has seen this before", "runtime-failed", "words"),
]


@pytest.mark.parametrize(("text", "kind", "word"), MESSAGES, ids=[text[:48] for text, _, _ in MESSAGES])
def test_cause(text, kind, word):
    """Each message has its cause, in a word that programs can act on, and the cure in one for people."""
    problem = cause_of(text)

    assert (kind, True) == (problem.kind, word in problem.advice), problem.advice
    assert text.splitlines()[-1][:40] in problem.message


def test_no_space_is_explained():
    """The misleading words of the kernel are put right."""
    message = cause_of("ERROR  : Failed to create container process: No space left on device").message

    assert "not about a disk" in message


@pytest.mark.parametrize("text", ["", "\n\n", "just words\n"])
def test_no_message(text):
    """A runtime that said nothing useful failed for no known reason."""
    assert "runtime-failed" == cause_of(text).kind


def test_colours():
    """Colours are taken off before anything is read."""
    problem = cause_of(b"\x1b[31mFATAL:  \x1b[0m could not open image /x: \xff")

    assert ("image-unusable", False) == (problem.kind, "\x1b" in str(problem))


@pytest.mark.parametrize(("text", "kind", "word"), MESSAGES, ids=[text[:48] for text, _, _ in MESSAGES])
def test_classify_agrees(text, kind, word):
    """Callers that start processes themselves get the same words."""
    outcome = classify(255, text, started=False)

    assert (False, kind, KINDS[kind].retry) == (outcome.started, outcome.kind, outcome.retry)


UNPACKING = """\
INFO:    Converting SIF file to temporary sandbox...
FATAL:   while extracting /x.sif: root filesystem extraction failed: extract command failed: WARNING: Skipping mount
WARNING: Error changing the container working directory. Using '/' instead: chdir /root: no such file or directory

Write on output file failed because No space left on device

FATAL ERROR: writer: failed to write file /image/root/usr/bin/busybox
301 inodes (33 blocks) to write

: exit status 1
"""

UNKNOWN_OPTION = """\
Error for command "exec": unknown flag: --nosuch

Options for exec command:

      --add-caps string               a comma separated capability list to add
Run 'apptainer --help' for more detailed usage information.
"""

#: What the bare runtime prints and ends with, and its kind.  Seen with Apptainer 1.4.5, or of the version named.
WHOLE = {
    "unpacking": (255, UNPACKING, "no-space"),
    "option": (1, UNKNOWN_OPTION, "runtime-option"),
    "no unsquashfs": (
        255,
        'FATAL:   while extracting /x.sif: exec: "unsquashfs": executable file not found in $PATH',
        "image-unusable",
    ),
    "no user namespaces": (
        1,
        ("INFO   : A system administrator may need to enable user namespaces, install\n"
        "INFO   :   apptainer-suid, or compile with ./mconfig --with-suid\n"
        "\x1b[91mERROR  : Failed to create user namespace: maximum number of user namespaces exceeded, check "
        "/proc/sys/user/max_user_namespaces\n\x1b[0m"),
        "user-namespaces-disabled",
    ),
    "not found": (255, 'FATAL:   "nosuch": executable file not found in $PATH', "command-not-found"),
    "no such path": (255, "FATAL:   stat /nosuch/x: no such file or directory", "command-not-found"),
    "not executable": (255, "FATAL:   permission denied", "command-not-executable"),
    "directory": (255, "FATAL:   is a directory", "command-not-executable"),
    "interpreter": (
        255,
        "FATAL:   exec /mnt/s failed: fork/exec /mnt/s: no such file or directory",
        "command-not-executable",
    ),
    "shared library": (
        255,
        "FATAL:   exec /mnt/s failed: a shared library is likely missing in the image",
        "command-not-executable",
    ),
    "directory to start in": (
        255,
        "FATAL:   failed to set working directory: chdir /nosuchdir: no such file or directory",
        "runtime-failed",
    ),
    "empty image": (
        255,
        ("FATAL:   container creation failed: mount hook function failure: mount /dev->/dev error: "
        "while mounting /dev: destination /dev doesn't exist in container"),
        "image-unusable",
    ),
    "too large": (255, "FATAL:   engine configuration too big > 1048448", "argument-undeliverable"),
    # Singularity 2.6.1
    "2.6 loop": (255, "ERROR  : No more available loop devices, try increasing it\nABORT  : Retval = 255",
                 "loop-devices-exhausted"),
    "2.6 forbids": (
        255,
        "ERROR  : Configuration disallows users from running directory based containers\nABORT  : Retval = 255",
        "runtime-forbids",
    ),
    # all from 3.1
    "3 loop": (
        255,
        ("FATAL:   container creation failed: mount error: can't mount image: failed to find loop device: "
        "could not attach image file to loop device: no loop devices available"),
        "loop-devices-exhausted",
    ),
    "superblock": (
        255,
        "FATAL:   container creation failed: squashfs image partition contains a bad superblock (corrupted image ?)",
        "image-unusable",
    ),
    # SingularityCE 4.1
    "FUSE command": (255, 'FATAL:   FUSE mount command "squashfuse_ll" returned non-zero exit code (1)',
                     "fuse-unavailable"),
}  # fmt: skip


@pytest.mark.parametrize(("status", "text", "kind"), WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("started", [None, False], ids=["guessed", "known"])
def test_whole_output(status, text, kind, started):
    """All that a runtime printed, and its exit status, are enough to name the cause."""
    outcome = classify(status, text, started)

    assert (False, kind, KINDS[kind].failed_by) == (outcome.started, outcome.kind, outcome.failed_by)


@pytest.mark.parametrize(("status", "text", "kind"), WHOLE.values(), ids=WHOLE)
def test_same_words_of_a_payload(status, text, kind):
    """The same words are the payload's when it goes on, ends otherwise, or is known to have started."""
    assert not looks_like_failure(status, f"{text}\ncleaning up") or kind == "runtime-option"
    assert not any(looks_like_failure(other, text) for other in (0, 2, 3, 126, 127, 137, 254))
    assert classify(status, text, started=True).failed_by == "payload"


def test_command_is_the_runtimes_own():
    """Where the runtime starts something of the library's, its words are not about the payload's command."""
    text = "FATAL:   stat /bin/sh: no such file or directory"

    assert ("runtime-failed", "command-not-found") == (cause_of(text).kind, cause_of(text, command=True).kind)


@pytest.mark.parametrize("wording", WORDINGS, ids=[f"{w.kind}-{i}" for i, w in enumerate(WORDINGS)])
def test_table(wording):
    """Every row has a known kind, a pattern that takes no whole text, a source, a cause and a cure."""
    assert wording.kind in KINDS
    assert re.compile(wording.pattern).search("") is None
    assert all((wording.source, wording.cause, wording.advice))


#: Lines that payloads print; some look like a runtime's.
LINE = st.one_of(
    st.text(max_size=80),
    st.sampled_from(
        ["FATAL: cannot open file", "FATAL:   out of memory", "ERROR: job failed", "Operation not permitted",
         "INFO:    done", "\x1b[31mFATAL:  \x1b[0m wrong", "ABORT : core", "Traceback (most recent call last):"]
    ),
    st.sampled_from([text for text, _, _ in MESSAGES]),
)  # fmt: skip


@given(status=st.integers(-64, 255), lines=st.lists(LINE, max_size=8))
def test_nothing_that_a_started_payload_prints_counts(status, lines):
    """Where it is known that the payload started, no text makes it a failure of the runtime."""
    outcome = classify(status, "\n".join(lines), started=True)

    assert (True, None if status == 0 else "payload") == (outcome.started, outcome.failed_by)


@given(status=st.integers(-64, 255), lines=st.lists(LINE, max_size=8), last=st.text(min_size=1, max_size=30))
def test_guess(status, lines, last):
    """Where it is not known, only a runtime's own exit statuses and a known failure at the end count."""
    text = "\n".join(lines)
    outcome = classify(status, text)
    if status not in (1, 255):
        assert outcome.started
    if not any(message.splitlines()[-1] in text for message, _, _ in MESSAGES):
        assert outcome.started
    # What follows, other than a runtime's chatter, is from a payload that lives.
    if last.isalpha():
        assert classify(status, f"{text}\n{last}").started or "Error for command" in text


@given(text=st.binary(max_size=300), status=st.integers(-64, 255), started=st.sampled_from([None, True, False]))
def test_anything(text, status, started):
    """Any bytes give an outcome with a known kind in a message that fits a line."""
    outcome = classify(status, text, started)

    assert outcome.kind in KINDS
    assert outcome.message.isprintable()
