"""
Where policy files are when nobody names them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

#: A site's file.
SITE_FILE = "/etc/wlcg_isolate/site.toml"

#: Variables that name files when the caller does not; empty means none.
SITE_VARIABLE = "WLCG_ISOLATE_SITE"
EXPERIMENT_VARIABLE = "WLCG_ISOLATE_EXPERIMENT"


def any_file(environ: Mapping[str, str]) -> bool:
    """
    Tell whether there are files that nobody named.

    Where there are none, the readers need not be imported.
    """
    if environ.get(SITE_VARIABLE) or environ.get(EXPERIMENT_VARIABLE):
        return True

    return SITE_VARIABLE not in environ and os.path.lexists(SITE_FILE)
