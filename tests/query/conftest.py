"""
Records of a site that never was, as JSON lines and as Parquet.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
from pathlib import Path

import pytest

from wlcg_isolate.trace.query.export import export_parquet

_SPEC = importlib.util.spec_from_file_location("records", Path(__file__).parent / "records.py")
RECORDS = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(RECORDS)


@pytest.fixture(scope="session")
def made():
    """The module that makes records."""
    return RECORDS


@pytest.fixture(scope="session")
def site():
    """The site."""
    return RECORDS.Site()


@pytest.fixture(scope="session")
def lines(site, tmp_path_factory):
    """Its records as pilots wrote them."""
    place = tmp_path_factory.mktemp("lines")
    site.write(place)

    return str(place)


@pytest.fixture(scope="session")
def parquet(lines, tmp_path_factory):
    """The same, exported."""
    place = str(tmp_path_factory.mktemp("parquet"))
    export_parquet([lines], place)

    return place


@pytest.fixture(scope="session")
def chromium():
    """Show a page in a real browser: its DOM, and a picture."""
    program = next((path for path in ("/usr/bin/chromium", "/usr/bin/chromium-browser") if os.path.exists(path)), None)
    assert program, "tools/test installs chromium"
    quiet = "--disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync"

    def show(page, profile, *how):
        argv = [program, "--headless", "--no-sandbox", "--disable-gpu", *quiet.split(), f"--user-data-dir={profile}"]
        argv += ["--window-size=1300,1700", *how, f"file://{page}"]
        environ = {"PATH": "/usr/bin:/bin", "HOME": str(profile)}
        done = subprocess.run(argv, capture_output=True, check=True, timeout=120, env=environ)
        return done.stdout.decode()

    return show
