"""
Run the command line: ``python -m wlcg_isolate``.
"""

from __future__ import annotations

import sys

from wlcg_isolate.cli import main

sys.exit(main())
