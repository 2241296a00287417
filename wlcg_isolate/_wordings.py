"""
The words by which runtimes say that they failed, and where each is from.

Versions are those in whose source the words were found; *seen* means that
Apptainer 1.4.5 printed them on a node made for it.  Issue numbers are those of
the projects named.  "All 3" is Singularity 3.0 to 3.8, SingularityCE 3.8 to
4.4 and Apptainer 1.0 to 1.5.3.
"""

from __future__ import annotations

from typing import NamedTuple


class Wording(NamedTuple):
    """
    What a line that a runtime prints means.

    Attributes:
        kind: A key of `KINDS`.

        pattern: What the line looks like; compiled on use, for most pilots
            never see one.

        source: Where the words are from.

        cause: The cause in plain words.

        advice: What mends it.
    """

    kind: str
    pattern: str
    source: str
    cause: str
    advice: str


_APPARMOR = (
    "let the runtime's program have an AppArmor profile with 'userns,' (the packaged apptainer brings one), or: "
    "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"
)

#: First match wins.
WORDINGS: tuple[Wording, ...] = (
    # The command of a plain "exec": only asked for where that is what was started.
    Wording(
        "command-not-found",
        r"^FATAL: *\"[^\"]+\": executable file not found in \$PATH|^FATAL: *stat \S.*: no such file or directory$",
        "process_linux.go and Go's os/exec, all 3 from 3.6, seen",
        "the command is not in the image",
        "check the command's name and the image",
    ),
    Wording(
        "command-not-executable",
        r"a shared library is likely missing in the image|^FATAL: *exec .+ failed: "
        r"|^FATAL: *(?:permission denied|is a directory)$|Failed to execvp",
        "process_linux.go and Go's os/exec, all 3 from 3.6, seen; Singularity 2.4 to 2.6 (execvp)",
        "the command is in the image and cannot be executed",
        "check its mode, its interpreter and its architecture",
    ),
    Wording(
        "user-namespaces-disabled",
        r"Could not write info to setgroups: Permission denied"
        r"|Failed to create user namespace: Permission denied"
        r"|waiting event for user namespace mappings",
        "starter.c of all 3 (3.5 and newer for the last); apptainer#2027, #2360, #2457, #2691",
        "AppArmor restricts user namespaces to programs that have a profile (Ubuntu 23.10 and newer)",
        _APPARMOR,
    ),
    Wording(
        "user-namespaces-disabled",
        r"unprivileged_userns_clone",
        "starter.c of all 3 from 3.6",
        "the kernel's setting kernel.unprivileged_userns_clone forbids user namespaces",
        "sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    Wording(
        "network-unavailable",
        r"Failed to create network namespace",
        "starter.c of all 3, seen; sites that need no network namespaces are advised to set the number to 0",
        "the kernel allows no more network namespaces",
        "sysctl -w user.max_net_namespaces=15000, or say isolation.network = 'host'",
    ),
    Wording(
        "user-namespaces-exhausted",
        r"nesting depth or /proc/sys/user/max_\S+ exceeded",
        "bubblewrap#764; apptainer#1686 tells of the cause",
        "too many namespaces exist, or they are nested too deep; it is not about a disk",
        "raise user.max_user_namespaces, or do not nest containers",
    ),
    Wording(
        "user-namespaces-disabled",
        r"Failed to create user namespace"
        r"|(?:create container (?:process|namespace)|NEWUSER namespace runtime|clone|unshare)"
        r"[^\n]*: No space left on device"
        r"|NEWUSER namespace runtime|max_user_namespaces",
        "starter.c of all 3, seen; Singularity 2.4 to 2.6 (NEWUSER); apptainer#2455, singularity#415",
        "the kernel allows no more user namespaces; 'No space left on device' here is not about a disk",
        "sysctl -w user.max_user_namespaces=15000 (and in /etc/sysctl.d for the next boot)",
    ),
    Wording(
        "runtime-privileges",
        r"Requesting capability set|requires privileges|Failed to create (?:mount|container) namespace"
        r"|must be owned by root|not setuid root|nosuid|starter-suid doesn't have setuid bit"
        r"|setuid workflow with user namespace|Could not virtualize (?:mount|file system) namespace",
        "starter.c and prepare_linux.go of all 3, seen; Singularity 2.4 to 2.6 (virtualize); apptainer#1294",
        "the runtime lacks rights that it asks the kernel for",
        "check which rights the batch system or an outer container leaves to the pilot; a set-uid runtime works "
        "neither inside a user namespace nor from a file system mounted nosuid",
    ),
    Wording(
        "user-unknown",
        r"Couldn't determine user account information|unknown userid",
        "all 3 from 3.5, seen; singularity#5757, #760; apptainer#2213",
        "the user has no entry in the node's user database; a directory service may be slow or down",
        "give the user an entry: 'getent passwd UID' must answer",
    ),
    Wording(
        "pid-namespace-unavailable",
        r"mount(?:ing)?[^\n]*\bproc\b[^\n]*(?:operation not permitted|permission denied)"
        r"|Could not mount new procfs into container",
        "container_linux.go of all 3; Singularity 2.4 to 2.6 (procfs); DIRAC#7166",
        "a new /proc may not be mounted here, since an outer container has masked its own",
        "start the outer container with systempaths=unconfined (Kubernetes: procMount: Unmasked)",
    ),
    Wording(
        "loop-devices-exhausted",
        r"[Nn]o more available loop devices|no loop devices available|Could not obtain the image loop device",
        "Singularity 2.4 to 2.6; loop.go of all 3 from 3.1",
        "the kernel has no loop device left for the image file",
        "raise max_loop (module loop) and 'max loop devices' of the runtime, or use user namespaces with FUSE",
    ),
    Wording(
        "image-slow",
        r"failed to mount \S+ in \d+s",
        "imagedriver.go of Apptainer 1.1 and newer; apptainer#949, #1033: the first read of a large file on CVMFS",
        "the image file did not answer in the time that the runtime gives it",
        "try again: the next read is faster",
    ),
    Wording(
        "image-unusable",
        r"Something went wrong trying to read the squashfs|bad superblock",
        "squashfuse_ll, seen; container_linux.go of all 3 from 3.5 (superblock)",
        "the image file is damaged or not whole",
        "fetch it anew and compare its checksum",
    ),
    Wording(
        "image-unusable",
        r"filesystem seems not enabled and/or supported by your kernel",
        "container_linux.go of all 3 from 3.5",
        "the kernel does not know the image's file system",
        "load its module (squashfs, ext4), or use user namespaces with FUSE",
    ),
    Wording(
        "image-unusable",
        r"while extracting .*: exec: \"\w+\": executable file not found",
        "launcher_linux.go of all 3 from 3.6, seen",
        "the node has no program to unpack the image file with",
        "install squashfs-tools, or chmod 666 /dev/fuse",
    ),
    Wording(
        "fuse-unavailable",
        r"/dev/fuse|fuse: |squashfuse|fuse device|fusermount|FUSE mount command|image driver command for",
        "Apptainer 1.1 and newer, seen; SingularityCE 4.1 and newer (FUSE mount command)",
        "FUSE cannot be used to mount the image file",
        "chmod 666 /dev/fuse (in an outer container: pass the device in), or use an unpacked tree",
    ),
    Wording(
        "cvmfs-broken",
        r"[Tt]ransport endpoint is not connected|software caused connection abort|Too many levels of symbolic links",
        "words of the kernel; cvmfs#3512, #3992, #3151; singularity#890",
        "a network file system, mostly CVMFS or autofs, has lost its mount",
        "cvmfs_config probe; restart its client: cvmfs_config killall, or umount -l the dead mount",
    ),
    Wording(
        "no-space",
        r"No space left on device|Disk quota exceeded|no space left|disk quota exceeded",
        "words of the kernel, seen; singularity#3939, peppy#337",
        "a disk or a quota is full",
        "free space where the runtime keeps temporary files, or let its TMPDIR point to another disk",
    ),
    Wording(
        "runtime-forbids",
        r"[Cc]onfiguration disallows|not in an allowed configured path|not owned by required"
        r"|suid workflow disabled by administrator|prohibited by ECL|not allowed by configuration",
        "prepare_linux.go of all 3, seen; Singularity 2.4 to 2.6",
        "the runtime's configuration forbids this image or this way to run it",
        "change the lines 'allow container ...' and 'limit container ...' in the runtime's configuration file",
    ),
    Wording(
        "cpu-too-old",
        r"CPU does not support x86-64-v\d|CPU ISA level is lower than required",
        "GNU C library; chainguard-images/images#1658: EL9 needs x86-64-v2, EL10 x86-64-v3",
        "the image's C library needs a newer processor than this node has",
        "use an image of an older system, or a node with a newer processor",
    ),
    Wording(
        "kernel-too-old",
        r"kernel too old|does not support PR_SET_NO_NEW_PRIVS",
        "GNU C library; starter.c of all 3; conda-docker#11",
        "the image's C library, or the runtime, needs a newer kernel than this node has",
        "use an image of an older system, or a node with a newer kernel",
    ),
    Wording(
        "image-unusable",
        r"image's architecture \(\S+\) could not run|image targets '\S+', cannot run on|[Ee]xec format error",
        "sif.go and process_linux.go of all 3 from 3.6, seen; apptainer#3792, cwl-utils#467",
        "the image is made for another architecture than this node's",
        "use an image of the node's architecture",
    ),
    Wording(
        "argument-undeliverable",
        r"[Ee]ngine configuration too big|[Aa]rgument list too long",
        "starter.c of all 3 from 3.7, seen",
        "arguments and variables are larger than the runtime or the kernel passes on",
        "hand them over in a file",
    ),
    Wording(
        "image-unusable",
        r"[Cc]ould not open image|image format not recognized|failed to retrieve path|image driver mount failure"
        r"|Unknown image format|Image path \S+ doesn't exist|no root filesystem found|extraction failed"
        r"|could not create temporary sandbox|not readable by the current user|while mounting image"
        r"|unknown image format",
        "image.go of all 3, seen; Singularity 2.4 to 2.6 (format, path)",
        "the runtime cannot open the image",
        "check the image: is it whole, readable and of a form that this runtime knows",
    ),
    Wording(
        "image-unusable",
        r"destination /(?:dev|proc|sys) doesn't exist in container",
        "container_linux.go of all 3 from 3.5, seen",
        "the image has no directory for what every container needs",
        "add /dev, /proc and /sys to the image, empty; or is it empty itself?",
    ),
    Wording(
        "bind-failed",
        r"No layer in use|doesn't exist in container",
        "container_linux.go of all 3 from 3.5, seen; glideinwms#250",
        "a mount point is not in the image, and neither overlay nor underlay is there to create it",
        "set 'enable overlay = yes' or 'enable underlay = yes' in the runtime's configuration file",
    ),
    Wording(
        "bind-failed",
        r"mount source .* doesn't exist|mount hook function failure|while mounting|mount point must contain"
        r"|destination must be|error binding the path|Bind failed|while parsing bind path",
        "container_linux.go and bind.go of all 3, seen; Singularity 2.4 to 2.6 (binding)",
        "a bind could not be mounted",
        "check that its source exists and can be read on this node",
    ),
    Wording(
        "runtime-option",
        r"unknown (?:shorthand )?flag|Unknown option",
        "all 3 (cobra), seen; Singularity 2.4 to 2.6",
        "the runtime does not know an option",
        "install apptainer 1.1 or newer",
    ),
    Wording(
        "runtime-failed",
        r"multiple devpts instances unsupported",
        "container_linux.go of all 3 from 3.5, seen in a container that has a bare /dev",
        "the node's /dev/pts is no mounted devpts",
        "mount one: mount -t devpts devpts /dev/pts -o newinstance,ptmxmode=0666",
    ),
    Wording(
        "runtime-failed",
        r"Failed to open current working directory|failed to set working directory",
        "starter.c of all 3 from 3.5; process_linux.go of Apptainer 1.1 and newer",
        "the directory to start in cannot be entered",
        "start in one that the user can enter, and that is in the container",
    ),
)
