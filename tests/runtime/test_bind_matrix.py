"""
What the plan says is what is seen: every kind of source at every kind of target, form of image and layer.

Many cases share one container, each with a target of its own.  The expected
verdicts are written down here once more, as a table.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import attrs
import pytest

from wlcg_isolate import Bind, Payload, PlanError, Policy, Request, launch_plan, make_plan, probe_host

ROOT = os.geteuid() == 0
FUSE = ROOT and os.access("/dev/fuse", os.R_OK | os.W_OK)

#: Name of a kind of source to what it is as far as mount points go, or None
#: where there is nothing to mount.
SOURCES = {
    "directory": "directory",
    "file": "file",
    "link to directory": "directory",
    "link to file": "file",
    "dangling": None,
    "missing": None,
    "loop": None,
    "unreadable": "directory" if ROOT else None,
    "a blank": "directory",
    " blanks around ": "directory",
    "a:colon": "directory",
    "a,comma": "file",
    'a"quote': "directory",
    "a\\backslash": "file",
    "a\nnewline": "directory",
    "fifo": "other",
    **({"hanging FUSE": None} if FUSE else {}),
    **({"autofs": "directory"} if ROOT else {}),
}

#: Name of a kind of target to what is there (None: nothing, and a layer has
#: to create it; "made": nothing, and the library makes it; "never": refused).
TARGETS = {
    "existing directory": "directory",
    "existing file": "file",
    "relative link": "directory",
    "absolute link": "directory",
    "link to file": "file",
    "link leaving the root": "directory",
    "looping link": "never",
    "dangling link": None,
    "missing": None,
    "missing three levels": None,
    "missing, odd name": None,
    "below another bind": "directory",
    "below another bind, missing": "never",
    "below the working directory": "directory",
    "below the working directory, missing": "made",
    "below /tmp": "made",
    "system path": "never",
    "in /dev": "never",
}
#: Hidden once by all sources, since the second at one place would lose.
SYSTEM = "/ /bin /boot /dev /etc /lib /lib64 /proc /root /run /sbin /sys /tmp /usr /usr/bin /usr/lib /var".split()
SYSTEM += "/.singularity.d /proc/1 /sys/fs /usr/lib64 /var/tmp /.singularity.d/env /lib32".split()

MARK = "mark"


def verdict(kind, there, layer):
    """Say what becomes of a bind."""
    if kind is None or there == "never":
        return "skip"
    if there == "made":
        return "mount"
    if there is None:
        return "skip" if layer == "none" else "mount"

    return "mount" if (kind == "directory") == (there == "directory") else "skip"


def where(target, i, world):
    """Return the path of a target for source number *i*."""
    own = f"/m/{i}"

    return {
        "existing directory": f"{own}/dir",
        "existing file": f"{own}/file",
        "relative link": f"{own}/relative",
        "absolute link": f"{own}/absolute",
        "link to file": f"{own}/to-file",
        "link leaving the root": f"{own}/leaving",
        "looping link": f"{own}/loop",
        "dangling link": f"{own}/dangling",
        "missing": f"/new-{i}",
        "missing three levels": f"/made/{i}/two/three",
        "missing, odd name": f'{own}/a b:c,d"e',
        "below another bind": f"/parent/dir-{i}",
        "below another bind, missing": f"/parent/missing-{i}",
        "below the working directory": f"/srv/dir-{i}",
        "below the working directory, missing": f"/srv/made/{i}",
        "below /tmp": f"/tmp/made/{i}",
        "system path": SYSTEM[i],
        "in /dev": f"/dev/made-{i}",
    }[target]


def fill(root, workdir, parent):
    """Make the targets that exist, in the image and on the host."""
    for i in range(len(SOURCES)):
        own = root / "m" / str(i)
        for name in ("dir", "to/relative", "to/absolute", "to/leaving"):
            (own / name).mkdir(parents=True)
        for name in ("file", "to/file"):
            (own / name).write_text("")
        (own / "relative").symlink_to("to/relative")
        (own / "absolute").symlink_to(f"/m/{i}/to/absolute")
        (own / "to-file").symlink_to(f"/m/{i}/to/file")
        (own / "leaving").symlink_to(f"../../../../../../m/{i}/to/leaving")
        (own / "loop").symlink_to("loop")
        (own / "dangling").symlink_to(f"/m/{i}/not-yet")
        (workdir / f"dir-{i}").mkdir(parents=True)
        (parent / f"dir-{i}").mkdir(parents=True)
    (root / "parent").mkdir()


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Make one source of each kind; the hanging and the automounted one as root."""
    place = tmp_path_factory.mktemp("sources")
    place.chmod(0o755)
    with contextlib.ExitStack() as stack:
        for name, kind in SOURCES.items():
            if name == "hanging FUSE":
                stack.enter_context(hanging(place / "fuse"))
            elif name == "autofs":
                stack.enter_context(automounted(place / "auto"))
            elif name == "fifo":
                os.mkfifo(place / name)
            elif name.startswith("link to "):
                (place / name).symlink_to(name.removeprefix("link to "))
            elif name in ("dangling", "loop"):
                (place / name).symlink_to({"dangling": "nothing", "loop": "loop"}[name])
            elif name == "unreadable":
                (place / "closed" / "in").mkdir(parents=True)
                (place / "closed" / "in" / MARK).write_text(MARK)
                (place / "closed").chmod(0)
                stack.callback((place / "closed").chmod, 0o700)
            elif kind == "directory":
                (place / name).mkdir()
                (place / name / MARK).write_text(MARK)
            elif kind == "file":
                (place / name).write_text(MARK)
        yield place


PATHS = {"unreadable": "closed/in", "hanging FUSE": "fuse/in", "autofs": "auto/mount/repository"}


@contextlib.contextmanager
def hanging(place):
    """Mount a FUSE file system whose server never answers."""
    place.mkdir()
    fd = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={fd},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()}"
    subprocess.run(["mount", "-i", "-t", "fuse", "-o", options, "hanging", place], pass_fds=[fd], check=True)
    try:
        yield
    finally:
        # Whoever waits for an answer gets an error.
        os.close(fd)
        subprocess.run(["umount", "-l", place], check=True)


@contextlib.contextmanager
def automounted(place):
    """Run a real automounter, which unmounts after two seconds."""
    if not shutil.which("automount", path="/usr/sbin:/sbin"):
        subprocess.run(
            ["apt-get", "-q", "-y", "--no-install-recommends", "install", "autofs"],
            check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    (place / "real" / "repository").mkdir(parents=True)
    (place / "real" / "repository" / MARK).write_text(MARK)
    (place / "master").write_text(f"{place}/mount file:{place}/map --timeout=2\n")
    (place / "map").write_text(f"repository -fstype=bind :{place}/real/repository\n")
    # In a session of its own: what is in the daemon's group of processes sees nothing mounted.
    daemon = subprocess.Popen(
        ["automount", "-f", "-p", place / "pid", place / "master"],
        start_new_session=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 20
        while not (place / "mount" / "repository" / MARK).exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        yield
    finally:
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(20)


@pytest.fixture(scope="module")
def images(tmp_path_factory, image, runtime):
    """Make an image that has all kinds of targets, in each form."""
    place = tmp_path_factory.mktemp("images")
    place.chmod(0o755)
    tree = place / "tree"
    shutil.copytree(image("tiny"), tree, symlinks=True)
    tree.chmod(0o755)
    fill(tree, place / "work", place / "parent")
    # Trees that are owned by somebody else may be closed to the tester.
    made = {"tree": tree}

    def run(*words):
        environ = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": str(place)}
        subprocess.run(words, check=True, capture_output=True, env=environ)

    def find(form):
        path = made.setdefault(form, place / f"image.{form}")
        if form == "squashfs" and not path.exists():
            run("mksquashfs", tree, path, "-noappend", "-no-progress", "-comp", "gzip", "-all-root")
        if form == "sif" and not path.exists():
            # "build" takes no links that lead above the root. Types: partition, primary system, squashfs, amd64.
            kinds = ("--datatype", "4", "--parttype", "2", "--partfs", "1", "--partarch", MACHINES[os.uname().machine])
            run(runtime, "sif", "new", path)
            run(runtime, "sif", "add", *kinds, path, find("squashfs"))
        return str(path)

    return find


#: Numbers of architectures in a SIF.
MACHINES = {"x86_64": "2", "aarch64": "4", "ppc64le": "7"}


@pytest.fixture(scope="module")
def configured(tmp_path_factory, runtime):
    """Give the runtime a configuration with one layer, or none."""
    place = tmp_path_factory.mktemp("configured")
    place.chmod(0o755)
    built = subprocess.run([runtime, "buildcfg"], check=True, capture_output=True, text=True).stdout
    (given,) = [line.partition("=")[2] for line in built.splitlines() if line.startswith("APPTAINER_CONF_FILE=")]

    def make(layer):
        lines = Path(given).read_text().splitlines()
        lines = [line for line in lines if not line.startswith(("enable overlay", "enable underlay"))]
        lines += [f"enable {name} = {'yes' if name == layer else 'no'}" for name in ("overlay", "underlay")]
        config, program = place / f"{layer}.conf", place / f"apptainer-{layer}"
        config.write_text("\n".join(lines) + "\n")
        config.chmod(0o644)
        program.write_text(
            f'#!/bin/sh\nif [ "$1" = buildcfg ]; then echo APPTAINER_CONF_FILE={config}; exit; fi\n'
            f'exec {runtime} --config {config} "$@"\n'
        )
        program.chmod(0o755)
        return str(program)

    return make


@attrs.frozen
class Case:
    """One source at one target."""

    source: str
    kind: str
    target: str
    there: str
    path: str
    place: str

    def look(self, number):
        """Write shell that tells what is at the target, and whether it can be written."""
        place = shlex.quote(self.place)
        if self.kind == "directory":
            return (
                f"if [ -f {place}/{MARK} ]; then see=$(cat {place}/{MARK}); else see=nothing; fi; "
                f"if (: >{place}/written) 2>/dev/null; then rm {place}/written; w=rw; else w=ro; fi; "
                f'echo "{number} $see $w"'
            )
        if self.kind == "other":
            return f'if [ -p {place} ]; then echo "{number} {MARK} -"; else echo "{number} nothing -"; fi'

        return (
            f"see=nothing; if [ -f {place} ] && [ -s {place} ]; then see=$(cat {place}); fi; "
            f"if (: >>{place}) 2>/dev/null; then w=rw; else w=ro; fi; "
            f'echo "{number} $see $w"'
        )


def cases_in(sources):
    """List all cases."""
    for i, (name, kind) in enumerate(SOURCES.items()):
        for target, there in TARGETS.items():
            path = str(sources / PATHS.get(name, name))
            yield Case(name, kind or "directory", target, there, path, where(target, i, sources))


def listing(*places):
    """List all that is in some directories, hanging ones left out."""
    found = set()
    for place in places:
        for here, directories, files in os.walk(place):
            directories[:] = [name for name in directories if name not in ("fuse", "closed", "mount")]
            found.update(os.path.join(here, name) for name in (*directories, *files))

    return found


@pytest.fixture
def plan_for(tmp_path, sources, images, configured):
    """Make a request with all cases, and the facts that its plan is made of."""
    workdir, parent = tmp_path / "work", tmp_path / "parent"
    fill(tmp_path / "unused", workdir, parent)

    def make(form, layer, *, writable):
        cases = list(cases_in(sources))
        binds = [Bind(source=str(parent), target="/parent")]
        binds += [Bind(source=case.path, target=case.place, writable=writable, required=False) for case in cases]
        request = Request(
            payload=Payload(command=("/bin/sh", "/srv/look.sh")),
            image=images(form),
            workdir=workdir,
            trace_dir=tmp_path / "trace",
            runtime=configured(layer),
            binds=binds,
        )
        policy = Policy(bind_default=(), host_touch_seconds=2.0)
        return cases, request, policy, probe_host(request, policy)

    return make


def seen_of(lines):
    """Read what the payload saw."""
    return {int(n): (what, access) for n, what, access in (line.split() for line in lines.splitlines())}


CI = [
    ("tree", "overlay", False), ("tree", "underlay", True), ("tree", "none", False),
    ("sif", "overlay", True), ("sif", "underlay", False), ("sif", "none", True),
    ("squashfs", "overlay", False), ("squashfs", "underlay", True), ("squashfs", "none", False),
]  # fmt: skip
REST = [(form, layer, not writable) for form, layer, writable in CI]


@pytest.mark.parametrize(
    ("form", "layer", "writable"),
    [*(pytest.param(*one) for one in CI), *(pytest.param(*one, marks=pytest.mark.soak) for one in REST)],
)
def test_plan_is_true(plan_for, sources, tmp_path, form, layer, writable):
    """What the plan says of each case is what is seen from inside, and the host is as before."""
    cases, request, policy, facts = plan_for(form, layer, writable=writable)
    plan = make_plan(request, policy, facts)
    decided = {bind.target: bind for bind in plan.binds}
    expected = {case: verdict(SOURCES[case.source], case.there, layer) for case in cases}
    (tmp_path / "work" / "look.sh").write_text("\n".join(case.look(i) for i, case in enumerate(cases)))
    before = listing(sources, tmp_path)
    with open(tmp_path / "out", "w+b") as out, open(tmp_path / "err", "w+b") as err:
        outcome = launch_plan(plan, stdout=out, stderr=err)
        out.seek(0)
        seen = seen_of(out.read().decode())

    assert {case: decided[case.place].decision for case in cases} == expected
    assert "success" == outcome.kind, outcome.message
    shown = {i: (MARK, "rw" if writable else "ro") for i, case in enumerate(cases) if expected[case] == "mount"}
    assert shown == {
        i: (what, access if access != "-" else shown[i][1]) for i, (what, access) in seen.items() if i in shown
    }
    assert {"nothing"} == {what for i, (what, _) in seen.items() if i not in shown}
    left = {name for name in listing(sources, tmp_path) - before if not name.startswith(str(tmp_path / "trace"))}
    assert {str(tmp_path / "out"), str(tmp_path / "err"), str(tmp_path / "trace")} == left | {str(tmp_path / "trace")}
    assert before <= listing(sources, tmp_path)


@pytest.mark.parametrize("layer", ["overlay", "none"])
def test_required_refuses(plan_for, layer):
    """Where a bind that is wanted if present is left out, a required one refuses the payload."""
    cases, request, policy, facts = plan_for("tree", layer, writable=False)
    needed = attrs.evolve(request, binds=[attrs.evolve(bind, required=True) for bind in request.binds])
    expected = [case.place for case in cases if verdict(SOURCES[case.source], case.there, layer) == "skip"]

    with pytest.raises(PlanError) as caught:
        make_plan(needed, policy, facts)
    assert len(expected) == len(caught.value.problems)
    assert {kind for kind in (p.kind for p in caught.value.problems) if not kind.startswith("bind-")} == set()


def test_number_of_cases(sources):
    """The matrix is as large as it is said to be."""
    assert len(CI) * len(list(cases_in(sources))) >= 400
