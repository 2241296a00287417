"""
The environment as DIRAC has it: its list of what passes, with the same result or one that differences.md explains.

Source: DIRACGrid/DIRAC, Resources/Computing/SingularityComputingElement.py, ENV_VAR_WHITELIST; issues 4764 and 7135.
"""

from __future__ import annotations

import pytest

from wlcg_isolate import load_policy
from wlcg_isolate.environment import Place, Surroundings, decide_environment


@pytest.fixture
def arrives(request_for, facts):
    """Decide under a profile; the working directory and CVMFS are visible."""

    def make(profile, host):
        around = Surroundings(
            facts=facts(environ=host), places=(Place("/scratch/dirac", "/srv"), Place("/cvmfs", "/cvmfs"))
        )
        decisions, _ = decide_environment(request_for(), load_policy(None, profile), around)
        return {d.name: d.value for d in decisions if d.value is not None}

    return make


@pytest.mark.parametrize("profile", ["dirac", "lhcb"])
@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("TERM", "xterm", "xterm"),
        ("XRD_REDIRECTLIMIT", "32", "32"),
        ("XrdSecPROTOCOL", "gsi", "gsi"),
        ("DIRAC_SITE", "LCG.EXAMPLE.org", "LCG.EXAMPLE.org"),
        ("X509_CERT_DIR", "/cvmfs/grid.cern.ch/certs", "/cvmfs/grid.cern.ch/certs"),
        ("X509_VOMSES", "/scratch/dirac/vomses", "/srv/vomses"),
        ("VOMS_PROXY_INFO_DONT_VERIFY_AC", "1", "1"),
        ("DIRACSYSCONFIG", "/scratch/dirac/pilot.cfg", "/srv/pilot.cfg"),
        ("MYTERM", "x", None),
        ("LD_LIBRARY_PATH", "/opt/diracos/lib", None),
        # These differ.
        ("X509_CERT_DIR", "/opt/dirac/etc/grid-security/certificates", None),
        ("X509_USER_PROXY", "/scratch/dirac/proxy", None),
        ("BEARER_TOKEN", "secret", None),
        ("BEARER_TOKEN_FILE", "/scratch/dirac/token", None),
        ("XrdSecCREDS", "secret", None),
        ("DIRAC", "/opt/dirac", None),
        ("DIRACOS", "/opt/diracos", None),
    ],
)
def test_list(arrives, profile, name, value, expected):
    """What DIRAC's list lets pass arrives, but for the pilot's secrets and what cannot be seen."""
    assert expected == arrives(profile, {name: value}).get(name)


@pytest.mark.parametrize(("name", "value"), [("TMP", "/tmp"), ("TMPDIR", "/tmp")])
def test_set(arrives, name, value):
    """What DIRAC always sets is set."""
    assert value == arrives("dirac", {name: "/scratch/dirac/tmp"})[name]
