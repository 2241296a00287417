"""
The only starter of payloads: start, watch, signal, reap, time out.
"""

from __future__ import annotations

from wlcg_isolate.launch.container import Container, Ready, start

__all__ = ["Container", "Ready", "start"]
