"""
Make records of a site that never was, the same for the same seed.
"""

from __future__ import annotations

import hashlib
import json
import random
import uuid

from wlcg_isolate.trace.query.times import SECOND, given, shown

BEGIN = given("2026-03-01T00:00:00Z")

HOSTS = [f"wn{n:03}.example.org" for n in range(8)]
USERS = [f"/DC=ch/DC=cern/OU=Users/CN=user {n}" for n in range(12)]
IMAGES = ["/cvmfs/unpacked/el9", "/cvmfs/unpacked/el8", "/images/own.sif"]


class Site:
    """Payloads on a few nodes over some days."""

    def __init__(self, seed=1, payloads=300, days=3):
        self._dice = random.Random(seed)
        self.records = []
        self.lives = {}
        for number in range(payloads):
            self._payload(number, BEGIN + self._dice.randrange(days * 86_400) * SECOND)
        self.records.sort(key=lambda record: record["@timestamp"])

    def uuid(self):
        """Make a UUID by the dice."""
        return str(uuid.UUID(int=self._dice.getrandbits(128)))

    def _head(self, action, moment, trace_id, host):
        return {
            "@timestamp": shown(moment),
            "event.action": action,
            "event.id": self.uuid(),
            "event.kind": "event",
            "event.dataset": "wlcg_isolate",
            "wlcg.schema_version": 1,
            "container.id": trace_id,
            "host.name": host,
            "host.boot.id": hashlib.md5(host.encode()).hexdigest(),
        }

    def _payload(self, number, moment):
        dice, trace_id, host = self._dice, self.uuid(), self._dice.choice(HOSTS)
        pilot = f"pilot-{HOSTS.index(host)}-{moment // (86_400 * SECOND)}"
        identity = self._identity(dice.choice(USERS))
        if dice.random() < 0.05:
            record = self._head("payload.refused", moment, trace_id, host)
            record.update(identity, **{"wlcg.job.id": str(number), "event.outcome": "failure"})
            record["event.reason"] = [{"kind": dice.choice(["image-missing", "bind-source-missing"]), "message": "x"}]
            self.records.append(record)
            return
        start = self._head("payload.start", moment, trace_id, host)
        start.update(identity, **self._facts(number, host, pilot))
        self.records.append(start)
        ended = moment + dice.randrange(60, 40_000) * SECOND
        self.lives[trace_id] = (host, moment, None)
        if dice.random() < 0.9:
            end = self._head("payload.end", ended, trace_id, host)
            end.update(
                {
                    "process.pid": start["process.pid"],
                    "process.exit_code": dice.choice([0, 0, 1]),
                    "wlcg.usage.cpu_seconds": 0.5,
                }
            )
            self.records.append(end)
            self.lives[trace_id] = (host, moment, ended)

    def _identity(self, user):
        return {
            "wlcg.vo": self._dice.choice(["atlas", "cms"]),
            "user.name": user,
            "user.hash": "hmac-sha256:k1:" + hashlib.sha256(user.encode()).hexdigest(),
            "wlcg.token.sub": f"sub-{USERS.index(user)}",
            "wlcg.token.iss": "https://iss.example.org",
            "wlcg.identity.source": "wms-asserted",
        }

    def _facts(self, number, host, pilot):
        dice = self._dice
        image = dice.choice(IMAGES)
        return {
            "host.ip": [f"192.0.2.{HOSTS.index(host) + 1}"],
            "wlcg.site": "CERN-PROD" if HOSTS.index(host) % 2 else "T2/Ä b",
            "process.pid": dice.randrange(2000, 6000),
            "wlcg.process.start_ticks": dice.randrange(10**6, 10**9),
            "process.working_directory": f"/scratch/{pilot}/{number}",
            "wlcg.workdir.dev": 2049,
            "wlcg.workdir.ino": 100_000 + number,
            "process.linux.cgroup": f"/system.slice/condor/slot{number % 9}",
            "wlcg.ns.pid": 4_026_532_000 + number % 50,
            "wlcg.ns.mnt": 4_026_533_000 + number % 50,
            "wlcg.job.id": str(number),
            "wlcg.pilot.id": pilot,
            "wlcg.batch.system": "htcondor",
            "wlcg.batch.job_id": f"{number // 4}.0",
            "wlcg.batch.global_job_id": f"ce01#{number // 4}.0#1",
            "container.image.name": image.rpartition("/")[2],
            "wlcg.image.resolved_path": image,
            "wlcg.image.digest.value": "sha256:" + hashlib.sha256(image.encode()).hexdigest(),
            "wlcg.isolation.binds": [{"source": f"/data/{number}", "target": "/data", "writable": False}, {"no": 1}],
            "wlcg.cvmfs": [{"fqrn": "atlas.cern.ch", "revision": 100 + number % 3, "root_hash": f"h{number % 3}"}],
            "wlcg.token.jti": f"jti-{number}",
            "wlcg.process.args_sha256": hashlib.sha256(str(number).encode()).hexdigest(),
            "wlcg.isolation.environment": {"PATH": "rule"},
        }

    def write(self, place, files=5):
        """Write the records as pilots do, a file for each process; return the paths."""
        paths = []
        for i in range(files):
            mine = self.records[i::files]
            made = mine[0]["@timestamp"].replace("-", "").replace(":", "")
            path = place / f"{made}-node-{i}.jsonl"
            path.write_text("".join(json.dumps(record, separators=(",", ":")) + "\n" for record in mine))
            paths.append(path)

        return paths
