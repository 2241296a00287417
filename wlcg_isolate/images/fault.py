"""
What reading an image may find wrong with it.
"""

from __future__ import annotations


class ImageFault(Exception):
    """
    An image, or what should be one, cannot be read.

    Args:
        kind: A word of `wlcg_isolate._kinds`.

        reason: What is wrong, for a person.

    Attributes:
        kind: The same.

        reason: The same.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
        self.reason = reason


def corrupt(reason: str) -> ImageFault:
    """
    Make the fault of an image that contradicts itself.
    """
    return ImageFault("image-corrupt", reason)
