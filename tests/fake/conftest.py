"""
The second ring: a fake runtime, with real processes and real signals.

The fake makes real namespaces with ``unshare`` and runs the command in them,
on the host's own files but for the working directory, which it binds as it
must; around that it behaves as each test wants.
"""

from __future__ import annotations

import stat

import pytest

from wlcg_isolate import Payload, Request
from wlcg_isolate.host import cache
from wlcg_isolate.launch import confinement

SCRIPT = """\
#!/bin/sh
case $1 in
--version) echo "{banner}"; exit {version_status} ;;
buildcfg) echo "{config}"; exit 0 ;;
esac
case $* in
*' /wlcg-probe')
    echo probe >>"{calls}"
    for word; do image=$last; last=$word; done
    {probe} ;;
esac
echo run >>"{calls}"
until [ "$1" = /bin/sh ] || [ "$1" = /proc/self/fd/8 ]; do
    case $1 in type=bind,src=*,dst=/srv) work=${{1#type=bind,src=}}; export work="${{work%,dst=/srv}}" ;; esac
    shift
done
{behaviour}
"""

#: Makes all namespaces that a container must have.
ISOLATE = (
    "exec unshare --user --map-root-user --mount --ipc --pid --fork --mount-proc --kill-child "
    '/bin/sh -c \'mount --bind "$work" /srv; unset work; exec "$@"\' sh "$@"'
)


@pytest.fixture
def isolate():
    """Say in shell how the fake makes a container."""
    return ISOLATE


@pytest.fixture
def watched():
    """Ask for all looks at a container; a fake is a container by its namespaces only."""


@pytest.fixture(autouse=True)
def _namespaces_are_enough(request, monkeypatch):
    """Look at a fake's namespaces, and not for powers and places, which it leaves as they are on the host."""
    if "watched" not in request.fixturenames:
        monkeypatch.setattr(confinement, "_powers", lambda *_: iter(()))
        monkeypatch.setattr(confinement, "_places", lambda *_: iter(()))


#: Starts the library's test program as it should; no layer creates its missing target.
PROBE = (
    'exec unshare --user --map-current-user --mount --ipc --pid --fork --mount-proc --kill-child "$image/wlcg-probe"'
)


@pytest.fixture(autouse=True)
def _nothing_known():
    """Let no test know what another has found out."""
    cache.forget()


@pytest.fixture
def fake(tmp_path):
    """Write a fake runtime and return its path."""

    def make(behaviour=ISOLATE, *, name="apptainer", **more):
        program = tmp_path / name
        values = {
            "banner": "apptainer version 1.4.5",
            "config": "APPTAINER_SUID_INSTALL=0",
            "version_status": 0,
            "probe": PROBE,
            "behaviour": behaviour,
            "calls": tmp_path / "calls",
            **more,
        }
        text = SCRIPT.format(**values)
        program.write_text(text)
        program.chmod(program.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)

        return str(program)

    return make


@pytest.fixture
def tree(tmp_path):
    """Make what passes for a tree image: the fake uses the host's files."""
    root = tmp_path / "image"
    for name in ("bin", "srv", "tmp", "var/tmp"):
        (root / name).mkdir(parents=True)
    (root / "bin" / "sh").write_text("#!/bin/sh\n")

    return str(root)


@pytest.fixture
def request_for(tmp_path, tree):
    """Make a request for a payload under a fake runtime."""
    workdir = tmp_path / "work"
    workdir.mkdir()

    def make(runtime, *command, **more):
        return Request(
            **{
                "payload": Payload(command=command or ("true",)),
                "image": tree,
                "workdir": workdir,
                "trace_dir": tmp_path / "trace",
                "runtime": runtime,
                **more,
            }
        )

    return make
