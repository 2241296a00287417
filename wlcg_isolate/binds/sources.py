"""
Whether a source may be shown to a payload, and is there.

Rules:

1. Every path is compared by its name and by where it really is, the
   forbidden ones as well.
2. What is forbidden is refused whether or not it exists.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Optional

import attrs

from wlcg_isolate._values import is_below
from wlcg_isolate.binds.decision import Wish
from wlcg_isolate.errors import Problem
from wlcg_isolate.host.facts import HostFacts, PathFact
from wlcg_isolate.host.pilot import credential_places
from wlcg_isolate.policy import Policy

#: Host directories that show the whole node, its devices, or what everybody
#: on it keeps for a moment.
EXPOSING = ("/", "/proc", "/sys", "/dev", "/dev/shm", "/run", "/var/run", "/tmp", "/var/tmp")

#: As the former, with all that is in them: processes and their files; sockets
#: and states of those who rule the node and its containers.
_EXPOSING_WITH_ALL = (
    "/proc",
    "/sys",
    *(
        f"{run}/{name}"
        for run in ("/run", "/var/run")
        for name in ("containerd", "crio", "dbus", "docker", "docker.sock", "lock", "podman", "systemd", "udev", "user")
    ),
)


_WHOLE_NODE = frozenset((*EXPOSING, *_EXPOSING_WITH_ALL))
_BELOW = tuple(f"{path}/" for path in _EXPOSING_WITH_ALL)


@attrs.frozen(kw_only=True)
class Forbidden:
    """
    A path that no payload may see.

    Attributes:
        path: The path.

        what: What is there, in words.

        advice: What to do instead.

        whole: Whether all that is below it is forbidden as well.

        everybody: Whether it holds for the working directory as well.

        site_may: Whether the site may show it nevertheless, since it knows
            what else is there: one file system often holds all data.
    """

    path: str
    what: str
    advice: str
    whole: bool = False
    everybody: bool = False
    site_may: bool = False


_NEEDED = "bind the directory that is needed"


def forbidden_paths(policy: Policy, facts: HostFacts, workdir: str) -> tuple[Forbidden, ...]:
    """
    List what no source may show, each in every spelling that is known.
    """
    found: dict[tuple[str, bool], Forbidden] = {}
    for item in (*_by_policy(policy), *_of_pilot(facts, workdir)):
        for path in (item.path, facts.resolved(item.path)):
            found.setdefault((path, item.whole), attrs.evolve(item, path=path))

    return tuple(found.values())


def _by_policy(policy: Policy) -> Iterator[Forbidden]:
    for path in policy.bind_forbidden_sources:
        what = f"{path}, which policy forbids"
        yield Forbidden(path=path, what=what, advice="leave it out, or ask the site", whole=True, everybody=True)


def _of_pilot(facts: HostFacts, workdir: str) -> Iterator[Forbidden]:
    for name, path in credential_places(facts.environ):
        fact = facts.paths.get(path)
        if fact is not None and fact.state != "missing" and not is_below(path, workdir):
            yield Forbidden(
                path=path,
                what=f"the pilot's credentials ({name})",
                advice="hand them over with --credential",
                whole=True,
            )
    for place in dict.fromkeys((workdir, facts.resolved(workdir))):
        if os.path.dirname(place) != "/":
            what = "the working directories of other payloads beside this one's"
            yield Forbidden(path=os.path.dirname(place), what=what, advice=_NEEDED, site_may=True)
    if facts.cwd is not None and facts.cwd != "/" and not is_below(facts.cwd, workdir):
        yield Forbidden(path=facts.cwd, what="the pilot's own working directory", advice=_NEEDED, site_may=True)


def shows_forbidden(wish: Wish, spellings: set[str], forbidden: Iterable[Forbidden]) -> Optional[Problem]:
    """
    Tell which forbidden path a source shows.

    Args:
        wish: The bind.

        spellings: The source by its name and by where it really is.

        forbidden: What `forbidden_paths` gave, or a part of it.
    """
    for item in forbidden:
        for path in () if item.site_may and wish.by_site else spellings:
            if is_below(item.path, path) or (item.whole and is_below(path, item.path)):
                return wish.problem("bind-source-forbidden", f"{wish.source} shows {item.what}", item.advice)

    return None


def shows_node(wish: Wish, spellings: set[str]) -> Optional[Problem]:
    """
    Tell whether a source shows the whole node, or what rules it.
    """
    if any(path in _WHOLE_NODE or path.startswith(_BELOW) for path in spellings):
        why = f"{wish.source} shows the payload the whole node or its processes"
        return wish.problem("bind-source-forbidden", why, _NEEDED)

    return None


def against_policy(wish: Wish, spellings: set[str], policy: Policy, facts: HostFacts) -> Optional[Problem]:
    """
    Tell what policy says against showing a source in this way.
    """
    for root in policy.bind_read_only if wish.bind.writable else ():
        if _touches(spellings, {root, facts.resolved(root)}):
            why = f"policy lets nobody write to {root} through {wish.source}"
            return wish.problem("bind-source-forbidden", why, "leave it out, or ask the site")
    for root in () if policy.storage_mapped else policy.storage_posix:
        if _touches(spellings, {root, facts.resolved(root)}):
            return wish.problem(
                "storage-not-mapped",
                f"{root} decides by the user's number, which all payloads of the pilot share, and policy does not say "
                f"that the site maps it",
                "let payloads use XRootD (root://) or HTTP (davs://) with their own credentials, "
                "or have the site set storage.mapped",
            )

    return None


def _touches(spellings: set[str], roots: set[str]) -> bool:
    return any(is_below(path, root) or is_below(root, path) for path in spellings for root in roots)


def not_there(wish: Wish, fact: Optional[PathFact]) -> Optional[Problem]:
    """
    Tell why a source cannot be used as it is, or None when it can.
    """
    source = wish.source
    if fact is not None and fact.state == "no-answer":
        return wish.problem(
            "bind-source-no-answer",
            f"bind source {source} gives no answer: {fact.reason}",
            "check the file system that it lies on",
        )
    if fact is not None and fact.present:
        return None
    state = "does not exist on this node"
    if fact is not None and fact.is_link:
        state = f"is a link that leads to nothing ({fact.reason})"
    elif fact is not None and fact.state == "unreadable":
        state = f"cannot be looked at: {fact.reason}"

    return wish.problem(
        "bind-source-missing",
        f"bind source {source} {state}",
        "correct the path, or use --bind-if-present where the payload can do without",
    )
