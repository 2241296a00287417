"""
``wlcg-isolate doctor``: what this node can do.
"""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Sequence
from typing import Any

import attrs

from wlcg_isolate.cli import options
from wlcg_isolate.cli.findings import Finding, findings_of
from wlcg_isolate.cli.output import print_json, report_error, table
from wlcg_isolate.errors import IsolateError, RequestError
from wlcg_isolate.host import HostFacts, examine_host
from wlcg_isolate.host.dump import dump, read
from wlcg_isolate.policy import Policy
from wlcg_isolate.request import Request
from wlcg_isolate.run import run_isolated
from wlcg_isolate.runtime import choose_runtime

_EPILOG = """\
Exit status: 0 when payloads can run here, 1 when they cannot.  Containers are
really started, with an image that is made for it; with --image also a payload
in that image.  --json holds everything that was read, without secrets and
names of people: wlcg-isolate plan --facts FILE plans against it elsewhere.
The options are those of run, so that the paths of a request are looked at,
too; a command is not needed.

"""

#: A payload that says nothing and always succeeds.
_PROOF = "true"
_PROOF_SECONDS = 60.0

#: Of the last column; the others are short.
_WIDTH = 76


def main(argv: Sequence[str]) -> int:
    """
    Run the subcommand.
    """
    what = "Tell what this node can do, how it was found out, and how to mend what it cannot."
    parser = options.parser_for("doctor", what, _EPILOG)
    form = parser.add_argument_group("what to print")
    form.add_argument("--json", action="store_true", help="as JSON, with the facts")
    form.add_argument("--facts", metavar="FILE", help="examine a dump of another node instead of this one")
    words = list(argv)
    parsed = options.parse(parser, words if "--" in words else [*words, "--", _PROOF])
    try:
        if parsed.problems or parsed.request is None:
            raise RequestError(parsed.problems)
        facts = read(parsed.options.facts) if parsed.options.facts else examine_host(parsed.request, parsed.policy)
    except IsolateError as error:
        report_error(error)
        return 1

    findings = findings_of(facts, parsed.policy)
    if parsed.request.image is not None and not parsed.options.facts:
        findings.append(_proof(parsed.request, parsed.policy))
    able = all(finding.verdict == "yes" for finding in findings if finding.vital)
    if parsed.options.json:
        print_json(_as_dict(facts, findings, parsed.policy, able=able))
    else:
        print(_as_text(facts, findings, able=able))

    return 0 if able else 1


def _proof(request: Request, policy: Policy) -> Finding:
    """
    Start a real payload in the image that was named.
    """
    with tempfile.TemporaryDirectory(prefix="wlcg-isolate-doctor-") as place:
        proof = attrs.evolve(
            request,
            payload=attrs.evolve(request.payload, command=(_PROOF,)),
            workdir=tempfile.mkdtemp(dir=place),
            trace_dir=tempfile.mkdtemp(dir=place),
            timeout=_PROOF_SECONDS,
        )
        outcome = run_isolated(proof, policy)
    works = outcome.kind == "success"

    return Finding(
        "payload",
        "yes" if works else "no",
        f"ran '{_PROOF}' in {request.image}",
        "payloads run here" if works else outcome.message.replace("\n", " | "),
        vital=True,
    )


def _as_dict(facts: HostFacts, findings: list[Finding], policy: Policy, *, able: bool) -> dict[str, Any]:
    runtime, _ = choose_runtime(facts, policy)

    return {
        "able": able,
        "runtime": None if runtime is None else attrs.asdict(runtime),
        "findings": [finding._asdict() for finding in findings],
        "facts": dump(facts),
    }


def _as_text(facts: HostFacts, findings: Sequence[Finding], *, able: bool) -> str:
    lines = [f"{facts.hostname}: {facts.machine}, Linux {facts.kernel}, uid {facts.uid}", ""]
    rows = [("WHAT", "", "FOUND OUT", "MEANS FOR PAYLOADS")]
    for finding in findings:
        first, *more = textwrap.wrap(finding.meaning, _WIDTH) or [""]
        rows.append((finding.name, finding.verdict, finding.how, first))
        rows += [("", "", "", line) for line in more]
    lines.append(table(rows))
    mends: dict[str, list[str]] = {}
    for finding in findings:
        if finding.mend:
            mends.setdefault(finding.mend, []).append(finding.name.strip())
    if mends:
        lines += ["", "to mend:", *(f"  {', '.join(names)}: {mend}" for mend, names in mends.items())]
    lines += ["", f"payloads can run here: {'yes' if able else 'no'}"]

    return "\n".join(lines)
