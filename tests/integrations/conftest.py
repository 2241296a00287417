"""
Inside real pilots and batch systems, which tools/test-integrations provides.  Nothing here may be skipped.
"""

from __future__ import annotations

from pathlib import Path


def pytest_collection_modifyitems(items):
    """Mark everything in this directory."""
    for item in items:
        if Path(__file__).parent in Path(item.path).parents:
            item.add_marker("integration")
