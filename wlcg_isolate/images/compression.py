"""
Decompress one block, within a known size.

zlib and lzma are Python's own.  For the others the library that the node has
is used: squashfs-tools and the runtime need it as well, so that a node on
which it is missing could not run the image either.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from functools import cache
from typing import Callable

from wlcg_isolate.images.fault import ImageFault, corrupt

#: By the numbers in a squashfs superblock.
NAMES: Mapping[int, str] = {1: "gzip", 2: "lzma", 3: "lzo", 4: "xz", 5: "lz4", 6: "zstd"}

#: What a decoder may take for its dictionary; squashfs's largest is 1 MiB.
_LZMA_MEMORY = 64 << 20


def decompress(name: str, data: bytes, limit: int) -> bytes:
    """
    Decompress *data* to at most *limit* bytes.

    Raises:
        ImageFault: It is damaged, larger, or this node lacks the library.
    """
    try:
        result = _DECODERS[name](data, limit)
    except (zlib.error, EOFError, ValueError, MemoryError) as e:
        raise corrupt(f"a block cannot be decompressed: {e}") from e
    if len(result) > limit:
        raise corrupt(f"a block is larger than the {limit} bytes that are allowed")

    return result


def available(name: str) -> bool:
    """
    Tell whether this node can decompress *name*.
    """
    library = _LIBRARIES.get(name)

    return name in _DECODERS and (library is None or _load(library) is not None)


def _gzip(data: bytes, limit: int) -> bytes:
    return zlib.decompressobj().decompress(data, limit + 1)


def _xz(data: bytes, limit: int) -> bytes:
    return _by_lzma("FORMAT_XZ", data, limit)


def _lzma(data: bytes, limit: int) -> bytes:
    return _by_lzma("FORMAT_ALONE", data, limit)


def _by_lzma(form: str, data: bytes, limit: int) -> bytes:
    import lzma

    try:
        return lzma.LZMADecompressor(getattr(lzma, form), memlimit=_LZMA_MEMORY).decompress(data, limit + 1)
    except lzma.LZMAError as e:
        raise ValueError(str(e)) from e


@cache
def _load(library: str) -> object:
    import ctypes

    try:
        return ctypes.CDLL(library)
    except OSError:
        return None


def _function(name: str, symbol: str) -> Callable[..., int]:
    library = _load(_LIBRARIES[name])
    if library is None:
        raise ImageFault("image-form-unsupported", f"it is compressed with {name}, and this node has no {name} library")
    function: Callable[..., int] = getattr(library, symbol)

    return function


def _zstd(data: bytes, limit: int) -> bytes:
    import ctypes

    function = _function("zstd", "ZSTD_decompress")
    size = ctypes.c_size_t
    function.argtypes, function.restype = (ctypes.c_char_p, size, ctypes.c_char_p, size), size  # type: ignore[attr-defined]
    buffer = ctypes.create_string_buffer(limit)
    length = function(buffer, limit, data, len(data))
    # Errors are the highest numbers.
    if length > limit:
        raise corrupt("a block cannot be decompressed")

    return buffer.raw[:length]


def _lz4(data: bytes, limit: int) -> bytes:
    import ctypes

    buffer = ctypes.create_string_buffer(limit)
    length = _function("lz4", "LZ4_decompress_safe")(data, buffer, len(data), limit)
    if length < 0:
        raise corrupt("a block cannot be decompressed")

    return buffer.raw[:length]


def _lzo(data: bytes, limit: int) -> bytes:
    import ctypes

    buffer, length = ctypes.create_string_buffer(limit), ctypes.c_size_t(limit)
    function = _function("lzo", "lzo1x_decompress_safe")
    if function(data, ctypes.c_size_t(len(data)), buffer, ctypes.byref(length), None) != 0:
        raise corrupt("a block cannot be decompressed")

    return buffer.raw[: length.value]


_LIBRARIES: Mapping[str, str] = {"zstd": "libzstd.so.1", "lz4": "liblz4.so.1", "lzo": "liblzo2.so.2"}

_DECODERS: Mapping[str, Callable[[bytes, int], bytes]] = {
    "gzip": _gzip,
    "xz": _xz,
    "lzma": _lzma,
    "zstd": _zstd,
    "lz4": _lz4,
    "lzo": _lzo,
}
