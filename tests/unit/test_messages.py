"""
The messages of the runtimes, as users reported them, become the cause and the cure.
"""

from __future__ import annotations

import pytest

from wlcg_isolate import classify
from wlcg_isolate._kinds import KINDS
from wlcg_isolate._messages import cause_of, is_known

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


@pytest.mark.parametrize(
    ("line", "expected"),
    [("FATAL:   could not open image /x", True), ("FATAL:   the payload's own words", False)],
)
def test_known(line, expected):
    """A guess is made for messages of the table only: payloads print FATAL, too."""
    assert expected == is_known(line)
