"""
Found by DIRAC for ``LocalCEType = Isolated``.
"""

from wlcg_isolate.pilots.dirac.element import IsolatedComputingElement

__all__ = ["IsolatedComputingElement"]
