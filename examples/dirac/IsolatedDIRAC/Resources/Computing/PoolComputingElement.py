"""
Found by DIRAC for ``LocalCEType = Pool/Isolated`` and ``Pool/Singularity``.
"""

from wlcg_isolate.pilots.dirac.pool import PoolComputingElement

__all__ = ["PoolComputingElement"]
