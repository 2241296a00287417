"""
Checks of the keys of policy that are about trace records.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Any

#: What becomes of a payload whose records cannot be written.
ON_WRITE_ERROR = ("refuse", "continue")

#: Smaller files would hold little but their own first and last record.
_LEAST_BYTES = 65_536

#: A receiver's name is part of the name of a file.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}\Z")


def _whole(value: Any, least: int) -> Iterator[str]:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        yield f"must be a whole number, {least} or more"


def file_size(value: Any) -> Iterator[str]:
    """
    A size at which a file is full.
    """
    yield from _whole(value, _LEAST_BYTES)


def count(value: Any) -> Iterator[str]:
    """
    A number of things, at least one.
    """
    yield from _whole(value, 1)


def write_error(value: Any) -> Iterator[str]:
    """
    A word for what follows when a record cannot be written.
    """
    if value not in ON_WRITE_ERROR:
        yield f"must be one of {', '.join(ON_WRITE_ERROR)}"


def public_key_or_none(value: Any) -> Iterator[str]:
    """
    A public key of X25519 in base64, or nothing.
    """
    if value is None:
        return
    try:
        raw = base64.b64decode(value, validate=True)
    except (TypeError, ValueError, binascii.Error):
        raw = b""
    if len(raw) != 32:
        yield "must be the 32 bytes of an X25519 public key in base64"


def receivers(value: Any) -> Iterator[str]:
    """
    Names of receivers, and their addresses.
    """
    if not isinstance(value, Mapping):
        yield "must map names to addresses"
        return
    if not value:
        return
    # Most nodes have none, and the reader of addresses is large.
    from wlcg_isolate.policy.address import address_faults

    for name, address in value.items():
        if not isinstance(name, str) or not _NAME.match(name):
            yield f"holds {name!r}, which is no name of a receiver"
        yield from (f"{name}: {fault}" for fault in address_faults(address))
