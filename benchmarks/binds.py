"""
What it costs to plan 60 binds: to look at sources and targets, and to decide.

The floor is one lstat for each component of all paths in the same run; fewer
looks there cannot be.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from functools import partial
from typing import Any, Callable

from wlcg_isolate import Bind, Payload, Policy, Request
from wlcg_isolate.binds import decide_binds
from wlcg_isolate.host.facts import HostFacts, ImageFact, PathFact
from wlcg_isolate.host.rootfs import look_inside
from wlcg_isolate.host.showing import below_sources, sources
from wlcg_isolate.host.touch import look_at_all
from wlcg_isolate.images.tree import Tree

BINDS = 60
ROUNDS = 200

#: Milliseconds in which 60 binds are planned, on a machine that does nothing else.
MOST = 2.0


def _make(place: str) -> tuple[Request, str]:
    """
    Make sources, and an image with two of three targets.
    """
    binds = []
    for i in range(BINDS):
        source, target = f"{place}/storage/group-{i % 6}/data-{i}", f"/mnt/group-{i % 6}/data-{i}"
        os.makedirs(source)
        if i % 3:
            os.makedirs(f"{place}/image{target}")
        binds.append(Bind(source=source, target=target))
    os.makedirs(f"{place}/work")
    request = Request(payload=Payload(command=("true",)), image=f"{place}/image", workdir=f"{place}/work", binds=binds)

    return request, f"{place}/image"


def plan_binds(request: Request, policy: Policy, image: str, workdir: str) -> int:
    """
    Look at all that binds need, and decide on them.

    Returns:
        How many are mounted.
    """
    shown = sources(request, policy, workdir)
    places = [workdir, *(source for roots in shown.values() for source in roots)]
    look = partial(look_at_all, deadline=policy.touch_seconds, light=frozenset(places))
    paths = look(places)
    tree = Tree(image)
    wanted = dict.fromkeys((*shown, "/tmp", "/var/tmp"))
    targets = {path: look_inside(tree, path) for path in wanted}
    below = set(below_sources(shown, targets)) - paths.keys()
    paths |= look(below) if below else {}
    facts = HostFacts(
        hostname="node",
        machine="x86_64",
        kernel="5.14",
        uid=os.geteuid(),
        gid=os.getegid(),
        cwd=workdir,
        environ={},
        runtimes=(),
        image=ImageFact(requested=image, root=PathFact(path=image, state="present"), form="tree", targets=targets),
        paths=paths,
    )
    binds, problems = decide_binds(request, policy, facts, workdir)

    return 0 if problems else sum(bind.decision == "mount" for bind in binds)


def components(request: Request, image: str) -> list[str]:
    """
    List every component of all paths, each once.
    """
    found: dict[str, None] = {}
    for bind in request.binds:
        for path in (bind.source, image + bind.target):
            parts = path.split("/")
            found.update((("/".join(parts[: i + 1])), None) for i in range(1, len(parts)))

    return list(found)


def _milliseconds(function: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    function()

    return (time.perf_counter() - begin) * 1000


def main() -> int:
    """
    Print the medians and their ratio.
    """
    with tempfile.TemporaryDirectory() as place:
        request, image = _make(place)
        policy = Policy(bind_default=())
        workdir = f"{place}/work"
        if plan_binds(request, policy, image, workdir) != BINDS + 1:
            sys.exit("not all binds are mounted: nothing to measure")

        def floor() -> None:
            for path in components(request, image):
                os.path.lexists(path)

        times = [
            (_milliseconds(floor), _milliseconds(lambda: plan_binds(request, policy, image, workdir)))
            for _ in range(ROUNDS)
        ]
    least, plan = (statistics.median(column) for column in zip(*times))
    best = min(row[1] for row in times)
    print(f"one look at each component:   {least:.2f} ms")
    print(f"plan {BINDS} binds, warm:         {plan:.2f} ms (best {best:.2f}), ratio {plan / least:.1f}")

    return int(best >= MOST)


if __name__ == "__main__":
    sys.exit(main())
