"""
The command line about images: its keys, its exit status, its words.
"""

from __future__ import annotations

import hashlib
import io
import json
import os

import pytest

from wlcg_isolate.cli import main
from wlcg_isolate.cli.progress import Progress


@pytest.fixture(autouse=True)
def _own_place(monkeypatch, tmp_path):
    """Remember checksums in a place of the test's own."""
    policy = f'version = 1\n[image]\nverified_directory = "{tmp_path}/verified"\n'
    (tmp_path / "site.toml").write_text(policy)
    (tmp_path / "site.toml").chmod(0o644)
    monkeypatch.setenv("WLCG_ISOLATE_SITE", str(tmp_path / "site.toml"))


@pytest.fixture
def run(capsys):
    """Run the command line and return its status, output and errors."""

    def make(*words):
        try:
            status = main(["image", *map(str, words)])
        except SystemExit as e:
            status = e.code
        out = capsys.readouterr()
        return status, out.out, out.err

    return make


@pytest.fixture
def sif(tmp_path, squashfs_of, sif_of, system):
    """Make a SIF of a small system."""
    path = tmp_path / "image.sif"
    path.write_bytes(sif_of(squashfs_of(system, compress=True)))

    return path


def test_inspect_json(run, sif):
    """The keys that others rely on are there."""
    status, out, err = run("inspect", sif, "--path", "/bin/sh", "--json")
    found = json.loads(out)

    assert (0, "") == (status, err)
    assert ("sif", "x86_64", "el9") == (found["form"], found["architecture"], found["os"]["canonical"])
    assert (True, "link", "/usr/bin/bash") == (found["exists"], found["kind"], found["resolves_to"])
    assert (2, "3.10.0", True) == (found["x86_64_level"], found["oldest_kernel"], found["singularity_d"])
    assert {"kind": "none", "value": None} == found["digest"]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/etc", (True, "directory", "/etc", "directory")),
        ("/etc/hosts", (True, "file", "/etc/hosts", "file")),
        ("/bin", (True, "link", "/usr/bin", "directory")),
        ("/bin/../../../etc/hosts", (True, "file", "/etc/hosts", "file")),
        ("/nosuch", (False, None, None, None)),
        ("/var/run/x", (False, None, None, None)),
        ("/etc/hosts/x", (False, None, None, None)),
    ],
)
def test_inspect_path(run, sif, path, expected):
    """A path is looked up inside the image."""
    _, out, _ = run("inspect", sif, "--path", path, "--path", "/", "--json")
    found = json.loads(out)["paths"][0]

    assert expected == (found["exists"], found["kind"], found["resolves_to"], found["target_kind"])


def test_inspect_screen(run, sif):
    """What it is and what is inside fits on one screen."""
    status, out, _ = run("inspect", sif, "--path", "/bin", "--path", "/nosuch", "--path", "/etc/hosts/x")

    assert 0 == status
    assert len(out.splitlines()) < 25
    for words in ("compressed with gzip", "x86_64 (label: x86_64)", "link to /usr/bin", "not there", "cannot be told"):
        assert words in out


@pytest.mark.parametrize(
    ("content", "words"), [(b"", "it is empty"), (b"text", "it is no image"), (None, "No such file or directory")]
)
def test_inspect_what_is_none(run, tmp_path, content, words):
    """What is no image is told, with a status."""
    if content is not None:
        (tmp_path / "x").write_bytes(content)
    status, out, err = run("inspect", tmp_path / "x")

    assert 1 == status
    assert words in out + err


def test_inspect_damaged(run, sif):
    """A damaged image is told, and what could be read before."""
    os.truncate(sif, sif.stat().st_size - 100)
    status, out, _ = run("inspect", sif, "--json")

    assert (1, "sif") == (status, json.loads(out)["form"])
    assert "truncated" in json.loads(out)["fault"]


def test_resolve_json(run, sif):
    """The keys that others rely on are there."""
    status, out, _ = run("resolve", sif, "--json")
    found = json.loads(out)

    assert 0 == status
    assert (str(sif), str(sif), str(sif), "sif") == (
        found["requested"], found["path"], found["resolved_path"], found["form"],
    )  # fmt: skip
    assert [{"path": str(sif), "verdict": "taken"}] == found["looked_at"]


def test_resolve_screen(run, sif):
    """A person sees the same."""
    status, out, _ = run("resolve", sif)

    assert 0 == status
    assert f"{sif}: taken" in out


@pytest.mark.parametrize("arch", ["aarch64", "arm64", "arm64:v8"])
def test_resolve_for_another_architecture(run, sif, arch):
    """The architecture may be another one, in any spelling."""
    status, out, err = run("resolve", sif, "--arch", arch, "--json")

    assert (1, None) == (status, json.loads(out)["path"])
    assert "image-wrong-architecture" in err
    assert "is built for x86_64; this node is aarch64" == json.loads(out)["looked_at"][0]["verdict"]


def test_resolve_with_another_cvmfs(run, tmp_path, unpack, system):
    """CVMFS may be elsewhere."""
    unpack(tmp_path / "c" / "singularity.opensciencegrid.org" / "a" / "b:1", system)
    status, out, _ = run("resolve", "a/b:1", "--cvmfs-root", tmp_path / "c", "--arch", "amd64", "--json")

    assert 0 == status
    assert f"{tmp_path}/c/singularity.opensciencegrid.org/a/b:1" == json.loads(out)["path"]


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["a/../b"], "image-reference-invalid"),
        (["docker://a/b:1"], "image-pull-refused"),
        (["nosuch"], "image-unknown"),
        (["/nosuch"], "image-missing"),
        (["/etc", "--arch", "vax"], "usage"),
        (["/etc", "--site", "/nosuch"], "policy-invalid"),
    ],
)
def test_resolve_refused(run, words, kind):
    """A refusal has one line and a status."""
    status, _, err = run("resolve", *words)

    assert 1 == status
    assert err.startswith(f"wlcg-isolate: {kind}: ")


def sums(place, *files):
    """Write a list of checksums."""
    lines = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files]
    (place / "sums").write_text("".join(lines))

    return place / "sums"


def test_verify(run, sif, tmp_path):
    """A file is verified, and remembered."""
    listed = sums(tmp_path, sif)
    first = run("verify", sif, "--sums", listed, "--json")
    second = run("verify", sif, "--sums", listed, "--json")
    again = run("verify", sif, "--sums", listed, "--json", "--again", "--jobs", "1")
    rows = [json.loads(out)[0] for _, out, _ in (first, second, again)]

    assert [0, 0, 0] == [status for status, _, _ in (first, second, again)]
    assert [("verified", False), ("verified", True), ("verified", False)] == [
        (row["verdict"], row["remembered"]) for row in rows
    ]
    assert [str(listed)] == rows[0]["sources"]
    assert {"kind": "file", "value": hashlib.sha256(sif.read_bytes()).hexdigest()} == rows[0]["digest"]


def test_verify_several(run, sif, tmp_path):
    """One bad file of several is enough for a status, and each is told."""
    (tmp_path / "good").write_bytes(b"good")
    (tmp_path / "bad").write_bytes(b"bad")
    listed = sums(tmp_path, sif, tmp_path / "good", tmp_path / "bad")
    (tmp_path / "bad").write_bytes(b"worse")
    (tmp_path / "unlisted").write_bytes(b"x")
    status, out, err = run("verify", sif, tmp_path / "good", tmp_path / "bad", tmp_path / "unlisted", "--sums", listed)

    assert 1 == status
    assert ["verified", "verified", "mismatch", "unlisted"] == [line.split()[0] for line in out.splitlines()]
    assert ["image-digest-mismatch", "image-unlisted"] == [line.split(": ")[1] for line in err.splitlines()]


@pytest.mark.parametrize(
    ("words", "kind"),
    [(["/nosuch"], "image-missing"), (["/etc"], "image-form-unsupported"), (["a/../b"], "image-reference-invalid")],
)
def test_verify_refused(run, words, kind):
    """What is no file is not verified."""
    status, _, err = run("verify", *words)

    assert 1 == status
    assert err.startswith(f"wlcg-isolate: {kind}: ")


def test_verify_with_a_missing_list(run, sif):
    """A list that is named must be there."""
    status, _, err = run("verify", sif, "--sums", "/nosuch")

    assert 1 == status
    assert "image-list-invalid" in err


@pytest.mark.parametrize(
    ("words", "status"), [([], 2), (["--help"], 0), (["nosuch"], 125), (["inspect", "--help"], 0), (["verify"], 2)]
)
def test_usage(run, words, status):
    """Wrong use has a status, help has none."""
    assert status == run(*words)[0]


class _Terminal(io.StringIO):
    def isatty(self):
        """Say that it is one."""
        return True


def test_progress():
    """A bar grows on a terminal, and goes away."""
    terminal, file = _Terminal(), io.StringIO()
    for stream in (terminal, file):
        progress = Progress(100, stream)
        progress._shown -= 1
        progress.add(50)
        assert "[###############...............]  50%" in progress.line()
        progress.close()

    assert "" == file.getvalue()
    assert "50%" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r")
