#!/usr/bin/env python3
"""
Find the Z boson in a ROOT file: the payload of ``make demo``.

Selects events with two muons of opposite charge, computes the invariant mass
of the pair and prints it as a histogram, then says where it ran.  Reads one
local file and never touches the network.

Needs ``uproot`` and ``awkward``; without an argument it analyses a file that
ships in ``scikit-hep-testdata`` 0.3 (later releases hold no data).
"""

from __future__ import annotations

import argparse
import importlib.util
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import awkward as ak
import numpy as np
import uproot

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

SAMPLE = "uproot-HZZ.root"
TREE = "events"
LOW, HIGH, BINS = 70.0, 110.0, 20  # GeV, GeV, bins of 2 GeV
BAR_WIDTH = 56  # so that a line stays within 78 columns


def find_sample() -> Path:
    """
    Return the sample file of ``scikit-hep-testdata``, if it is installed.

    The package is located and not imported: its own look-up would download a
    file that is missing.

    Raises:
        FileNotFoundError: If the package or the file is not there.
    """
    spec = importlib.util.find_spec("skhep_testdata")
    for folder in (spec and spec.submodule_search_locations) or ():
        path = Path(folder, "data", SAMPLE)
        if path.is_file():
            return path

    msg = f"{SAMPLE} of scikit-hep-testdata is not installed; name a ROOT file"
    raise FileNotFoundError(msg)


def dimuon_masses(path: Path) -> NDArray[np.float64]:
    """Return the mass in GeV of the two first muons, one value per event."""
    with uproot.open(path) as file:
        muons = file[TREE].arrays(["Muon_E", "Muon_Px", "Muon_Py", "Muon_Pz", "Muon_Charge"])

    muons = muons[ak.num(muons["Muon_E"]) > 1]
    muons = muons[muons["Muon_Charge"][:, 0] != muons["Muon_Charge"][:, 1]]
    energy, px, py, pz = (
        ak.to_numpy(muons[name][:, 0] + muons[name][:, 1]).astype(np.float64)
        for name in ("Muon_E", "Muon_Px", "Muon_Py", "Muon_Pz")
    )

    squared = np.maximum(energy**2 - px**2 - py**2 - pz**2, 0.0)
    masses: NDArray[np.float64] = np.sqrt(squared)

    return masses


def peak_of(masses: NDArray[np.float64]) -> float:
    """Return the mean mass around the fullest bin, or NaN for no mass."""
    counts, edges = np.histogram(masses, bins=BINS, range=(LOW, HIGH))
    if not counts.any():
        return float("nan")

    top = int(np.argmax(counts))
    width = edges[1] - edges[0]
    near = masses[(masses >= edges[top] - width) & (masses < edges[top + 1] + width)]

    return float(near.mean())


def histogram_lines(masses: NDArray[np.float64]) -> Iterator[str]:
    """Yield one line of text per bin."""
    counts, edges = np.histogram(masses, bins=BINS, range=(LOW, HIGH))
    scale = BAR_WIDTH / max(1, counts.max())
    for low, high, count in zip(edges[:-1], edges[1:], counts):
        bar = "#" * int(np.ceil(count * scale))
        yield f"{low:5.0f} -{high:4.0f} {count:5d} |{bar}"


def os_release() -> str:
    """Return the name that the operating system gives itself."""
    # platform.freedesktop_os_release() is newer than Python 3.9.
    try:
        text = Path("/etc/os-release").read_text(encoding="utf-8")
    except OSError:
        return platform.system()

    for line in text.splitlines():
        name, _, value = line.partition("=")
        if name == "PRETTY_NAME":
            return value.strip("\"'")

    return platform.system()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the analysis and return the exit status."""
    parser = argparse.ArgumentParser(description="Print the dimuon mass spectrum of a ROOT file.")
    parser.add_argument(
        "file",
        nargs="?",
        type=Path,
        help=f"ROOT file to read (default: {SAMPLE} of scikit-hep-testdata)",
    )
    options = parser.parse_args(argv)

    try:
        path = options.file or find_sample()
        masses = dimuon_masses(path)
    except (OSError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        print(f"histogram.py: {reason}", file=sys.stderr)
        return 1

    print(f"Invariant mass of mu+ mu- in {path.name} [GeV]")
    for line in histogram_lines(masses):
        print(line)
    print(f"events: {len(masses)}  peak: {peak_of(masses):.1f} GeV")
    print(f"Python {platform.python_version()} on {os_release()}")

    return 0


if __name__ == "__main__":
    sys.exit(main())
