"""
An incident: from what a site knows (a node, a moment, a process number) to the
user, to everything that this user ran, and to who else was there.

Usage: ``python incident.py IMAGE``, with a runtime in PATH.  It makes its own
records; those of a site would lie in a directory or in Parquet.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from wlcg_isolate import Identity, Payload, Request, load_policy, run_isolated
from wlcg_isolate.trace.query import Question, find
from wlcg_isolate.trace.query.answer import engine_for, neighbours
from wlcg_isolate.trace.query.times import SECOND, given
from wlcg_isolate.trace.query.users import user_of

#: By how much the clock of who reported it may differ from the node's.
SKEW = 60 * SECOND


def respond(records: str, host: str, moment: str, pid: int) -> None:
    """
    Answer what a responder asks first.
    """
    at = given(moment)
    (suspect,) = find([records], Question(hosts=(host,), pids=(pid,), since=at, until=at, skew=SKEW)).payloads
    print(f"it was job {suspect['wlcg.job.id']} of {suspect['user.name']}, {suspect['state']}")

    # However the name is written in the report of the experiment.
    user = user_of(dn="CN=Jane,OU=Users,DC=ch")
    theirs = find([records], Question(users=(user,))).payloads
    print(f"the same user ran jobs {', '.join(sorted(one['wlcg.job.id'] for one in theirs))}")

    with engine_for([records]) as engine:
        beside = neighbours(engine, suspect, Question(skew=SKEW))
    print(f"at risk as well: jobs {', '.join(sorted(one['wlcg.job.id'] for one in beside))}")

    after = find([records], Question(users=(user,), started_after=given(suspect["ended"]))).payloads
    print(f"started after it was over: {len(after)}")


def main(image: str) -> int:
    """
    Run a few payloads as pilots do, and look into one of them.
    """
    with tempfile.TemporaryDirectory() as place:
        records, work = Path(place, "trace"), Path(place, "work")
        work.mkdir()
        for job, dn in (
            ("1", "/DC=ch/OU=Users/CN=Jane"),
            ("2", "/DC=ch/OU=Users/CN=John"),
            ("3", "/DC=ch/OU=Users/CN=Jane"),
        ):
            request = Request(
                payload=Payload(command=("true",)),
                image=image,
                workdir=work,
                trace_dir=records,
                identity=Identity(user_dn=dn, job_id=job),
            )
            run_isolated(request, load_policy())
        (first,) = find([str(records)], Question(jobs=("1",))).payloads
        respond(str(records), first["host.name"], first["started"], first["process.pid"])

    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
