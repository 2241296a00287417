"""
What each kind is called by pilots and batch systems.

Rules:

1. One table has every kind and every peer.
2. A peer's numbers are those of its own source, named at each.
3. Where a peer has no word of its own for a kind, the nearest one stands in:
   one that sends the job the same way, so that a node's failure never counts
   as the payload's, and what is wrong everywhere is not tried again for ever.
   Such rows are marked with ``~``, and `STAND_INS` says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Optional

#: PanDA: pilot3 (a090538b, 3.11.5.1), pilot/common/errorcodes.py.
PANDA: Mapping[str, int] = {
    "SUCCESS": 0, "NOLOCALSPACE": 1098, "NOSUCHFILE": 1103, "SETUPFAILURE": 1110, "NOPROXY": 1163, "MKDIR": 1199,
    "KILLSIGNAL": 1200, "SIGTERM": 1201, "SIGQUIT": 1202, "SIGSEGV": 1203, "SIGXCPU": 1204, "SIGBUS": 1206,
    "SIGUSR1": 1207, "SIGINT": 1208, "REACHEDMAXTIME": 1213, "PAYLOADEXECUTIONFAILURE": 1305,
    "SINGULARITYGENERALFAILURE": 1306, "SINGULARITYNOLOOPDEVICES": 1307, "SINGULARITYBINDPOINTFAILURE": 1308,
    "SINGULARITYIMAGEMOUNTFAILURE": 1309, "INTERNALPILOTPROBLEM": 1319, "LOGFILECREATIONFAILURE": 1320,
    "PAYLOADSIGSEGV": 1328, "BADQUEUECONFIGURATION": 1341, "RESOURCEUNAVAILABLE": 1344,
    "SINGULARITYFAILEDUSERNAMESPACE": 1345, "TRANSFORMNOTFOUND": 1346, "SINGULARITYRESOURCEUNAVAILABLE": 1348,
    "IMAGENOTFOUND": 1360, "APPTAINERNOTINSTALLED": 1372, "CVMFSISNOTALIVE": 1377,
}  # fmt: skip

#: HTCondor (7491a145): src/condor_utils/condor_holdcodes.h; 1000 and above
#: put the job back in the queue, others hold it.
CONDOR: Mapping[str, int] = {
    "HookPrepareJobFailure": 19, "JobExecuteExceeded": 47, "JobNotStarted": 1003, "ContainerError": 1021,
    "ScratchDirError": 1024,
}  # fmt: skip

#: sysexits.h of 4.3BSD and the GNU C library.
SYSEXITS: Mapping[str, int] = {
    "EX_USAGE": 64, "EX_DATAERR": 65, "EX_NOINPUT": 66, "EX_NOUSER": 67, "EX_UNAVAILABLE": 69, "EX_SOFTWARE": 70,
    "EX_OSERR": 71, "EX_OSFILE": 72, "EX_CANTCREAT": 73, "EX_IOERR": 74, "EX_TEMPFAIL": 75, "EX_NOPERM": 77,
    "EX_CONFIG": 78,
}  # fmt: skip

#: GlideinWMS (efdc530a): doc/factory/validation_xml_output.html, for error_gen.
GLIDEINWMS = ("WN_Resource", "Network", "Config", "VO_Config", "Corruption", "VO_Proxy")

#: OSG (osg-flock ed35cb14): HookStatusCode of ospool-pilot/main/job/prepare-hook.
LOCAL_PERMANENT, LOCAL_TEMPORARY, SERVICE_PERMANENT, SERVICE_TEMPORARY = 300, 400, 500, 600
IMAGE_NOT_IN_CVMFS = 307

#: What a reader of the table should know of the nearest words.
STAND_INS: Mapping[str, str] = {
    "PanDA": (
        "PanDA has no code for a wrong request (INTERNALPILOTPROBLEM), for a variable or an argument that cannot be "
        "delivered (SETUPFAILURE), for an image of another form, architecture, age or checksum "
        "(SINGULARITYIMAGEMOUNTFAILURE, SINGULARITYGENERALFAILURE), nor for a payload's command that cannot be "
        "executed. SINGULARITYGENERALFAILURE is the container software's general code."
    ),
    "HTCondor": (
        "What is wrong everywhere is held as a prepare hook that refused (19) with the sysexits number as its subcode: "
        "HTCondor has no code for a container that was refused. A starter's own test of the runtime uses 45 with "
        "subcode -1000, which also puts the job back in the queue. Ends of the payload itself have no code: HTCondor "
        "reports its exit status."
    ),
    "DIRAC": (
        "S_ERROR has the job rescheduled and counts against the host, so it is given only where another try makes "
        "sense. What is wrong everywhere is S_OK(125), which fails the job once."
    ),
    "OSG": (
        "Local and permanent is 300, local and temporary 400, a service of the site 500 and 600; only 307 (image "
        "missing) has a meaning of its own. Below 300 the job is held: the sysexits number."
    ),
}


class Codes(NamedTuple):
    """
    What one kind is called.

    Attributes:
        panda: A key of `PANDA`.

        exact: Whether PanDA means the same by it.

        condor: A key of `CONDOR`, or None where HTCondor's own report of the
            payload's end says it.

        glideinwms: An error type of GlideinWMS, or None where nothing of the
            node or the configuration failed.

        osg: The HookStatusCode of a prepare hook.

        sysexit: A key of `SYSEXITS`, or None where the payload's own status
            counts.
    """

    panda: str
    exact: bool
    condor: Optional[str]
    glideinwms: Optional[str]
    osg: int
    sysexit: Optional[str]


def _row(
    panda: str, sysexit: str, glideinwms: str, *, osg: int = LOCAL_PERMANENT, condor: str = "JobNotStarted"
) -> Codes:
    return Codes(panda.lstrip("~"), not panda.startswith("~"), condor, glideinwms, osg, sysexit)


def _never(panda: str, sysexit: str, glideinwms: str) -> Codes:
    return _row(panda, sysexit, glideinwms, osg=SYSEXITS[sysexit], condor="HookPrepareJobFailure")


def _runtime(
    panda: str = "SINGULARITYGENERALFAILURE", sysexit: str = "EX_OSERR", glideinwms: str = "WN_Resource",
    *, osg: int = LOCAL_PERMANENT,
) -> Codes:  # fmt: skip
    return _row(panda, sysexit, glideinwms, osg=osg, condor="ContainerError")


def _payload(panda: str, condor: Optional[str] = None) -> Codes:
    return Codes(panda.lstrip("~"), not panda.startswith("~"), condor, None, 0, None)


_REQUEST = _never("~INTERNALPILOTPROBLEM", "EX_DATAERR", "Config")
_POLICY = _never("BADQUEUECONFIGURATION", "EX_CONFIG", "Config")
_NO_SUCH_IMAGE = _never("IMAGENOTFOUND", "EX_CONFIG", "VO_Config")
_UNFIT_IMAGE = _row("~SINGULARITYIMAGEMOUNTFAILURE", "EX_DATAERR", "WN_Resource")
_UNDELIVERABLE = _never("~SETUPFAILURE", "EX_DATAERR", "Config")
_BIND = _never("~SINGULARITYBINDPOINTFAILURE", "EX_CONFIG", "Config")
_BIND_HERE = _row("SINGULARITYBINDPOINTFAILURE", "EX_CONFIG", "WN_Resource")
_RUNTIME_HERE = _row("SINGULARITYGENERALFAILURE", "EX_UNAVAILABLE", "WN_Resource", condor="ContainerError")

TABLE: Mapping[str, Codes] = {
    "usage": _never("~INTERNALPILOTPROBLEM", "EX_USAGE", "Config"),
    "request-invalid": _REQUEST,
    "facts-invalid": _REQUEST,
    "policy-invalid": _POLICY,
    "policy-locked": _POLICY,
    "image-not-named": _NO_SUCH_IMAGE,
    "image-unknown": _NO_SUCH_IMAGE,
    "image-reference-invalid": _never("IMAGENOTFOUND", "EX_DATAERR", "VO_Config"),
    "image-unlisted": _never("~SINGULARITYGENERALFAILURE", "EX_NOPERM", "VO_Config"),
    "image-list-invalid": _never("~SINGULARITYGENERALFAILURE", "EX_CONFIG", "VO_Config"),
    "image-pull-refused": _never("~IMAGENOTFOUND", "EX_NOPERM", "VO_Config"),
    "image-form-unsupported": _never("~SINGULARITYIMAGEMOUNTFAILURE", "EX_DATAERR", "VO_Config"),
    "image-no-shell": _never("~SINGULARITYGENERALFAILURE", "EX_DATAERR", "VO_Config"),
    "gpu-not-allowed": _never("RESOURCEUNAVAILABLE", "EX_NOPERM", "VO_Config"),
    "timeout-too-long": _never("~RESOURCEUNAVAILABLE", "EX_NOPERM", "VO_Config"),
    "bind-target-forbidden": _BIND,
    "bind-source-forbidden": _never("~SINGULARITYBINDPOINTFAILURE", "EX_NOPERM", "Config"),
    "bind-target-duplicate": _BIND,
    "bind-target-impossible": _BIND,
    "bind-inexpressible": _BIND,
    "storage-not-mapped": _BIND,
    "variable-reserved": _UNDELIVERABLE,
    "variable-forbidden": _UNDELIVERABLE,
    "variable-undeliverable": _UNDELIVERABLE,
    "argument-undeliverable": _UNDELIVERABLE,
    "credential-missing": _row("NOPROXY", "EX_NOINPUT", "VO_Proxy"),
    "trace-visible": _never("~SETUPFAILURE", "EX_CONFIG", "Config"),
    "workdir-unsafe": _never("~SETUPFAILURE", "EX_CONFIG", "Config"),
    "job-unproven": _row("~SETUPFAILURE", "EX_NOPERM", "WN_Resource"),
    "image-missing": _row("IMAGENOTFOUND", "EX_NOINPUT", "WN_Resource", osg=IMAGE_NOT_IN_CVMFS),
    "image-not-allowed": _row("~SINGULARITYGENERALFAILURE", "EX_NOPERM", "WN_Resource"),
    "image-other-architecture": _row("~IMAGENOTFOUND", "EX_UNAVAILABLE", "WN_Resource"),
    "image-unreadable": _row("~SINGULARITYIMAGEMOUNTFAILURE", "EX_NOINPUT", "WN_Resource"),
    "image-corrupt": _row("SINGULARITYIMAGEMOUNTFAILURE", "EX_DATAERR", "Corruption"),
    "image-changed": _row("~SINGULARITYIMAGEMOUNTFAILURE", "EX_TEMPFAIL", "Corruption", osg=LOCAL_TEMPORARY),
    "image-digest-mismatch": _row("~SINGULARITYIMAGEMOUNTFAILURE", "EX_DATAERR", "Corruption"),
    "image-unverified": _row("~SINGULARITYGENERALFAILURE", "EX_UNAVAILABLE", "WN_Resource"),
    "image-processor-too-old": _UNFIT_IMAGE,
    "image-kernel-too-old": _UNFIT_IMAGE,
    "image-needs-vsyscall": _UNFIT_IMAGE,
    "image-cannot-be-mounted": _row("SINGULARITYIMAGEMOUNTFAILURE", "EX_OSFILE", "WN_Resource"),
    "image-no-answer": _row("~CVMFSISNOTALIVE", "EX_IOERR", "Network", osg=SERVICE_TEMPORARY),
    "image-wrong-architecture": _UNFIT_IMAGE,
    "workdir-missing": _row("NOSUCHFILE", "EX_OSFILE", "WN_Resource", condor="ScratchDirError"),
    "workdir-not-writable": _row("MKDIR", "EX_CANTCREAT", "WN_Resource", condor="ScratchDirError"),
    "bind-source-missing": _BIND_HERE,
    "repository-missing": _row("CVMFSISNOTALIVE", "EX_UNAVAILABLE", "Network", osg=SERVICE_PERMANENT),
    "binds-disabled": _BIND_HERE,
    "bind-source-no-answer": _row("SINGULARITYBINDPOINTFAILURE", "EX_IOERR", "Network", osg=SERVICE_TEMPORARY),
    "bind-target-no-layer": _BIND_HERE,
    "runtime-missing": _row("APPTAINERNOTINSTALLED", "EX_UNAVAILABLE", "WN_Resource", condor="ContainerError"),
    "runtime-broken": _RUNTIME_HERE,
    "runtime-too-old": _RUNTIME_HERE,
    "runtime-no-answer": _RUNTIME_HERE,
    "identity-unreadable": _row("NOPROXY", "EX_NOINPUT", "VO_Proxy"),
    "identity-unprotected": _row("~SETUPFAILURE", "EX_CONFIG", "Config"),
    "trace-unwritable": _row("LOGFILECREATIONFAILURE", "EX_CANTCREAT", "WN_Resource"),
    "trace-unreadable": _never("~SETUPFAILURE", "EX_DATAERR", "Config"),
    "trace-undelivered": _row("~LOGFILECREATIONFAILURE", "EX_IOERR", "Network", osg=SERVICE_TEMPORARY),
    "root-refused": _row("~SINGULARITYGENERALFAILURE", "EX_NOPERM", "Config"),
    "nesting-refused": _row("~SINGULARITYGENERALFAILURE", "EX_NOPERM", "Config"),
    "limit-unavailable": _row("RESOURCEUNAVAILABLE", "EX_UNAVAILABLE", "WN_Resource"),
    "user-namespaces-disabled": _runtime("SINGULARITYFAILEDUSERNAMESPACE"),
    "user-namespaces-exhausted": _runtime("SINGULARITYRESOURCEUNAVAILABLE", osg=LOCAL_TEMPORARY),
    "pid-namespace-unavailable": _runtime(),
    "network-unavailable": _runtime(),
    "loop-devices-exhausted": _runtime("SINGULARITYNOLOOPDEVICES", osg=LOCAL_TEMPORARY),
    "cvmfs-broken": _runtime("CVMFSISNOTALIVE", "EX_IOERR", "Network", osg=SERVICE_TEMPORARY),
    "image-slow": _runtime("SINGULARITYIMAGEMOUNTFAILURE", "EX_TEMPFAIL", "Network", osg=SERVICE_TEMPORARY),
    "cpu-too-old": _runtime(sysexit="EX_UNAVAILABLE"),
    "kernel-too-old": _runtime(sysexit="EX_UNAVAILABLE"),
    "runtime-forbids": _runtime(sysexit="EX_NOPERM"),
    "runtime-privileges": _runtime(sysexit="EX_NOPERM"),
    "bind-failed": _runtime("SINGULARITYBINDPOINTFAILURE"),
    "bind-not-seen": _runtime("SINGULARITYBINDPOINTFAILURE"),
    "image-unusable": _runtime("SINGULARITYIMAGEMOUNTFAILURE", "EX_DATAERR"),
    "fuse-unavailable": _runtime("SINGULARITYIMAGEMOUNTFAILURE"),
    "no-space": _runtime("NOLOCALSPACE", "EX_CANTCREAT", osg=LOCAL_TEMPORARY),
    "user-unknown": _runtime(sysexit="EX_NOUSER", osg=SERVICE_TEMPORARY),
    "runtime-option": _runtime(sysexit="EX_UNAVAILABLE"),
    "runtime-vanished": _runtime("APPTAINERNOTINSTALLED", "EX_UNAVAILABLE"),
    "runtime-killed": _runtime(sysexit="EX_TEMPFAIL", osg=LOCAL_TEMPORARY),
    "runtime-hung": _runtime(),
    "isolation-incomplete": _runtime(sysexit="EX_CONFIG"),
    "loader-refused": _runtime(),
    "start-forged": _never("SINGULARITYGENERALFAILURE", "EX_DATAERR", "Corruption"),
    "runtime-failed": _runtime(sysexit="EX_SOFTWARE"),
    "stopped-before-start": Codes("KILLSIGNAL", exact=True, condor="JobNotStarted", glideinwms=None,
                                  osg=LOCAL_TEMPORARY, sysexit="EX_TEMPFAIL"),
    "success": _payload("SUCCESS"),
    "exit-nonzero": _payload("PAYLOADEXECUTIONFAILURE"),
    "command-not-found": _payload("TRANSFORMNOTFOUND"),
    "command-not-executable": _payload("~PAYLOADEXECUTIONFAILURE"),
    "ended-by-signal": _payload("PAYLOADEXECUTIONFAILURE"),
    "time-limit": _payload("REACHEDMAXTIME", "JobExecuteExceeded"),
    "stopped": _payload("KILLSIGNAL"),
    "end-unseen": _runtime(sysexit="EX_SOFTWARE", osg=LOCAL_TEMPORARY),
    "runtime-lost": _runtime(sysexit="EX_TEMPFAIL", osg=LOCAL_TEMPORARY),
}  # fmt: skip
