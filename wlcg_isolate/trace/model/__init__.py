"""
The model of a record: every field, its type, where it is, what it means.

The JSON Schema ``schemas/trace.schema.json`` and the page
``docs/reference/trace.md`` are made from it, and every record that a test
writes is checked against that schema.  Nothing here is needed to write one.
"""

from __future__ import annotations

from wlcg_isolate.trace.model import pilot, process, what, whom
from wlcg_isolate.trace.model.row import MEANINGS, OPEN, Field

__all__ = ["FIELDS", "MEANINGS", "OPEN", "Field"]

#: All fields in the order of the reference.
FIELDS: tuple[Field, ...] = (*pilot.FIELDS, *process.FIELDS, *whom.FIELDS, *what.FIELDS)
