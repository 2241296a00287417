"""
How payloads are started.
"""

from __future__ import annotations

from wlcg_isolate.pilots.panda import (
    create_middleware_container_command,
    create_stagein_container_command,
    do_use_container,
    wrapper,
)

__all__ = ["create_middleware_container_command", "create_stagein_container_command", "do_use_container", "wrapper"]
