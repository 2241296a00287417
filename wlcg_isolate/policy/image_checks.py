"""
What a value of a key about images must be.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from wlcg_isolate._values import is_checksum, path_fault, text_fault
from wlcg_isolate.policy.checks import texts

_LAYOUT_WORDS = ("{registry}", "{repository}", "{name}", "{tag}", "{arch}", "{goarch}")
_FORMS = ("tree", "file")


def layouts(value: Any) -> Iterator[str]:
    """
    A list of absolute paths with placeholders for the parts of a name.
    """
    faults = tuple(texts(value))
    yield from faults
    for layout in () if faults else value:
        words = re.findall(r"\{[^}]*\}?|\}", layout)
        odd = [word for word in words if word not in _LAYOUT_WORDS]
        fault = path_fault(layout) or (f"must not hold {odd[0]}" if odd else "")
        if not fault and (not {"{repository}", "{name}"}.intersection(words) or ".." in layout.split("/")):
            fault = "must hold {repository} or {name}, and no .."
        if fault:
            yield f"holds {layout!r}, which {fault}"


def spellings(value: Any) -> Iterator[str]:
    """
    Architectures, and the ways in which layouts spell each.
    """
    if not isinstance(value, Mapping):
        yield "must map architectures to spellings"
        return
    for machine, spelled in value.items():
        if not re.match(r"[a-z0-9_]+\Z", str(machine)):
            yield f"{machine!r} is no architecture as 'uname -m' spells it"
        yield from (f"{machine}: {fault}" for fault in texts(spelled))
        for text in spelled if isinstance(spelled, tuple) else ():
            if isinstance(text, str) and "/" in text:
                yield f"{machine}: holds {text!r}, which is no name of a directory"


def forms(value: Any) -> Iterator[str]:
    """
    Forms of an image, best first.
    """
    if not isinstance(value, tuple) or not value or any(item not in _FORMS for item in value):
        yield f"must be a list of {', '.join(_FORMS)}"


def checksums(value: Any) -> Iterator[str]:
    """
    Images, and the checksum of each.
    """
    if not isinstance(value, Mapping):
        yield "must map images to checksums"
        return
    for name, checksum in value.items():
        fault = text_fault(name) or ("" if is_checksum(checksum) else "must be sha256: and 64 hexadecimal digits")
        if fault:
            yield f"{name!r}: {fault}"


def directory_of_user(value: Any) -> Iterator[str]:
    """
    An absolute path that may depend on the user.
    """
    fault = path_fault(value)
    if fault or re.search(r"[{}]", value.replace("{uid}", "")):
        yield fault or "may hold {uid}, and no other brace"


def count(value: Any) -> Iterator[str]:
    """
    A whole number above 0.
    """
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        yield "must be a whole number above 0"
