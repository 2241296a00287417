"""
Measure what questions take over many records in Parquet.

``--records N`` (default: one million; the goals are for 20 million),
``--directory DIR`` keeps the data.  DuckDB itself makes records of a site with
2,000 nodes over 90 days, laid out and ordered as ``trace export`` does.  Each
question is asked as the command line asks it, in a process of its own, and so
is the statement of DuckDB alone to which it is compared.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from wlcg_isolate.trace.query.duck import connect
from wlcg_isolate.trace.query.export import ORDERS, form
from wlcg_isolate.trace.query.layout import ALL, TYPES

DAYS = 90
BEGIN = "2026-01-01"

#: Columns of a start record by what they are made of: `n` is the payload's number.
_STARTS = {
    "host_ip": "['10.' || (h // 250) || '.' || (h % 250)]",
    "process_pid": "10000 + n * 7 % 50000",
    "wlcg_process_start_ticks": "n * 37",
    "process_entity_id": "left(md5('e' || n), 22)",
    "process_parent_pid": "9000 + h",
    "process_executable": "'/bin/sh'",
    "wlcg_process_args_sha256": "sha256('a' || n)",
    "process_working_directory": "'/scratch/pilot' || p || '/' || n",
    "wlcg_workdir_dev": "2049",
    "wlcg_workdir_ino": "n",
    "process_linux_cgroup": "'/system.slice/condor.service/slot1_' || (n % 64)",
    "wlcg_ns_pid": "4026532000 + n % 3000",
    "wlcg_ns_mnt": "4026533000 + n % 3000",
    "process_user_id": "'4711'",
    "wlcg_vo": "['atlas', 'cms', 'lhcb', 'alice'][1 + u % 4]",
    "user_hash": "'hmac-sha256:k1:' || sha256('u' || u)",
    "related_user": "['hmac-sha256:k1:' || sha256('u' || u)]",
    "user_roles": "['/atlas/Role=production']",
    "wlcg_identity_source": "'wms-asserted'",
    "wlcg_identity_mode": "'hashed'",
    "wlcg_job_id": "CAST(6000000000 + n AS VARCHAR)",
    "wlcg_job_task_id": "CAST(n // 1000 AS VARCHAR)",
    "wlcg_pilot_id": "md5('p' || p)",
    "wlcg_batch_system": "'htcondor'",
    "wlcg_batch_job_id": "p || '.0'",
    "wlcg_batch_global_job_id": "'ce01.example.org#' || p || '.0#1767225600'",
    "container_runtime": "'apptainer'",
    "wlcg_container_runtime_version": "'1.4.2'",
    "container_image_name": "'el9'",
    "wlcg_image_path": "'/cvmfs/unpacked.cern.ch/image' || (n % 40)",
    "wlcg_image_resolved_path": "'/cvmfs/unpacked.cern.ch/.flat/image' || (n % 40)",
    "wlcg_image_digest_value": "sha256('i' || (n % 40))",
    "bind_sources": "['/cvmfs', '/scratch/pilot' || p || '/' || n]",
    "cvmfs_revisions": "['atlas.cern.ch@' || (n // 20000)]",
    "extra": '\'{"wlcg.isolation.binds":[{"source":"/cvmfs","target":"/cvmfs","writable":false},{"source":"/scratch/\' || n || \'","target":"/srv","writable":true}],"wlcg.isolation.environment":{"PATH":"path","HOME":"home"}}\'',
}
_ENDS = {
    "process_pid": _STARTS["process_pid"],
    "user_hash": _STARTS["user_hash"],
    "event_outcome": "CASE n % 10 WHEN 0 THEN 'failure' ELSE 'success' END",
    "process_exit_code": "CASE n % 10 WHEN 0 THEN 1 ELSE 0 END",
    "wlcg_outcome_kind": "CASE n % 10 WHEN 0 THEN 'exit-nonzero' ELSE 'success' END",
    "extra": "'{\"wlcg.usage.cpu_seconds\":' || n || '}'",
}


def make(directory: Path, records: int, days: Iterable[int] = range(DAYS)) -> None:
    """
    Make the records, or those of some of the days, a day at a time.
    """
    connection, _ = connect()
    payloads = records // 3
    for day in days:
        first, last = payloads * day // DAYS, payloads * (day + 1) // DAYS
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE payloads AS SELECT n, CAST(hash(n) % 2000 AS BIGINT) AS h, "
            # A few users run most, most run little.
            "CAST(floor(pow((hash(n + 7) % 100000) / 100000.0, 3) * 3000) AS BIGINT) AS u, n // 6 AS p, "
            f"epoch_us(TIMESTAMP '{BEGIN}') + {day} * 86400000000 + CAST(hash(n + 1) % 86400000000 AS BIGINT) AS began, "
            "600000000 + CAST(hash(n + 2) % 40000000000 AS BIGINT) AS took "
            f"FROM (SELECT range AS n FROM range({first}, {last}))"
        )
        rows = " UNION ALL ".join(
            [
                _rows("payload.start", "began", _STARTS),
                _rows("payload.running", "began + 300000", {}),
                _rows("payload.end", "began + took", _ENDS),
            ]
        )
        name = f"{_name(connection, day)}"
        place = directory / f"day={name}" / "site=CERN-PROD"
        place.mkdir(parents=True)
        connection.execute(f"CREATE OR REPLACE TEMP TABLE made AS {rows}")
        for file, order in ORDERS.items():
            connection.execute(f"COPY (SELECT * FROM made ORDER BY {order}) TO '{place}/{file}' ({form(file)})")


def _name(connection: Any, day: int) -> str:
    return str(connection.execute(f"SELECT DATE '{BEGIN}' + {day}").fetchall()[0][0])[:10]


def _rows(action: str, moment: str, made: dict[str, str]) -> str:
    known = {
        "event_action": f"'{action}'",
        "event_id": "CAST(uuid() AS VARCHAR)",
        "container_id": "CAST(md5('c' || n)::UUID AS VARCHAR)",
        "payload_id": "CAST(md5('c' || n)::UUID AS VARCHAR)",
        "host_name": "'wn' || lpad(CAST(h AS VARCHAR), 4, '0') || '.example.org'",
        "host_boot_id": "CAST(md5('b' || h)::UUID AS VARCHAR)",
        "timestamp": f"strftime(make_timestamp({moment}), '%Y-%m-%dT%H:%M:%S.%fZ')",
        "time": moment,
        "day": f"strftime(make_timestamp({moment}), '%Y-%m-%d')",
        "site": "'CERN-PROD'",
        "owner": "'hmac-sha256:k1:' || sha256('u' || u)",
        "extra": "'{}'",
        **made,
    }
    cells = (f"CAST({known.get(name, 'NULL')} AS {TYPES[kind]}) AS {name}" for name, kind in ALL)

    return f"SELECT {', '.join(cells)} FROM payloads"


_ASK = """
import sys, time
from wlcg_isolate.trace.query import Question, find
from wlcg_isolate.trace.query.question import User
from wlcg_isolate.trace.query.answer import engine_for, sightings
from wlcg_isolate.trace.query.times import given
import duckdb
duckdb.sql("SET enable_progress_bar = false")
begin, used = time.perf_counter(), time.process_time()
FOUND
print(time.perf_counter() - begin, time.process_time() - used, found)
"""

_NOON, _MONTH = "given('2026-02-15T12:00:00Z')", "given('2026-02-01T00:00:00Z'), until=given('2026-03-03T00:00:00Z')"
_MAKE = "import hashlib; user = 'hmac-sha256:k1:' + hashlib.sha256(b'u1000').hexdigest()\n"
_FIND = "found = len(find([sys.argv[1]], Question({})).payloads)"

#: What DuckDB alone does, with the rows and files that are wanted known beforehand.
_BARE = """found = len(duckdb.sql(f"SELECT * FROM read_parquet({FILES!r}, hive_partitioning = false) WHERE WHICH").fetchall())"""


def _bare(days: str, which: str, file: str = "records") -> str:
    return f"import glob; FILES = sorted(glob.glob(sys.argv[1] + '/day={days}/*/{file}.parquet'))\n" + _BARE.replace(
        "WHICH", which
    )


_USER = f"user_hash = 'hmac-sha256:k1:{hashlib.sha256(b'u1000').hexdigest()}'"
IMAGE = f"wlcg_image_digest_value = '{hashlib.sha256(b'i7').hexdigest()}'"
_ONE_COLUMN = "found = duckdb.sql(f\"SELECT count(DISTINCT wlcg_job_id) FROM read_parquet('{sys.argv[1]}/*/*/records.parquet', hive_partitioning = false)\").fetchall()[0][0]"

#: Question to how DuckDB alone reads the like of it, and how this project answers it.
QUESTIONS = {
    "one column of all": (_ONE_COLUMN, ""),
    "host at time": (
        _bare("2026-02-1[45]", "host_name = 'wn0042.example.org'"),
        _FIND.format(f"hosts=['wn0042.example.org'], since={_NOON}, until={_NOON}"),
    ),
    "host and pid at time": (
        _bare("2026-02-1[45]", "host_name = 'wn0042.example.org' AND process_pid = 10007"),
        _FIND.format(f"hosts=['wn0042.example.org'], pids=[10007], since={_NOON}, until={_NOON}"),
    ),
    "user over 30 days": (
        _bare("2026-02-*", _USER, "records-by-user"),
        _MAKE + _FIND.format(f"users=[User(hashes=[user])], since={_MONTH}"),
    ),
    "user over 90 days": (_bare("*", _USER, "records-by-user"), _MAKE + _FIND.format("users=[User(hashes=[user])]")),
    "job": (_bare("*", "wlcg_job_id = '6000000123'"), _FIND.format("jobs=['6000000123']")),
    "batch job": (
        _bare("*", "wlcg_batch_global_job_id = 'ce01.example.org#77.0#1767225600'"),
        _FIND.format("batch_jobs=['ce01.example.org#77.0#1767225600']"),
    ),
    "image, at a time": (
        _bare("2026-02-1[45]", IMAGE),
        "import hashlib\n" + _FIND.format(f"images=[hashlib.sha256(b'i7').hexdigest()], since={_NOON}, until={_NOON}"),
    ),
    "path": (
        _bare("*", "process_working_directory = '/scratch/pilot77/463'"),
        _FIND.format("paths=['/scratch/pilot77/463/file']"),
    ),
    "users of an hour": (
        _bare("2026-02-15", "host_name = 'wn0042.example.org'"),
        f"with engine_for([sys.argv[1]]) as e: found = len(sightings(e, Question(since={_NOON}, until={_NOON}+3600*10**6), 'user.hash'))",
    ),
}


def main() -> None:
    """
    Make the data and ask.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = options.directory or Path(scratch)
        if not any(place.glob("day=*")):
            begin = time.perf_counter()
            make(place, options.records)
            print(f"made in {time.perf_counter() - begin:.0f} s")
        size = sum(file.stat().st_size for file in place.rglob("*.parquet"))
        print(f"{options.records:,} records, {size / 1e6:,.0f} MB of Parquet")
        print(f"{'seconds (of processors)':22} {'DuckDB':>16} {'find':>16}  ratio of processors")
        for name, (bare, question) in QUESTIONS.items():
            alone = asked(place, bare, options.repeat)
            found = asked(place, question, options.repeat) if question else alone
            print(f"{name:22} {_shown(alone):>16} {_shown(found):>16} {found[1] / alone[1]:6.1f}  {found[2]}")


def _shown(one: tuple[float, float, str]) -> str:
    return f"{one[0]:.3f} ({one[1]:.3f})"


def asked(place: Path, question: str, times: int = 3) -> tuple[float, float, str]:
    """
    Ask in a process of its own; return seconds, those of the processors, and
    what was found, from the time that took the least of them.
    """
    code = _ASK.replace("FOUND", question)
    answers = []
    for _ in range(times):
        done = subprocess.run([sys.executable, "-c", code, str(place)], check=True, capture_output=True, text=True)  # noqa: S603
        took, used, found = done.stdout.strip().split(" ", 2)
        answers.append((float(took), float(used), found))

    return min(answers, key=lambda one: one[1])


if __name__ == "__main__":
    main()
