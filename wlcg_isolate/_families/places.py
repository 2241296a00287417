"""
What names places, and is right inside when the payload can see the place.
"""

from __future__ import annotations

from wlcg_isolate._families.row import Family

PLACES: tuple[Family, ...] = (
    Family(
        "certificates",
        "path",
        "X509_CERT_DIR X509_VOMS_DIR X509_VOMSES VOMS_* SSL_CERT_FILE SSL_CERT_DIR CURL_CA_BUNDLE "
        "REQUESTS_CA_BUNDLE GIT_SSL_CAINFO NODE_EXTRA_CA_CERTS PIP_CERT AWS_CA_BUNDLE",
        "names certificates, which must be visible inside",
        "DIRAC 4721, 7135; hermes-agent 94402",
    ),
    Family(
        "settings-files",
        "path",
        "XRD_PLUGINCONFDIR XRD_PLUGIN XRD_CONFDIR KRB5_CONFIG CONDOR_CONFIG DIRACSYSCONFIG RUCIO_CONFIG",
        "names settings, which must be visible inside",
        "glideinwms singularity_setup_inside; DIRAC 7135",
    ),
    Family(
        "batch-paths",
        "path",
        "_CONDOR_JOB_AD _CONDOR_MACHINE_AD _CONDOR_SCRATCH_DIR _CONDOR_JOB_IWD _CONDOR_EXECUTE _CONDOR_CHIRP_CONFIG",
        "names a place of the batch job",
        "glideinwms singularity_lib.sh; HTCondor retargetEnvs",
    ),
    Family(
        "batch-output",
        "output",
        "_CONDOR_WRAPPER_ERROR_FILE _CONDOR_STDOUT _CONDOR_STDERR FRONTIER_LOG_FILE",
        "names a file that the job writes",
        "HTCondor USER_JOB_WRAPPER; frontier_client",
    ),
    Family(
        "software-areas",
        "path",
        "CVMFS_MOUNT_DIR ATLAS_SW_BASE ATLAS_LOCAL_AREA VO_*_SW_DIR OSG_APP OSG_GRID",
        "names an area of software",
        "glideinwms; pilot-wrapper",
    ),
    Family(
        "temporary",
        "scratch",
        "TMPDIR TMP TEMP TEMPDIR GFORTRAN_TMPDIR OSG_WN_TMP",
        "names a directory of the host; TMPDIR is set for each payload",
        "gwms 61; nextflow 1997, 4587",
    ),
)
