"""
The closed list of words that say what went wrong, and what each one means.

Rules:

1. Every `Problem.kind` and every `Outcome.kind` is a key of `KINDS`; a word
   once published is never renamed.
2. A kind fixes who failed and where a retry makes sense, so that no caller
   has to read a message to decide.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Optional


class Kind(NamedTuple):
    """
    What one kind of failure means.

    Attributes:
        failed_by: ``"payload"``, ``"runtime"``, ``"policy"``, ``"timeout"``,
            ``"signal"`` or None for success.

        retry: ``"same-node"``, ``"other-node"``, ``"never"``, or None when
            only the owner of the payload can tell.

        meaning: One sentence for a person.
    """

    failed_by: Optional[str]
    retry: Optional[str]
    meaning: str


_NEVER = "never"
_OTHER = "other-node"
_SAME = "same-node"

KINDS: Mapping[str, Kind] = {
    # What the caller got wrong: the same everywhere.
    "usage": Kind("policy", _NEVER, "The command line could not be understood."),
    "request-invalid": Kind("policy", _NEVER, "The request is not readable or holds a value that is not allowed."),
    "facts-invalid": Kind("policy", _NEVER, "A dump of a node's facts is not readable or of another form."),
    "policy-invalid": Kind("policy", _NEVER, "A policy value or file is not readable or not allowed."),
    "policy-locked": Kind("policy", _NEVER, "A layer of policy sets a key that the site has locked."),
    "image-not-named": Kind("policy", _NEVER, "The request names neither an image nor a platform."),
    "image-unknown": Kind("policy", _NEVER, "Policy maps the image reference to no path."),
    "image-reference-invalid": Kind("policy", _NEVER, "The image reference cannot be read, or would lead elsewhere."),
    "image-unlisted": Kind("policy", _NEVER, "No checksum of the image file is known, and policy asks for one."),
    "image-list-invalid": Kind("policy", _NEVER, "A list of checksums cannot be read, or its signature is not valid."),
    "image-pull-refused": Kind(
        "policy", _NEVER, "The image reference is a URI; images are not pulled for each payload."
    ),
    "image-form-unsupported": Kind("policy", _NEVER, "The image is of a form that this version does not run."),
    "image-no-shell": Kind("policy", _NEVER, "The image holds no /bin/sh, which is to start the payload."),
    "gpu-not-allowed": Kind("policy", _NEVER, "Policy does not allow the GPUs that are asked for."),
    "timeout-too-long": Kind("policy", _NEVER, "The time limit asked for is above the one that policy sets."),
    "bind-target-forbidden": Kind("policy", _NEVER, "A bind would hide a part of the image that its system needs."),
    "bind-source-forbidden": Kind("policy", _NEVER, "A bind would show the payload what it must not see."),
    "bind-target-duplicate": Kind("policy", _NEVER, "Two required binds want the same target."),
    "bind-target-impossible": Kind("policy", _NEVER, "A required bind's target does not fit and cannot be created."),
    "bind-inexpressible": Kind("policy", _NEVER, "A path of a bind holds what the runtime cannot be told."),
    "storage-not-mapped": Kind(
        "policy", _NEVER, "A bind would show storage that tells users apart by the number that all payloads share."
    ),
    "variable-reserved": Kind("policy", _NEVER, "The request sets a variable that the library itself sets."),
    "variable-forbidden": Kind("policy", _NEVER, "The request asks for a host variable that never passes."),
    "variable-undeliverable": Kind("policy", _NEVER, "No way is known to deliver this variable unchanged."),
    "argument-undeliverable": Kind("policy", _NEVER, "No way is known to deliver this argument unchanged."),
    "credential-missing": Kind("policy", _OTHER, "A credential of the payload cannot be handed over."),
    "identity-unreadable": Kind("policy", _OTHER, "The proxy or token that tells the user's identity cannot be read."),
    "identity-unprotected": Kind(
        "policy", _OTHER, "The user's identity cannot be hashed or sealed as policy wants it."
    ),
    "trace-visible": Kind("policy", _NEVER, "The payload would see the trace directory."),
    "workdir-unsafe": Kind("policy", _NEVER, "The working directory is a system directory or holds a planted link."),
    "root-refused": Kind("policy", _OTHER, "The pilot is root, and policy refuses payloads of root."),
    "nesting-refused": Kind(
        "policy", _OTHER, "Policy forbids containers inside the container, which were asked for or cannot be prevented."
    ),
    "limit-unavailable": Kind("policy", _OTHER, "A limit that policy sets cannot be given on this node."),
    # What this node lacks: another node may have it.
    "job-unproven": Kind("policy", _OTHER, "No hook of HTCondor kept the job's ads, which the job itself may replace."),
    "image-missing": Kind("policy", _OTHER, "The image does not exist on this node."),
    "image-not-allowed": Kind("policy", _OTHER, "The image lies, or shows something, where policy forbids it."),
    "image-other-architecture": Kind("policy", _OTHER, "Policy names this image for other architectures only."),
    "image-unreadable": Kind("policy", _OTHER, "The image exists and cannot be read."),
    "image-corrupt": Kind("policy", _OTHER, "The image file is damaged or cut short."),
    "image-changed": Kind("policy", _SAME, "The image file was replaced after it was examined."),
    "image-digest-mismatch": Kind("policy", _OTHER, "The image file is not the one whose checksum is known."),
    "image-unverified": Kind("policy", _OTHER, "The image file could not be verified."),
    "image-processor-too-old": Kind("policy", _OTHER, "The image needs instructions that this processor lacks."),
    "image-kernel-too-old": Kind("policy", _OTHER, "The image's C library needs a newer kernel."),
    "image-needs-vsyscall": Kind("policy", _OTHER, "The image needs system calls that this kernel was told to refuse."),
    "image-cannot-be-mounted": Kind("policy", _OTHER, "This node can neither mount nor unpack the image file."),
    "image-no-answer": Kind("policy", _OTHER, "The file system of the image did not answer in time."),
    "image-wrong-architecture": Kind("policy", _OTHER, "The image is built for another processor architecture."),
    "workdir-missing": Kind("policy", _OTHER, "The working directory does not exist or is no directory."),
    "workdir-not-writable": Kind("policy", _OTHER, "The working directory cannot be written."),
    "bind-source-missing": Kind("policy", _OTHER, "The source of a required bind does not exist."),
    "repository-missing": Kind("policy", _OTHER, "A CVMFS repository that payloads need does not answer on this node."),
    "binds-disabled": Kind(
        "policy", _OTHER, "The runtime's configuration lets no user bind, so nothing can be isolated."
    ),
    "bind-source-no-answer": Kind("policy", _OTHER, "The source of a required bind did not answer in time."),
    "bind-target-no-layer": Kind(
        "policy", _OTHER, "A target is not in the image, and nothing on this node lets the runtime create it."
    ),
    "runtime-missing": Kind("policy", _OTHER, "No container runtime was found on this node."),
    "runtime-broken": Kind("policy", _OTHER, "A container runtime was found and does not work."),
    "runtime-too-old": Kind("policy", _OTHER, "The container runtime lacks options that isolation needs."),
    "runtime-no-answer": Kind("policy", _OTHER, "A container runtime did not answer in time."),
    "trace-unwritable": Kind("policy", _OTHER, "The trace record cannot be written."),
    "trace-undelivered": Kind(
        "policy", _OTHER, "A receiver of trace records that policy requires has not taken the record in time."
    ),
    "trace-unreadable": Kind("policy", _NEVER, "Trace records cannot be read, or not by what is installed."),
    # What the runtime showed when it was started.
    "user-namespaces-disabled": Kind("runtime", _OTHER, "The kernel refuses unprivileged user namespaces."),
    "user-namespaces-exhausted": Kind(
        "runtime", _OTHER, "Too many user namespaces exist on the node, or they are nested too deep."
    ),
    "pid-namespace-unavailable": Kind("runtime", _OTHER, "A container cannot have a PID namespace of its own here."),
    "network-unavailable": Kind("runtime", _OTHER, "A container cannot have a network of its own here."),
    "loop-devices-exhausted": Kind("runtime", _OTHER, "The kernel has no loop device left to mount the image file."),
    "cvmfs-broken": Kind("runtime", _OTHER, "CVMFS or another network file system has lost its mount."),
    "image-slow": Kind("runtime", _SAME, "The image file took longer to mount than the runtime waits."),
    "cpu-too-old": Kind("runtime", _OTHER, "The image needs a newer processor than the node has."),
    "kernel-too-old": Kind("runtime", _OTHER, "The image needs a newer kernel than the node has."),
    "runtime-forbids": Kind("runtime", _OTHER, "The runtime's configuration forbids this form of image."),
    "runtime-privileges": Kind("runtime", _OTHER, "The runtime lacks rights that it asks the kernel for."),
    "bind-failed": Kind("runtime", _OTHER, "The runtime could not mount a bind."),
    "bind-not-seen": Kind("runtime", _OTHER, "The container stands and does not show a bind that was promised."),
    "image-unusable": Kind("runtime", _OTHER, "The runtime could not open or mount the image."),
    "fuse-unavailable": Kind("runtime", _OTHER, "The runtime could not use FUSE to mount the image."),
    "no-space": Kind("runtime", _OTHER, "A disk or quota that the runtime needs is full."),
    "user-unknown": Kind("runtime", _OTHER, "The user has no entry in the node's user database."),
    "runtime-option": Kind("runtime", _OTHER, "The runtime does not know an option that was used."),
    "runtime-vanished": Kind("runtime", _OTHER, "The runtime could not be executed when the payload was to start."),
    "runtime-killed": Kind("runtime", _SAME, "A signal ended the runtime before the payload started."),
    "runtime-hung": Kind("runtime", _OTHER, "The runtime did not start the payload in time."),
    "isolation-incomplete": Kind("runtime", _OTHER, "The container is not as isolated as it was asked to be."),
    "loader-refused": Kind(
        "runtime", _OTHER, "The runtime does not execute the loader, and no shell can deliver a variable."
    ),
    "start-forged": Kind("runtime", _NEVER, "A program of the image wrote the start marker in the loader's place."),
    "runtime-failed": Kind(
        "runtime", _OTHER, "The runtime ended before the payload started, for a reason not listed here."
    ),
    "stopped-before-start": Kind("signal", _SAME, "The pilot was told to stop while the container was being made."),
    # What became of a payload that did start.
    "success": Kind(None, None, "The payload ended with exit status 0."),
    "exit-nonzero": Kind("payload", None, "The payload ended with an exit status other than 0."),
    "command-not-found": Kind("payload", None, "The container stood, and the payload's command was not in it."),
    "command-not-executable": Kind(
        "payload", None, "The container stood, and the payload's command could not be executed."
    ),
    "ended-by-signal": Kind("payload", None, "A signal ended the payload; nobody sent it through this library."),
    "time-limit": Kind(
        "timeout", None, "The payload was stopped because its time limit was over, whatever its exit status."
    ),
    "stopped": Kind("signal", None, "The pilot stopped the payload, or passed on a signal that ended it."),
    "end-unseen": Kind("runtime", None, "The payload ran and ended, but nobody saw its exit status."),
    "runtime-lost": Kind("runtime", _SAME, "The runtime was killed while the payload ran."),
}
