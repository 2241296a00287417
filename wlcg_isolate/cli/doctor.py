"""
``wlcg-isolate doctor``: what this node can do.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from wlcg_isolate.cli.options import add_policy, policy_of
from wlcg_isolate.cli.output import print_json, report_error, table
from wlcg_isolate.errors import IsolateError
from wlcg_isolate.host import HostFacts, probe_host
from wlcg_isolate.policy import Policy
from wlcg_isolate.request import Payload, Request
from wlcg_isolate.run import run_isolated
from wlcg_isolate.runtime import choose_runtime

#: What an unprivileged runtime needs of the kernel: name, the value that
#: forbids it, and the command that mends it.
_LIMITS = (
    ("user.max_user_namespaces", "0", "sysctl -w user.max_user_namespaces=15000"),
    ("kernel.unprivileged_userns_clone", "0", "sysctl -w kernel.unprivileged_userns_clone=1"),
    (
        "kernel.apparmor_restrict_unprivileged_userns",
        "1",
        "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or a profile for the runtime",
    ),
)


class Finding(NamedTuple):
    """
    One capability of the node.

    Attributes:
        name: What it is.

        verdict: ``"yes"``, ``"no"`` or ``"no answer"``.

        how: How it was found out.

        meaning: What it means for payloads.

        mend: The command that mends it, or "".

        vital: Whether payloads need it.
    """

    name: str
    verdict: str
    how: str
    meaning: str
    mend: str = ""
    vital: bool = False


def main(argv: Sequence[str]) -> int:
    """
    Run the subcommand.
    """
    parser = argparse.ArgumentParser(
        prog="wlcg-isolate doctor",
        description="Tell what this node can do, how it was found out, and how to mend what it cannot.",
        epilog="Exit status: 0 when payloads can run here, 1 when they cannot.  Without --image that is what the "
        "node's settings say; with it, a container is really started.",
        allow_abbrev=False,
    )
    parser.add_argument("--image", metavar="PATH", help="prove it by a payload in this image")
    parser.add_argument("--runtime", metavar="PATH", help="runtime to examine, instead of a search")
    add_policy(parser)
    parser.add_argument("--json", action="store_true", help="as JSON")
    options = parser.parse_args(argv)
    try:
        policy = policy_of(options)
        request = Request(payload=Payload(command=("true",)), image=options.image, runtime=options.runtime)
        facts = probe_host(request, policy)
    except IsolateError as error:
        report_error(error)
        return 1

    findings = [*_runtime_findings(facts, policy), *_kernel_findings(facts, policy), *_path_findings(facts)]
    findings.append(_loader_finding(facts))
    if options.image is not None:
        findings.append(_proof(request, policy))
    able = all(f.verdict == "yes" for f in findings if f.vital)
    if options.json:
        print_json(_as_dict(facts, findings, able=able))
    else:
        print(_as_text(facts, findings, able=able))

    return 0 if able else 1


def _runtime_findings(facts: HostFacts, policy: Policy) -> Iterator[Finding]:
    runtime, problems = choose_runtime(facts, policy)
    if runtime is None:
        for problem in problems:
            yield Finding("runtime", "no", problem.message, "no payload runs here", problem.advice, vital=True)
        return
    meaning = f"payloads get {runtime.flavour} {runtime.version} in {runtime.mode} mode"
    yield Finding("runtime", "yes", f"{runtime.path} --version", meaning, vital=True)
    for fact in facts.runtimes:
        if fact.path != runtime.path:
            yield Finding(f"  not {fact.path}", "no", "looked at before it", fact.reason or "too old")


def _loader_finding(facts: HostFacts) -> Finding:
    if facts.loader_fault is None:
        return Finding("loader", "yes", "started once", "payloads get exactly what was decided, from any image")
    meaning = "payloads are started by their image's shell, which changes some variables and has to be there"

    return Finding("loader", "no", facts.loader_fault, meaning, "sysctl -w vm.memfd_noexec=0, where it is 2")


def _kernel_findings(facts: HostFacts, policy: Policy) -> Iterator[Finding]:
    runtime, _ = choose_runtime(facts, policy)
    vital = runtime is not None and runtime.mode == "userns" and facts.uid != 0
    for name, forbidding, mend in _LIMITS:
        value = facts.sysctl.get(name)
        if value is None:
            continue
        forbidden = value == forbidding
        yield Finding(
            name,
            "no" if forbidden else "yes",
            f"/proc/sys says {value}",
            "unprivileged containers are refused" if forbidden else "allows unprivileged containers",
            mend if forbidden else "",
            # AppArmor exempts programs that have a profile: that is no proof.
            vital=vital and forbidding == "0",
        )


def _path_findings(facts: HostFacts) -> Iterator[Finding]:
    for path, meaning, mend in (
        ("/cvmfs", "payloads see /cvmfs", "install the CVMFS client"),
        ("/dev/fuse", "image files can be mounted", "chmod 666 /dev/fuse"),
    ):
        fact = facts.paths.get(path)
        if fact is None:
            continue
        usable = fact.present and (fact.writable or path == "/cvmfs")
        verdict = "no answer" if fact.state == "no-answer" else "yes" if usable else "no"
        reason = fact.reason or ("" if usable else "not writable for this user")
        yield Finding(
            path,
            verdict,
            f"looked at it{': ' + reason if reason else ''}",
            meaning if usable else f"without it, not: {meaning}",
            "" if usable else mend,
        )


def _proof(request: Request, policy: Policy) -> Finding:
    """
    Start a real payload in the image that was named.
    """
    with tempfile.TemporaryDirectory(prefix="wlcg-isolate-doctor-") as place:
        proof = Request(
            payload=request.payload,
            image=request.image,
            runtime=request.runtime,
            workdir=tempfile.mkdtemp(dir=place),
            trace_dir=tempfile.mkdtemp(dir=place),
            timeout=60,
        )
        outcome = run_isolated(proof, policy)
    works = outcome.kind == "success"

    return Finding(
        "container",
        "yes" if works else "no",
        f"ran 'true' in {request.image}",
        "payloads run here" if works else outcome.message.replace("\n", " | "),
        vital=True,
    )


def _as_dict(facts: HostFacts, findings: list[Finding], *, able: bool) -> dict[str, Any]:
    return {
        "able": able,
        "hostname": facts.hostname,
        "machine": facts.machine,
        "kernel": facts.kernel,
        "uid": facts.uid,
        "findings": [finding._asdict() for finding in findings],
    }


def _as_text(facts: HostFacts, findings: Sequence[Finding], *, able: bool) -> str:
    lines = [f"{facts.hostname}: {facts.machine}, Linux {facts.kernel}, uid {facts.uid}", ""]
    lines.append(
        table([("WHAT", "", "MEANS", "FOUND OUT"), *((f.name, f.verdict, f.meaning, f.how) for f in findings)])
    )
    mends = [f"  {finding.name.strip()}: {finding.mend}" for finding in findings if finding.mend]
    if mends:
        lines += ["", "to mend:", *mends]
    lines += ["", f"payloads can run here: {'yes' if able else 'no'}"]

    return "\n".join(lines)
