"""
What became of them.
"""

from __future__ import annotations

from pilot.user.generic.diagnose import get_log_extracts

from wlcg_isolate.pilots.panda import interpret

__all__ = ["get_log_extracts", "interpret"]
