"""
Found by DIRAC for ``LocalCEType = Singularity``: with this module, no
configuration has to change.
"""

from wlcg_isolate.pilots.dirac.element import IsolatedComputingElement as SingularityComputingElement

__all__ = ["SingularityComputingElement"]
