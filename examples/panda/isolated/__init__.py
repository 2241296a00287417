"""
A user plug-in of PanDA's pilot 3 whose payloads run isolated: the generic
one, but for the two modules here.

Put this directory into the pilot's ``pilot/user`` and start the pilot with
``--pilot-user isolated``.
"""

from __future__ import annotations

from pilot.user import generic

__path__.extend(generic.__path__)
