"""
Find the candidates for the runtime, and ask each what it is and can do.

That a program exists, or that it exits with 0, proves little: one that does
not answer ``--version`` as a runtime does is broken, and so is one that
starts no container.  Nothing is asked twice: see `wlcg_isolate.host.cache`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Callable, Optional

import attrs

from wlcg_isolate._values import is_below
from wlcg_isolate.host import cache
from wlcg_isolate.host.dump import to_plain
from wlcg_isolate.host.facts import ProbeFact, RuntimeFact
from wlcg_isolate.host.fitness import mode_of, probe_of, problem_of
from wlcg_isolate.host.gather import gather
from wlcg_isolate.host.nodefacts import NodeFacts
from wlcg_isolate.host.start import RUNTIME_ENVIRON
from wlcg_isolate.host.touch import within
from wlcg_isolate.host.version import ask_version
from wlcg_isolate.policy import Policy
from wlcg_isolate.products import parse_banner

__all__ = ["RUNTIME_ENVIRON", "Asker", "candidates", "fact_from"]

#: A verdict against a runtime is kept for no longer: what is broken gets
#: mended, and what is exhausted recovers.
_KEEP_BAD_SECONDS = 60.0

#: For a second look at a file system of which one gave no answer.
_HANGING_SECONDS = 1.0


def candidates(
    search: Iterable[str], environ: Mapping[str, str], machine: str, deadline: Callable[[str], float]
) -> Iterator[str]:
    """
    List the absolute paths to try, each once.

    Args:
        search: Names or paths, in order of preference; ``{arch}`` in one is
            the node's architecture, ``{condor}`` where a glidein has its
            HTCondor.

        environ: The pilot's environment, with its PATH.

        machine: The node's architecture.

        deadline: How long to wait for a directory in PATH.
    """
    condor = environ.get("CONDOR_DIR", "")
    usable = [wanted for wanted in search if condor.startswith("/") or "{condor}" not in wanted]
    wanted = [template.replace("{arch}", machine).replace("{condor}", condor) for template in usable]
    import shutil

    # An empty or relative directory there would mean the payload's own.
    path = [place for place in environ.get("PATH", os.defpath).split(":") if place.startswith("/")]
    names = {name: partial(shutil.which, name, path=":".join(path)) for name in wanted if "/" not in name}
    found = gather(names, lambda _: max(map(deadline, path), default=1.0)) if names else {}
    places = (name if "/" in name else found[name].value for name in wanted)

    return iter(dict.fromkeys(os.path.abspath(place) for place in places if place))


@attrs.frozen(kw_only=True)
class Asker:
    """
    Asks candidates, and remembers.

    Attributes:
        policy: Deadlines, and what is allowed.

        machine: The node's architecture.

        uid: The user's number.

        node: What else is known of the node, or None.

        forms: Forms of images to start containers from: ``"tree"``,
            ``"file"``; none: only the version is asked.

        surroundings: What a verdict depends on beside the runtime.

        directories: Where verdicts are kept, best first.

        fresh: Whether to ask anew what is known already.

        every: Whether all are asked, also behind one that will do.
    """

    policy: Policy
    machine: str
    uid: int
    node: Optional[NodeFacts] = None
    forms: tuple[str, ...] = ()
    surroundings: Mapping[str, Any] = attrs.field(factory=dict)
    directories: tuple[str, ...] = ()
    fresh: bool = False
    every: bool = False
    #: Filled when the directories did not answer: they are left alone then.
    _silent: list[str] = attrs.field(factory=list, init=False)
    _hanging: list[str] = attrs.field(factory=list, init=False)

    def ask_until_good(
        self, paths: Iterable[str], form: str = "tree", answers: Iterable[RuntimeFact] = ()
    ) -> Iterator[RuntimeFact]:
        """
        Ask candidates in order until one will do; the rest is listed.

        Args:
            paths: The candidates, best first.

            form: Which probe counts, where there is one.

            answers: What candidates have said a moment ago.
        """
        said = {fact.path: fact for fact in answers if fact.verdict != "unasked"}
        found = False
        for path in paths:
            if found and not self.every:
                yield RuntimeFact(path=path, verdict="unasked", reason="one before it is good enough")
                continue
            fact = said.get(path)
            if fact is None or self.fresh or self._wanted(fact):
                fact = self.ask(path)
            found = found or (
                fact.verdict != "missing" and problem_of(fact, self.uid, self.node, self.policy, form) is None
            )
            yield fact

    def ask(self, path: str) -> RuntimeFact:
        """
        Ask one candidate.
        """
        key, entry = self._known(path)
        if key is None:
            reason = f"no answer within {self._seconds(path):g} s"
            self._hanging.append(path)
            return RuntimeFact(path=path, verdict="no-answer", reason=reason)
        if not key:
            return RuntimeFact(path=path, verdict="missing", reason="no such file")
        fact = None if entry is None else self._still_good(entry)
        watched = entry.watched if fact is not None and entry is not None else {}
        if fact is None:
            fact, files = ask_version(path, self.policy.runtime_probe_seconds)
            watched = within(self._seconds(path), lambda: {f: cache.identity(f) for f in files}) or {}
        done = self._complete(fact)
        if _may_be_kept(done) and (done is not fact or entry is None or watched is not entry.watched):
            self._keep(key, cache.Entry(time.time(), watched, to_plain(done)))

        return done

    def _known(self, path: str) -> tuple[Optional[str], Optional[cache.Entry]]:
        """
        Look at a candidate, and for what is known of it.

        Returns:
            Its key, "" when there is no such file and None for no answer; and
            what is known.
        """
        found: dict[str, Any] = {}

        def look() -> bool:
            program = cache.identity(path)
            parts = {"path": path, "real": os.path.realpath(path), "program": program, **self.surroundings}
            key = "" if program is None else cache.key_of(parts)
            found["entry"] = None if self.fresh or not key else cache.recall(key)
            found["key"] = key
            if key and found["entry"] is None and not self.fresh and not self._silent:
                found["entry"] = cache.read(key, self.directories)
            return True

        # One thread for both: when the cache's directory hangs, the key is there.
        if within(self._seconds(path), look) is None and "key" in found:
            self._silent.append(path)

        return found.get("key"), found.get("entry")

    def _seconds(self, path: str) -> float:
        """
        Return the deadline for a candidate; where another on the same network
        file system was silent, it is short.
        """
        slow = [place for place in self.policy.host_network_file_systems if is_below(path, place)]
        hangs = any(is_below(other, place) for other in self._hanging for place in slow)

        return min(self.policy.touch_seconds(path), _HANGING_SECONDS if hangs else float("inf"))

    def _keep(self, key: str, entry: cache.Entry) -> None:
        directories = () if self._silent else self.directories
        cache.keep(key, entry)
        if directories and not within(self.policy.host_touch_seconds, lambda: cache.write(key, entry, directories)):
            self._silent.append(key)

    def _still_good(self, entry: cache.Entry) -> Optional[RuntimeFact]:
        fact = fact_from(entry.fact)
        if fact is None:
            return None
        good = fact.verdict == "works" and all(p is None or p.start == "yes" for p in (fact.tree, fact.file))
        longest = self.policy.runtime_probe_keep_seconds

        return fact if 0 <= cache.age(entry) < (longest if good else min(longest, _KEEP_BAD_SECONDS)) else None

    def _wanted(self, fact: RuntimeFact) -> list[str]:
        """
        List the forms of images from which a container is still to be started.
        """
        if fact.verdict != "works" or problem_of(fact, self.uid, self.node, self.policy, None) is not None:
            return []
        mode = mode_of(fact, self.uid, self.node, self.policy).name

        return [form for form in self.forms if _is_unknown(probe_of(fact, form), mode)]

    def _complete(self, fact: RuntimeFact) -> RuntimeFact:
        """
        Start containers for what is not known yet.
        """
        wanted = self._wanted(fact)
        if not wanted:
            return fact
        mode = mode_of(fact, self.uid, self.node, self.policy).name
        if len(wanted) > 1:
            from concurrent.futures import ThreadPoolExecutor

            with ThreadPoolExecutor(len(wanted)) as pool:
                found = list(pool.map(lambda form: self._probe(fact, form, mode), wanted))
        else:
            found = [self._probe(fact, form, mode) for form in wanted]
        probes: dict[str, Any] = dict(zip(wanted, found))

        return attrs.evolve(fact, **probes)

    def _probe(self, fact: RuntimeFact, form: str, mode: str) -> ProbeFact:
        from wlcg_isolate.host.probe import probe

        product = parse_banner(fact.banner)
        fuse = os.access("/dev/fuse", os.R_OK | os.W_OK, effective_ids=True)

        return probe(
            fact.path,
            form,
            mode=mode,
            machine=self.machine,
            policy=self.policy,
            unpack=mode == "userns" and not fuse and product is not None and not product.lacks(("--unsquash",)),
        )


def fact_from(data: Any) -> Optional[RuntimeFact]:
    """
    Make a fact from plain types; None when they are of another shape.
    """
    try:
        values = dict(data)
        for form in ("tree", "file"):
            values[form] = None if values[form] is None else ProbeFact(**values[form])
        if values["config"] is not None:
            values["config"] = {name: tuple(value) for name, value in values["config"].items()}
        return RuntimeFact(**values)
    except (TypeError, KeyError, ValueError, AttributeError):
        return None


def _is_unknown(probe: Optional[ProbeFact], mode: str) -> bool:
    return probe is None or probe.mode != mode


def _may_be_kept(fact: RuntimeFact) -> bool:
    """
    Tell whether a fact may be kept: no answer today says nothing of tomorrow.
    """
    if fact.verdict not in ("works", "broken"):
        return False

    return all(probe is None or probe.start != "no-answer" for probe in (fact.tree, fact.file))
