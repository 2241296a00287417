"""
What is inside an image: the system, what it needs, what it offers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Optional

import attrs

from wlcg_isolate._values import as_mapping
from wlcg_isolate.images import elf
from wlcg_isolate.images.fault import ImageFault
from wlcg_isolate.images.rootfs import Root, list_names, look_up, read_file

#: Larger ones are no files of settings.
_MOST_TEXT = 65536

#: Enterprise Linux before 7 has no os-release.
_OLD_RELEASE_FILES = ("/etc/redhat-release", "/etc/system-release")
_OLD_RELEASE = re.compile(r"release (\d+)")

_ASSIGNMENT = re.compile(r"""^([A-Z][A-Z0-9_]*)=(?:"([^"]*)"|'([^']*)'|([^\s"']*))\s*$""", re.MULTILINE)

#: Scripts of /.singularity.d/env that are the same in every image.
_RUNTIMES_OWN = re.compile(r"(01-base|94-appsbase|95-apps|99-base|99-runtimevars)\.sh\Z")
_EXPORT = re.compile(r"^\s*export ([A-Za-z_][A-Za-z0-9_]*)=(.*)$", re.MULTILINE)

#: Where the C library is, most common first.
_LIBC = ("/lib64/libc.so.6", "/lib/x86_64-linux-gnu/libc.so.6", "/lib/aarch64-linux-gnu/libc.so.6", "/lib/libc.so.6")
_LIBC_BANNER = re.compile(rb"GNU C Library[^\n]{0,80} version (\d+\.\d+)")
_LIBC_PIECE = 1 << 18
_LIBC_MOST = 8 << 20

#: Families of systems whose programs are all built for a level of x86-64,
#: though older ones carry no mark of it: (family, major version) to level.
_LEVELS: Mapping[tuple[str, str], int] = {("rhel", "9"): 2, ("rhel", "10"): 3}


@attrs.frozen(kw_only=True)
class Contents:
    """
    What a plan needs to know of what is inside an image.

    Attributes:
        shell: Whether there is a file ``/bin/sh``.

        machine: Architecture of ``/bin/sh`` by its ELF header, or None when
            it is no ELF file.

        kernel: Oldest Linux that its C library runs on, or None.

        level: Level of x86-64 that its programs need, or None when nothing
            says so.

        system: Fields of ``os-release``; of older systems, made from their
            release file.

        own_files: Whether there is ``/.singularity.d``, which holds the
            image's own environment.
    """

    shell: bool = False
    machine: Optional[str] = None
    kernel: Optional[tuple[int, ...]] = None
    level: Optional[int] = None
    system: Mapping[str, str] = attrs.field(factory=dict, converter=as_mapping)
    own_files: bool = False


def read_contents(root: Root) -> Contents:
    """
    Read what a plan needs.

    Raises:
        ImageFault: The image is damaged.

        OSError: Its file system failed.
    """
    shell = look_up(root, "/bin/sh")
    programs = [] if shell.kind != "file" else _programs(root, shell.node)
    system = read_system(root)
    machine = programs[0].machine if programs else None
    level = max((program.level for program in programs if program.level), default=None)
    if machine == "x86_64" and (level or 1) == 1:
        level = _LEVELS.get((_family(system), system.get("VERSION_ID", "").split(".")[0]), level)

    return Contents(
        shell=shell.kind == "file",
        machine=machine,
        kernel=max((program.kernel for program in programs if program.kernel), default=None),
        level=level,
        system=system,
        own_files=look_up(root, "/.singularity.d").kind == "directory",
    )


def _programs(root: Root, shell: Any) -> list[elf.Program]:
    """
    Read the shell, and the loader that it needs.
    """
    program = elf.read_program(lambda at, size: root.read(shell, at, size))
    if program is None:
        return []
    programs = [program]
    if program.interpreter is not None:
        try:
            loader = look_up(root, program.interpreter)
            found = (
                elf.read_program(lambda at, size: root.read(loader.node, at, size)) if loader.kind == "file" else None
            )
        except (OSError, ImageFault):
            found = None
        programs += [found] if found is not None else []

    return programs


def read_system(root: Root) -> dict[str, str]:
    """
    Read which system an image holds, as the fields of os-release(5).
    """
    for path in ("/etc/os-release", "/usr/lib/os-release"):
        text = _text(root, path)
        if text:
            return {m[1]: next(g for g in m.groups()[1:] if g is not None) for m in _ASSIGNMENT.finditer(text)}
    for path in _OLD_RELEASE_FILES:
        match = _OLD_RELEASE.search(_text(root, path))
        if match:
            name = _text(root, path).strip().partition("\n")[0]
            return {"ID": "rhel", "VERSION_ID": match[1], "PRETTY_NAME": name}

    return {}


def _family(system: Mapping[str, str]) -> str:
    names = {system.get("ID", ""), *system.get("ID_LIKE", "").split()}

    return "rhel" if names & {"rhel", "centos", "rocky", "almalinux"} else system.get("ID", "")


def is_enterprise_linux_6(system: Mapping[str, str]) -> bool:
    """
    Tell whether a system is of the family of Enterprise Linux 6.
    """
    return _family(system) == "rhel" and system.get("VERSION_ID", "").split(".")[0] == "6"


def _text(root: Root, path: str) -> str:
    return (read_file(root, path, _MOST_TEXT) or b"").decode("utf-8", "replace")


def describe(root: Root) -> dict[str, Any]:
    """
    Read what else a person wants to know of an image.

    Returns:
        Plain types, ready for JSON: ``glibc``, ``locales``, ``environment``
        (variables that the image sets, as its scripts have them) and
        ``labels``.
    """
    import json

    labels = {}
    try:
        found = json.loads(_text(root, "/.singularity.d/labels.json") or "{}")
        labels = {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}
    except (ValueError, RecursionError):
        pass
    scripts = sorted(name for name in list_names(root, "/.singularity.d/env", 100) if not _RUNTIMES_OWN.match(name))
    texts = [_text(root, f"/.singularity.d/env/{name}") for name in scripts]

    return {
        "glibc": glibc_version(root),
        "locales": locales(root),
        "environment": {m[1]: m[2] for text in texts for m in _EXPORT.finditer(text)},
        "labels": labels,
    }


def glibc_version(root: Root) -> Optional[str]:
    """
    Read the version from the words that the C library says of itself.
    """
    for path in _LIBC:
        try:
            found = look_up(root, path)
            if found.kind == "file":
                return _banner(root, found.node)
        except (OSError, ImageFault):
            continue

    return None


def _banner(root: Root, node: Any) -> Optional[str]:
    kept = b""
    for at in range(0, _LIBC_MOST, _LIBC_PIECE):
        piece = root.read(node, at, _LIBC_PIECE)
        match = _LIBC_BANNER.search(kept + piece)
        if match:
            return match[1].decode()
        if not piece:
            break
        kept = piece[-200:]

    return None


def locales(root: Root) -> list[str]:
    """
    List the locales beside C and POSIX.

    Those in a ``locale-archive`` are found by the names in its table.
    """
    found = {name for name in list_names(root, "/usr/lib/locale") if not name.startswith("locale-archive")}
    archive = read_file(root, "/usr/lib/locale/locale-archive", 1 << 20) or b""
    # The names stand one after the other, each ended by a NUL byte.
    found.update(
        m[1].decode() for m in re.finditer(rb"\0([a-z]{2,3}_[A-Z]{2}(?:\.[a-z0-9]+)?(?:@[a-z]+)?)(?=\0)", archive)
    )

    return sorted(found)
