"""
The scripts with which PanDA's pilot moves files in a container.

Rules:

1. They run with the pilot's credentials, from a directory in which a payload
   could write: nothing that lies there is executed.
"""

from __future__ import annotations

import os
import shlex

from wlcg_isolate.errors import RequestError
from wlcg_isolate.pilots.cric import invalid
from wlcg_isolate.request import Bind

__all__ = ["is_transfer", "of_the_site", "trusted"]

#: Labels of what the pilot's scripts do.
_TRANSFERS = ("stage-in", "stage-out")

#: What those want to know of the site.  Source: PanDAWMS/pilot3, pilot/user/atlas/container.py,
#: get_middleware_container_script.
_OF_THE_SITE = ("PILOT_RUCIO_SITENAME",)

#: Where the pilot has copied itself to.  Source: PanDAWMS/pilot3, pilot/util/middleware.py, get_command.
_COPY = "/srv/pilot"

#: Load the pilot's package, and no other module of the working directory.  With -s there is none before the first line.
_RUN = (
    "import sys; sys.path[:] = [place for place in sys.path if place and not (place + '/').startswith('/srv/')]; "
    "import importlib.util, runpy; "
    f"found = importlib.util.spec_from_file_location('pilot', '{_COPY}/__init__.py', "
    f"submodule_search_locations=['{_COPY}']); "
    "sys.modules['pilot'] = importlib.util.module_from_spec(found); "
    "found.loader.exec_module(sys.modules['pilot']); "
    "sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
)


def is_transfer(cmd: str, label: str) -> bool:
    """
    Tell whether it is a script of the pilot's, as its own functions name it.
    """
    return label in _TRANSFERS and cmd.startswith("./")


def trusted(cmd: str) -> tuple[str, tuple[Bind, ...]]:
    """
    Have the pilot's script start from the pilot's own source.

    Its copy in the working directory, where the script expects it, is covered
    by that source.

    Returns:
        The line for bash, and what it needs to be shown.

    Raises:
        RequestError: The pilot's source is not where the pilot looks for it.
    """
    script, _, arguments = cmd[len("./") :].partition(" ")
    # As the pilot does.  Source: PanDAWMS/pilot3, pilot/util/filehandling.py, copy_pilot_source.
    source = os.path.realpath(os.path.join(os.environ.get("PILOT_SOURCE_DIR", "."), "pilot3", "pilot"))
    if "/" in script or not os.path.isfile(os.path.join(source, "scripts", script)):
        raise RequestError([invalid("PILOT_SOURCE_DIR", f"leads to no {script!r} in {source}")])
    words = ("python3", "-s", "-c", _RUN, f"{_COPY}/scripts/{script}")

    bind = Bind(source=source, target=_COPY, writable=False, origin="the pilot")

    return f"{shlex.join(words)} {arguments}", (bind,)


def of_the_site() -> dict[str, str]:
    """
    Give the variables that transfers get of the pilot's.
    """
    return {name: os.environ[name] for name in _OF_THE_SITE if name in os.environ}
