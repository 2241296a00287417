"""
The plug-in of pytest: fixtures for an experiment's own tests.

Rule: loading it costs next to nothing, since it is loaded with every pytest
of an environment that has this package.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Optional

import pytest

if TYPE_CHECKING:
    from wlcg_isolate.testing.harness import Harness
    from wlcg_isolate.testing.node import Node


def pytest_addoption(parser: pytest.Parser) -> None:
    """
    Let the same tests run under a real runtime.
    """
    group = parser.getgroup("wlcg_isolate", "isolation of payloads")
    group.addoption(
        "--real-runtime", action="store_true", help="run payloads under the real runtime instead of the fake one"
    )
    group.addoption(
        "--isolate-runtime", metavar="PATH", help="the real runtime (default: apptainer or singularity in PATH)"
    )
    group.addoption("--isolate-image", metavar="PATH", help="the image of payloads under the real runtime")


@pytest.fixture
def isolate_node() -> Callable[..., Node]:
    """
    Take a node to plan on: `wlcg_isolate.testing.load_node`.
    """
    from wlcg_isolate.testing.node import load_node

    return load_node


@pytest.fixture
def isolate(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Harness:
    """
    Run payloads: `wlcg_isolate.testing.Harness`.

    The runtime is the fake one, or with ``--real-runtime`` the real one.
    """
    from wlcg_isolate.testing.harness import Harness

    config = request.config
    real = _real(config.getoption("--isolate-runtime")) if config.getoption("--real-runtime") else None
    image = config.getoption("--isolate-image") if real is not None else None
    if real is not None and image is None:
        raise pytest.UsageError("--real-runtime needs an image: --isolate-image PATH")

    return Harness(tmp_path_factory.mktemp("isolate"), real=real, image=image and str(Path(image).absolute()))


def _real(named: Optional[str]) -> str:
    names = (named,) if named else ("apptainer", "singularity")
    found = next((path for path in map(shutil.which, names) if path is not None), None)
    if found is None:
        raise pytest.UsageError(f"--real-runtime: there is no {' and no '.join(names)}")

    return str(Path(found).absolute())
