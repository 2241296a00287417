"""
What depends on image or payload, and what means the same everywhere.
"""

from __future__ import annotations

from wlcg_isolate._families.row import Family

VALUES: tuple[Family, ...] = (
    Family(
        "locale",
        "locale",
        "LC_* LANG LANGUAGE",
        "names a locale that the image may not have",
        "singularity 11, 645",
    ),
    Family(
        "gpu",
        "gpu",
        "CUDA_VISIBLE_DEVICES NVIDIA_* ROCR_VISIBLE_DEVICES HIP_VISIBLE_DEVICES GPU_DEVICE_ORDINAL ZE_AFFINITY_MASK",
        "says which GPUs are meant",
        "osg-flock default-image",
    ),
    Family(
        "mpi",
        "mpi",
        "SLURM_* SLURMD_* PBS_* PALS_* LSB_* LSF_* LS_JOBPID LS_SUBCWD SGE_* PE_HOSTFILE NSLOTS NHOSTS PMI_* PMIX_* "
        "PMI2_* OMPI_* MPI_* MPICH_* I_MPI_* MV2_* HYDRA_* HYDI_* UCX_* FI_* ORTE_* PRTE_*",
        "makes programs think that a batch system started them as part of a parallel job",
        "singularity 5118, 5203",
    ),
    Family(
        "identity",
        "value",
        "USER LOGNAME TERM COLORTERM TZ COLUMNS LINES",
        "means the same in every image",
        "apptainer create.go; glideinwms (TZ)",
    ),
    Family(
        "network",
        "value",
        "http_proxy https_proxy ftp_proxy no_proxy all_proxy HTTP_PROXY HTTPS_PROXY FTP_PROXY NO_PROXY ALL_PROXY "
        "GLOBUS_TCP_PORT_RANGE GLOBUS_TCP_SOURCE_RANGE FRONTIER_SERVER",
        "says how the network is reached from here",
        "apptainer create.go; Globus",
    ),
    Family(
        "resources",
        "value",
        "OMP_* MKL_NUM_THREADS MKL_DYNAMIC OPENBLAS_NUM_THREADS NUMEXPR_NUM_THREADS BLIS_NUM_THREADS "
        "VECLIB_MAXIMUM_THREADS GOMAXPROCS RAYON_NUM_THREADS ATHENA_* ncores",
        "says how much of the node is meant",
        "OpenMP; ATLAS pilot",
    ),
    Family(
        "experiment",
        "value",
        "XRD_* Xrd* RUCIO_* PANDA* Panda* PanDA* ATLAS_* HARVESTER_* CMS_* LHCB_* ALICE_* ALIEN_* DIRAC_* GLIDEIN_* "
        "OSG_* OSGVO_* GWMS_* JALIEN_* APMON_* PILOT_* SITE_NAME GTAG VO CVMFS_* STASHCACHE* POSIXSTASHCACHE*",
        "belongs to an experiment, whose profile says whether it passes",
        "DIRAC 7135; pilot-wrapper; glideinwms",
    ),
)
