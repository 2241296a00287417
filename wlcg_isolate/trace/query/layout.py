"""
Lay out JSON lines in columns with DuckDB's SQL, as `rows` does in Python.
"""

from __future__ import annotations

from wlcg_isolate.trace.query.columns import COLUMNS, DERIVED, Column
from wlcg_isolate.trace.query.rows import MAX_LINE, OWNERS
from wlcg_isolate.trace.query.times import RECORDED

#: Type in DuckDB and Spark of each kind.
TYPES = {"text": "VARCHAR", "int": "BIGINT", "list": "VARCHAR[]", "part": "VARCHAR", "each": "VARCHAR[]"}

#: Every column of a row, with its kind.
ALL = (*((c.name, c.kind) for c in COLUMNS), *((name, kind) for name, kind, _ in DERIVED))

_TIME = RECORDED.pattern.replace(r"\Z", "$")


def _typed(column: Column, field: str) -> str:
    value = f's."{field}"'
    kind = f"json_type({value})"
    if column.kind == "text":
        return f"CASE WHEN {kind} = 'VARCHAR' THEN {value}->>'$' END"
    if column.kind == "int":
        return f"CASE WHEN {kind} IN ('BIGINT', 'UBIGINT') THEN TRY_CAST({value}->>'$' AS BIGINT) END"
    if column.kind == "part":
        return f"CASE WHEN {kind} = 'OBJECT' THEN {_part(column.parts[0], value)} END"
    items = f"TRY_CAST({value} AS JSON[])"
    if column.kind == "list":
        texts = f"[x->>'$' FOR x IN {items} IF json_type(x) = 'VARCHAR']"
        return f"CASE WHEN {kind} = 'ARRAY' AND len({texts}) = json_array_length({value}) THEN {texts} END"
    parts = [_part(spellings, "x") for spellings in column.parts]
    whole = " AND ".join(f"{part} IS NOT NULL" for part in parts)
    joined = " || '@' || ".join(parts)

    return f"CASE WHEN {kind} = 'ARRAY' THEN [{joined} FOR x IN {items} IF {whole}] END"


def _part(spellings: tuple[str, ...], of: str) -> str:
    words = "('VARCHAR', 'BIGINT', 'UBIGINT')"
    found = [f"CASE WHEN json_type({of}, '$.{word}') IN {words} THEN {of}->>'$.{word}' END" for word in spellings]

    return f"coalesce({', '.join(found)})" if len(found) > 1 else found[0]


def _value(column: Column) -> str:
    found = [_typed(column, field) for field in column.fields]

    return f"coalesce({', '.join(found)})" if len(found) > 1 else found[0]


def _held() -> str:
    """
    Write the patch (RFC 7396) that takes the fields out that columns hold.
    """
    tests = []
    for column in COLUMNS:
        before = ""
        for field in column.fields if column.whole else ():
            typed = _typed(column, field)
            tests.append(f"CASE WHEN {before}({typed}) IS NOT NULL THEN '\"{field}\":null' END")
            before += f"({typed}) IS NULL AND "

    return "CAST('{' || concat_ws(',', " + ", ".join(tests) + ") || '}' AS JSON)"


def is_record() -> str:
    """
    Write what tells that a value `j` needs no second look by `rows`: that it
    is a record, and nothing in it that readers take in different ways.
    """
    keys = "json_keys(j)"
    parts = [
        "json_type(j) = 'OBJECT'",
        f"len({keys}) = len(list_distinct({keys}))",
        "json_type(j, '$.\"event.action\"') = 'VARCHAR'",
        "json_type(j, '$.\"event.id\"') = 'VARCHAR'",
        f"regexp_full_match(j->>'$.\"@timestamp\"', '{_TIME}')",
        "TRY_CAST(rtrim(j->>'$.\"@timestamp\"', 'Z') AS TIMESTAMP) IS NOT NULL",
        f"strlen(CAST(j AS VARCHAR)) < {MAX_LINE}",
        "NOT contains(CAST(j AS VARCHAR), '\\u0000')",
    ]

    return "coalesce(" + " AND ".join(parts) + ", FALSE)"


def select(source: str, site: str) -> str:
    """
    Write the statement that lays out records.

    Args:
        source: A table with the columns `j` and `filename`.

        site: What stands for the name of an unknown site.
    """
    fields = dict.fromkeys(field for column in COLUMNS for field in column.fields)
    shape = "{" + ", ".join(f'"{field}":"JSON"' for field in fields) + "}"
    parsed = f"SELECT j, filename, {is_record()} AS good, json_transform(j, '{shape}') AS s FROM {source}"
    values = ", ".join(f"{_value(column)} AS {column.name}" for column in COLUMNS)
    owners = ", ".join(f"nullif({name}, '')" for name in OWNERS)
    derived = [
        "epoch_us(TRY_CAST(rtrim(timestamp, 'Z') AS TIMESTAMP)) AS time",
        "coalesce(nullif(container_id, ''), event_id) AS payload_id",
        "substr(timestamp, 1, 10) AS day",
        f"coalesce(nullif(wlcg_site, ''), {site}) AS site",
        f"coalesce({owners}, '') AS owner",
        "extra",
    ]
    laid = f"SELECT {values}, CAST(json_merge_patch(j, {_held()}) AS VARCHAR) AS extra, filename, good FROM ({parsed})"

    return f"SELECT {', '.join([*(c.name for c in COLUMNS), *derived])}, filename, good FROM ({laid})"
