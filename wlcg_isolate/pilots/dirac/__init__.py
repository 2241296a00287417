"""
DIRAC: payloads of its job agent.

Rules:

1. What DIRAC's own computing element for containers reads of the
   configuration means here what it means there, or refuses the job; nothing
   that is asked for is left out in silence.
2. Only the modules `element`, `configured` and `pool` import DIRAC, and they
   need it; the rest runs without.
3. DIRAC's contract holds: ``S_OK`` with the payload's exit status when it
   ran to its end, and ``S_ERROR`` when the job is to be rescheduled.
"""

from __future__ import annotations

from wlcg_isolate.pilots.dirac.images import resolve_image
from wlcg_isolate.pilots.dirac.settings import Job, binds_of, options_of, request_for, result_of

__all__ = ["Job", "binds_of", "options_of", "request_for", "resolve_image", "result_of"]
