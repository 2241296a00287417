"""
The first ring: decisions on values made by hand, and the readers of the machine.

Nothing here starts a runtime; a node is a `HostFacts`.
"""

from __future__ import annotations

import pytest

from wlcg_isolate import Payload, Request
from wlcg_isolate.host import HostFacts, ImageFact, PathFact, RuntimeFact, TargetFact


def _directory(path, **more):
    return PathFact(**{"path": path, "state": "present", "kind": "directory", "resolved": path, **_RIGHTS, **more})


_RIGHTS = {"readable": True, "writable": True}

_TARGETS = {
    "/bin/sh": "file",
    "/srv": "directory",
    "/tmp": "directory",
    "/var/tmp": "directory",
    "/cvmfs": "directory",
}


def _image(**overrides):
    return ImageFact(
        **{
            "requested": "/image",
            "root": _directory("/image", writable=False),
            "form": "tree",
            "machine": "x86_64",
            "targets": {path: TargetFact(path=path, kind=kind, resolves_to=path) for path, kind in _TARGETS.items()},
            **overrides,
        }
    )


def _facts(**overrides):
    paths = {path: _directory(path) for path in ("/work", "/trace")}
    paths["/image"] = _directory("/image", writable=False)
    paths["/cvmfs"] = _directory("/cvmfs", writable=False)
    paths["/dev/fuse"] = PathFact(path="/dev/fuse", state="present", kind="other", resolved="/dev/fuse", **_RIGHTS)
    values = {
        "hostname": "node",
        "machine": "x86_64",
        "kernel": "5.14.0-427.el9.x86_64",
        "uid": 1000,
        "gid": 1000,
        "cwd": "/work",
        "environ": {},
        "runtimes": (RuntimeFact(path="/usr/bin/apptainer", verdict="works", banner="apptainer version 1.4.5"),),
        "image": _image(),
        "sysctl": {
            "user.max_user_namespaces": "15000",
            "kernel.unprivileged_userns_clone": None,
            "kernel.apparmor_restrict_unprivileged_userns": None,
        },
        **overrides,
    }
    values["paths"] = {**paths, **overrides.get("paths", {})}

    return HostFacts(**values)


@pytest.fixture
def facts():
    """Make the facts of a good node; *paths* adds to what was looked at."""
    return _facts


@pytest.fixture
def image_fact():
    """Make the fact of a good image."""
    return _image


@pytest.fixture
def present():
    """Make the look at a directory that is there and belongs to the user."""
    return _directory


@pytest.fixture
def request_for():
    """
    Make a request that the good node can run.

    It cannot be named ``request``, which pytest keeps for itself.
    """

    def make(*command, **overrides):
        return Request(
            **{
                "payload": Payload(command=command or ("true",)),
                "image": "/image",
                "workdir": "/work",
                "trace_dir": "/trace",
                **overrides,
            }
        )

    return make
