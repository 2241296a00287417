"""
Answer what responders ask, over the records of one node or of a whole site.

A question is a value; what it means is said once, as conditions over the
columns of a record.  Three engines answer it with the same payloads: plain
Python over JSON lines, DuckDB over JSON lines and Parquet, Spark over Parquet.
"""

from __future__ import annotations

from wlcg_isolate.trace.query.answer import Answer, find
from wlcg_isolate.trace.query.question import Question

__all__ = ["Answer", "Question", "find"]
