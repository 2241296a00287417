"""
Families of variables: what a host has, what becomes of it, and who found out.

Rules:

1. The first row that matches a name counts.
2. A row says what a variable *is*; whether it passes is for policy and
   request.  Only ``never`` and ``secret`` stand above them.
3. Patterns are names, with ``*`` for any part of one.
4. No name in a row is out of reach behind an earlier row.

Sources that are issue threads are named as project and number.
"""

from __future__ import annotations

from wlcg_isolate._families.control import CONTROL
from wlcg_isolate._families.places import PLACES
from wlcg_isolate._families.row import CLASSES, Family
from wlcg_isolate._families.secrets import SECRETS
from wlcg_isolate._families.software import SOFTWARE
from wlcg_isolate._families.values import VALUES

__all__ = ["CLASSES", "FAMILIES", "Family"]

FAMILIES: tuple[Family, ...] = (*CONTROL, *SECRETS, *PLACES, *SOFTWARE, *VALUES)
