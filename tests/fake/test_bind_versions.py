"""
The versions of runtimes that cannot be had, as a fake that does with binds what each of them does.

The fake makes a root of its own in a mount namespace and mounts what it is
asked to, by the rules of one row of the table.
"""

from __future__ import annotations

import json
import os
import sys

import attrs
import pytest

from wlcg_isolate import Bind, Payload, PlanError, Policy, Request, launch_plan, make_plan

FATAL, SILENT, WARNING = "fatal", "silent", "warning"


@attrs.frozen
class Version:
    """
    What one version does.

    *source*: with a missing source; *target*: with a missing target and no
    layer; *again*: with a second bind on one target; *order*: in which order
    it mounts; *seen*: where that was read or measured.
    """

    banner: str
    source: str
    target: str
    again: str
    order: str
    seen: str


VERSIONS = {
    "2.6.1": Version(
        "2.6.1-dist", FATAL, WARNING, WARNING, "given",
        "measured, and src/lib/runtime/mounts/userbinds/userbinds.c of Singularity 2.6.1",
    ),
    "3.0.3": Version(
        "singularity version 3.0.3", SILENT, SILENT, FATAL, "given",
        "container_linux.go of Singularity 3.0; 'repeated binds' in the changelog of 3.1.1",
    ),
    "3.4.2": Version(
        "singularity version 3.4.2", SILENT, SILENT, WARNING, "given",
        "internal/pkg/runtime/engines/singularity/container_linux.go of Singularity 3.4.2, lines 510 and 571",
    ),
    "3.8.7": Version(
        "singularity version 3.8.7", FATAL, FATAL, WARNING, "given",
        "container_linux.go of Singularity 3.5 and newer: a missing source or target ends the start",
    ),
    "ce 3.10.5": Version(
        "singularity-ce version 3.10.5", FATAL, FATAL, WARNING, "given", "container_linux.go of SingularityCE 3.10"
    ),
    "ce 4.1.0": Version(
        "singularity-ce version 4.1.0", FATAL, FATAL, WARNING, "given", "container_linux.go of SingularityCE 4.1"
    ),
    "apptainer 1.1.9": Version(
        "apptainer version 1.1.9", FATAL, FATAL, WARNING, "given", "container_linux.go of Apptainer 1.1"
    ),
    "apptainer 1.4.5": Version(
        "apptainer version 1.4.5", FATAL, FATAL, WARNING, "depth", "measured, and mount_linux.go of Apptainer 1.4.5"
    ),
}  # fmt: skip
TOO_OLD = ("2.6.1", "3.0.3", "3.4.2", "3.8.7")

PROGRAM = """\
import csv, json, os, shutil, subprocess, sys

RULES = json.loads({rules!r})


def end(words):
    print("FATAL:   container creation failed: mount hook function failure: " + words, file=sys.stderr)
    sys.exit(255)


def mount(*words):
    subprocess.run(["mount", *words], check=True)


def inside(root, path, links=0):
    here = root
    for part in [part for part in path.split("/") if part]:
        here = os.path.join(here, part)
        while os.path.islink(here):
            links += 1
            goal = os.readlink(here)
            here = root + goal if goal.startswith("/") else os.path.join(os.path.dirname(here), goal)
            if links > 40:
                return None
    return here


def bind(root, source, target, flags):
    if not os.path.exists(source):
        return RULES["source"] == "fatal" and end(f"while mounting {{source}}: mount source {{source}} doesn't exist")
    there = inside(root, target)
    if there is None or not os.path.exists(there):
        if RULES["target"] == "fatal" and (there is None or not RULES["layer"]):
            end(f"destination {{target}} doesn't exist in container")
        if there is None or not RULES["layer"]:
            if RULES["target"] == "warning":
                print(f"WARNING: Skipping user bind, non existent bind point: {{target}}", file=sys.stderr)
            return
        os.makedirs(os.path.dirname(there), exist_ok=True)
        os.mkdir(there) if os.path.isdir(source) else open(there, "w").close()
    if os.path.isdir(there) != os.path.isdir(source):
        end(f"while mounting {{source}}: not a directory")
    mount("--bind", source, there)
    if "ro" in flags:
        mount("-o", "remount,bind,ro", there)


def run(options, mounts, image, command):
    session = options["--workdir"] + ".session"
    os.mkdir(session)
    mount("-t", "tmpfs", "session", session)
    root = session + "/root"
    if RULES["layer"]:
        shutil.copytree(image, root, symlinks=True)
        mount("--bind", root, root)
    else:
        os.mkdir(root)
        mount("--bind", image, root)
    for name in ("usr", "bin", "lib", "lib64", "sbin"):
        if os.path.exists("/" + name):
            mount("--bind", os.path.realpath("/" + name), f"{{root}}/{{name}}")
    mount("-t", "proc", "proc", root + "/proc")
    for name, target in (("tmp", "/tmp"), ("var_tmp", "/var/tmp")):
        mount("--bind", f"{{options['--workdir']}}/{{name}}", root + target)
    if RULES["order"] == "depth":
        mounts.sort(key=lambda one: one[1].count("/"))
    done = set()
    for source, target, flags in mounts:
        if target in done:
            RULES["again"] == "fatal" and end(f"destination {{target}} is already in the mount point list")
            continue
        done.add(target)
        bind(root, source, target, flags)
    os.chroot(root)
    os.chdir(options["--pwd"])
    os.execv(command[0], command)


def main(words):
    options, mounts = {{}}, []
    while words[0].startswith("--"):
        word = words.pop(0)
        if word == "--mount":
            fields = next(csv.reader([words.pop(0)]))
            values = dict(field.partition("=")[::2] for field in fields)
            mounts.append((values["src"], values["dst"], fields))
        elif word in ("--workdir", "--pwd", "--no-mount", "--network", "--add-caps"):
            options[word] = words.pop(0)
    run(options, mounts, words[0], words[1:])


if sys.argv[1] == "--version":
    print(RULES["banner"])
elif sys.argv[1] == "buildcfg":
    print("APPTAINER_SUID_INSTALL=0")
elif sys.argv[1] == "exec":
    isolate = "unshare --user --map-root-user --mount --ipc --pid --fork --mount-proc --kill-child".split()
    os.execvp("unshare", [*isolate, sys.executable, sys.argv[0], "inside", *sys.argv[2:]])
else:
    main(sys.argv[2:])
"""


@pytest.fixture
def runtime(tmp_path):
    """Write a fake of one version; *banner* is what it says that it is."""

    def make(version, *, layer, banner=None):
        program = tmp_path / f"apptainer-{len(list(tmp_path.glob('apptainer-*.py')))}"
        rules = {**attrs.asdict(version), "layer": layer, "banner": banner or version.banner}
        text = program.with_suffix(".py")
        text.write_text(PROGRAM.format(rules=json.dumps(rules)))
        # The path of a test's Python may hold blanks, which no first line of a script can.
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{text}" "$@"\n')
        program.chmod(0o755)
        return str(program)

    return make


@pytest.fixture
def image(tmp_path):
    """Make a tree; its programs are the host's."""
    root = tmp_path / "image"
    for name in "usr bin lib lib64 sbin proc tmp var/tmp srv there data data-2 data-3 empty empty-2".split():
        (root / name).mkdir(parents=True)
    (root / "a-file").write_text("")
    (root / "a-file-2").write_text("")
    (root / "link").symlink_to("/there/")
    (root / "link-to-nothing").symlink_to("/not/yet")
    (root / "loop").symlink_to("loop")
    (root / "bin" / "sh").write_text("#!/bin/sh\n")

    return root


#: Source, target, whether a layer is needed (None: nothing can be mounted).
CASES = {
    "directory at a directory": ("dir", "/data", False),
    "file at a file": ("file", "/a-file", False),
    "directory at a file": ("dir", "/a-file-2", None),
    "file at a directory": ("file", "/data-2", None),
    "missing source": ("missing", "/empty", None),
    "dangling source": ("dangling", "/empty-2", None),
    "through a link": ("dir", "/link", False),
    "through a link to nothing": ("dir", "/link-to-nothing", True),
    "through a loop": ("dir", "/loop", None),
    "missing": ("dir", "/new", True),
    "missing file": ("file", "/new-file", True),
    "missing three levels": ("dir", "/a/b/c", True),
    "in the working directory": ("dir", "/srv/made", False),
    "in /tmp": ("file", "/tmp/made/file", False),
    "hides the system": ("dir", "/usr", None),
    "a blank, a comma: a colon": ("a b,c:d", "/data-3", False),
}


@pytest.fixture
def plan_for(tmp_path, image):
    """Plan some binds for a runtime."""
    for name in ("dir", "a b,c:d", "work", "parent/child"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "mark").write_text(name)
    (tmp_path / "file").write_text("file")
    (tmp_path / "dangling").symlink_to("nothing")

    def make(runtime, binds, command=("true",), **policy):
        request = Request(
            payload=Payload(command=command),
            image=str(image),
            workdir=tmp_path / "work",
            trace_dir=tmp_path / "trace",
            runtime=runtime,
            binds=[attrs.evolve(bind, source=str(tmp_path / bind.source)) for bind in binds],
        )
        return make_plan(request, Policy(bind_default=(), **{**TRUSTED, **policy}))

    return make


NEW = "apptainer version 1.4.5"
#: A fake need not start anything on trial.
TRUSTED = {"runtime_probe_starts": False, "host_cache_directories": ()}


@pytest.mark.parametrize("layer", [True, False], ids=["layer", "no layer"])
@pytest.mark.parametrize("version", VERSIONS)
def test_plan_holds_on_every_version(runtime, plan_for, tmp_path, version, layer):
    """What a plan decides is seen under every version's rules, also by those that are too old for a plan."""
    look = 'for f do [ -f "$f/mark" ] && f=$f/mark; if [ -f "$f" ]; then cat "$f"; fi; echo "|"; done'
    targets = [target for _, target, _ in CASES.values()]
    plan = plan_for(
        runtime(VERSIONS[version], layer=layer, banner=NEW),
        [Bind(source=source, target=target, required=False) for source, target, _ in CASES.values()],
        ("/bin/sh", "-c", look, "sh", *targets),
        runtime_layers=("overlay",) if layer else (),
    )
    mounted = {name: needed is not None and (layer or not needed) for name, (_, _, needed) in CASES.items()}
    before = sorted(os.listdir(tmp_path / "dir"))
    with open(tmp_path / "out", "w+b") as out:
        outcome = launch_plan(plan, stdout=out)
        out.seek(0)
        seen = out.read().decode().split("|\n")[:-1]

    assert "success" == outcome.kind, outcome.message
    decided = {bind.target: bind.decision == "mount" for bind in plan.binds}
    assert mounted == {name: decided[target] for name, (_, target, _) in CASES.items()}
    assert {name: source if mounted[name] else "" for name, (source, _, _) in CASES.items()} == dict(zip(CASES, seen))
    assert before == sorted(os.listdir(tmp_path / "dir"))


@pytest.mark.parametrize("version", VERSIONS)
def test_children_and_repetitions(runtime, plan_for, tmp_path, version):
    """No version's order of mounting and no version's view of repetitions matters."""
    binds = [
        Bind(source="dir", target="/data/child"),
        Bind(source="parent", target="/data"),
        Bind(source="parent", target="/data", required=False),
        Bind(source="file", target="/link", required=False),
    ]
    plan = plan_for(
        runtime(VERSIONS[version], layer=True, banner=NEW), binds, ("cat", "/data/mark", "/data/child/mark")
    )
    (tmp_path / "parent" / "mark").write_text("parent")
    with open(tmp_path / "out", "w+b") as out:
        outcome = launch_plan(plan, stdout=out)
        out.seek(0)

        assert ("success", b"parentdir") == (outcome.kind, out.read()), outcome.message


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("what", ["source", "target"])
def test_no_silence(runtime, plan_for, tmp_path, version, what):
    """A bind that a runtime leaves out after all is a failure of the runtime, with the bind's name."""
    rules = VERSIONS[version]
    program = runtime(rules, layer=what == "source", banner=NEW)
    plan = plan_for(program, [Bind(source="dir", target="/new")], ("touch", "/srv/ran"))
    if what == "source":
        os.rename(tmp_path / "dir", tmp_path / "gone")
    outcome = launch_plan(plan)
    kind = "bind-failed" if getattr(rules, what) == FATAL else "bind-not-seen"

    assert (False, "runtime", kind) == (outcome.started, outcome.failed_by, outcome.kind), outcome.message
    assert str(tmp_path / "dir") in outcome.message or "/new" in outcome.message
    assert not (tmp_path / "work" / "ran").exists()


@pytest.mark.parametrize("version", TOO_OLD)
def test_too_old_for_a_plan(runtime, plan_for, version):
    """Versions that lack what isolation needs are refused by what they say that they are."""
    with pytest.raises(PlanError) as caught:
        plan_for(runtime(VERSIONS[version], layer=True), [])
    assert ["runtime-too-old"] == [problem.kind for problem in caught.value.problems]


def test_every_row_names_its_source():
    """No row of the table is a guess."""
    assert all(version.seen for version in VERSIONS.values())
