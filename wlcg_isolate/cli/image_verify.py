"""
``wlcg-isolate image verify``: compare image files with known checksums.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import attrs

from wlcg_isolate.cli.image import parser_for
from wlcg_isolate.cli.image_common import path_of, policy_of
from wlcg_isolate.cli.output import print_json, report, report_error, table
from wlcg_isolate.cli.progress import Progress
from wlcg_isolate.errors import IsolateError, PlanError, Problem
from wlcg_isolate.host.proving import prove_file
from wlcg_isolate.host.touch import look_at, within
from wlcg_isolate.images.digests import Proof
from wlcg_isolate.policy import Policy

_EPILOG = """\
Checksums are taken from --sums, from policy, and from what lies next to an
image: IMAGE.image.json, IMAGE.sha256, SHA256SUMS.  Exit status: 0 when every
image was verified, 1 otherwise.
"""


def main(argv: Sequence[str]) -> int:
    """
    Run the subcommand.
    """
    parser = parser_for("verify", _EPILOG)
    parser.add_argument("images", metavar="IMAGE", nargs="+", help="path or reference of an image file")
    parser.add_argument("--sums", metavar="FILE", action="append", default=[], help="list of checksums")
    parser.add_argument("--key", metavar="FILE", action="append", default=[], help="public key that signs the lists")
    parser.add_argument("--jobs", metavar="N", type=int, default=0, help="files at a time (default: one per processor)")
    parser.add_argument("--again", action="store_true", help="make checksums anew, though they are remembered")
    options = parser.parse_args(argv)
    try:
        policy = policy_of(options)
        policy = attrs.evolve(
            policy,
            image_checksum_files=(*map(os.path.abspath, options.sums), *policy.image_checksum_files),
            image_signature_keys=(*map(os.path.abspath, options.key), *policy.image_signature_keys),
        )
        paths = [_file(path_of(image, policy), policy) for image in options.images]
    except IsolateError as error:
        report_error(error)
        return 1
    jobs = options.jobs if options.jobs > 0 else len(os.sched_getaffinity(0))
    rows = _verify(paths, policy, jobs, again=options.again)
    if options.json:
        print_json(rows)
    else:
        print(table([(row["verdict"], row["path"], _words(row)) for row in rows]))
    report("\n".join(f"{row['kind']}: {row['path']}: {row['reason']}" for row in rows if row["kind"]))

    return 0 if all(row["verdict"] == "verified" for row in rows) else 1


def _file(path: str, policy: Policy) -> str:
    found = within(policy.touch_seconds(path), lambda: look_at(path))
    if found is None:
        kind, fault = "image-no-answer", "it gives no answer"
    elif not found.present:
        kind, fault = "image-missing" if found.state == "missing" else "image-unreadable", found.reason
    elif found.kind != "file":
        kind, fault = "image-form-unsupported", "it is no file; a tree on CVMFS is verified by CVMFS itself"
    else:
        return path

    raise PlanError([Problem(kind=kind, message=f"{path}: {fault}", origin=path, advice="name an image file")])


def _verify(paths: Sequence[str], policy: Policy, jobs: int, *, again: bool) -> list[dict[str, Any]]:
    progress = Progress(sum(os.path.getsize(path) for path in paths))

    def one(path: str) -> dict[str, Any]:
        begin = time.monotonic()
        proof = prove_file(path, policy, again=again, progress=progress.add)
        return {"path": path, **_as_dict(proof), "seconds": round(time.monotonic() - begin, 3)}

    # Hashing lets go of Python's lock, so threads do share the work of several files.
    with ThreadPoolExecutor(min(jobs, len(paths))) as pool:
        rows = list(pool.map(one, paths))
    progress.close()

    return rows


def _as_dict(proof: Proof) -> dict[str, Any]:
    kinds = {"mismatch": "image-digest-mismatch", "unlisted": "image-unlisted", "failed": proof.kind}

    return {
        "verdict": proof.verdict,
        "digest": attrs.asdict(proof.digest),
        "sources": list(proof.sources),
        "remembered": proof.remembered,
        "kind": kinds.get(proof.verdict, ""),
        "reason": proof.reason,
    }


def _words(row: dict[str, Any]) -> str:
    if row["verdict"] != "verified":
        return str(row["reason"])
    how = "remembered" if row["remembered"] else f"{row['seconds']:.1f} s"

    return f"{row['digest']['value']} by {', '.join(row['sources'])} ({how})"
