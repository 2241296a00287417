"""
An extension of DIRAC; a community that has one adds the modules below
``Resources/Computing`` to its own.
"""

from __future__ import annotations

from typing import Any


def extension_metadata() -> dict[str, Any]:
    """
    Tell DIRAC of this extension, by the entry point ``dirac``.
    """
    return {"primary_extension": True, "priority": 100, "setups": {}, "web_resources": {}}
