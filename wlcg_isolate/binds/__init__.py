"""
Which binds, in which order, and why one is left out.

Rules:

1. The working directory has the place that policy names; the private
   ``/tmp`` and ``/var/tmp`` belong to it.
2. Parents come before children: Apptainer up to 1.1 and SingularityCE mount
   in the order of the command line.  The runtime is given the places
   themselves, since it would sort by the names of links.
3. The first bind at a place wins.  A required one that loses refuses the
   payload, unless it asks for the same thing.
4. Targets are judged inside the image's own root, and sources by where they
   really are.
5. Nothing is left to what a version of the runtime makes of a bind that does
   not fit: silence, a warning or a failure.
"""

from __future__ import annotations

from wlcg_isolate.binds.deciding import decide_binds
from wlcg_isolate.binds.decision import BindDecision
from wlcg_isolate.binds.given import given_binds
from wlcg_isolate.binds.held import held_open
from wlcg_isolate.binds.sources import EXPOSING

__all__ = ["EXPOSING", "BindDecision", "decide_binds", "given_binds", "held_open"]
