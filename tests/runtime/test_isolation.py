"""
What a payload sees, and what it does not.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from wlcg_isolate import run_isolated

#: A batch node's environment, as far as it can do harm.
HOSTILE = {
    "LD_LIBRARY_PATH": "/usr/lib/x86_64-linux-gnu",
    "LD_AUDIT": "/nosuch/audit.so",
    "PYTHONHOME": "/usr",
    "PYTHONPATH": "/usr/lib/python3/dist-packages",
    "PERL5LIB": "/usr/share/perl5",
    "BASH_ENV": "/etc/profile",
    "BASH_FUNC_which%%": "() { echo broken; }",
    "BASH_FUNC_module()": "() { echo broken; }",
    "LC_ALL": "en_US.UTF-8",
    "MODULEPATH": "/etc/modulefiles",
    "X509_USER_PROXY": "/tmp/x509up_u1000",
    "BEARER_TOKEN": "very-secret-token",
    "TMPDIR": "/scratch/batch",
    "APPTAINERENV_EVIL": "$(touch /srv/evil)",
    "SINGULARITYENV_EVIL2": "evil",
    "APPTAINERENV_LD_PRELOAD": "/nosuch/evil.so",
    "APPTAINER_BIND": "/etc:/evil",
    "SINGULARITY_BIND": "/nosuch/site/data",
    "SINGULARITY_BINDPATH": "/etc:/evil2",
    "APPTAINER_SHELL": "/nosuch",
    "a.b": "not a name",
}

#: Values that are hard to deliver (the peers lose or execute some of them).
HARD = [
    "",
    " ",
    "plain",
    "two  blanks",
    " leading and trailing ",
    "tab\there",
    "new\nline",
    "ends in newline\n",
    "\n\n",
    "quote ' and \"",
    "$(touch /srv/evil)",
    "`touch /srv/evil`",
    "${HOME}",
    'a\\"; touch /srv/evil; echo \\"',
    "ends in \\",
    "a=b",
    "comma,separated:colon;semicolon&",
    "\\u000A stays",
    "umlaut ä, euro €, emoji 🙂",
    "\x01\x1b[31m\x7f",
    "*?[a-z]{1,2}!#~",
    "x" * 100_000,
]


def _environ(raw):
    """Split the payload's environment."""
    return dict(os.fsdecode(entry).split("=", 1) for entry in raw.split(b"\0") if entry)


def _expected(ran_or_id, **more):
    return {
        "HOME": "/srv",
        "PWD": "/srv",
        "TMPDIR": "/tmp",
        "LC_ALL": "C",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "WLCG_ISOLATE_ID": ran_or_id,
        **more,
    }


@pytest.mark.parametrize("name", ["debian11", "debian13"])
def test_whole_environment(cli, image, name):
    """Exactly the decided variables arrive, and not one more."""
    ran = cli.run(
        "--image", image(name), "--env", "MINE=1", "--keep-env", "SITE_NAME",
        command=("cat", "/proc/self/environ"),
        environ={**HOSTILE, "TERM": "xterm", "https_proxy": "proxy:3128", "SITE_NAME": "here"},
    )  # fmt: skip

    assert 0 == ran.status
    assert _expected(
        ran.outcome["trace_id"], MINE="1", SITE_NAME="here", TERM="xterm", https_proxy="proxy:3128"
    ) == _environ(ran.stdout)
    assert [] == os.listdir(cli.workdir)


def test_hostile_node(cli, image):
    """Nothing of a hostile environment steers the runtime or the payload, where the site cuts the binds it asks for."""
    script = "ls -d /evil /evil2 /srv/evil 2>/dev/null; bash -c 'type which module' 2>&1; python3 -c 'print(1)'"
    forbid = ("--set", 'bind.forbidden_sources=["/etc"]')
    ran = cli.run("--image", image("debian11"), *forbid, command=("bash", "-c", script), environ=HOSTILE)

    assert b"evil" not in ran.stdout
    assert b"broken" not in ran.stdout
    assert b"which is /usr/bin/which" in ran.stdout or b"which: not found" in ran.stdout
    assert ran.stdout.endswith(b"\n1\n")


@pytest.mark.parametrize("name", ["tiny", "debian11"])
def test_hard_values(request_for, policy, tmp_path, name):
    """Every value arrives byte for byte, under busybox and dash."""
    values = {f"V{i}": value for i, value in enumerate(HARD)}
    values["BYTES"] = bytes(range(1, 256)).decode("utf-8", "surrogateescape")
    with open(tmp_path / "out", "wb") as out:
        outcome = run_isolated(request_for("cat", "/proc/self/environ", name=name, env=values), policy, stdout=out)
    arrived = _environ((tmp_path / "out").read_bytes())

    assert "success" == outcome.kind
    assert values == {name: arrived.get(name) for name in values}
    assert not (tmp_path / "work" / "evil").exists()


@pytest.mark.parametrize("name", ["tiny", "debian11"])
def test_hard_arguments(request_for, policy, tmp_path, name):
    """Every argument arrives byte for byte."""
    words = [*HARD, bytes(range(1, 256)).decode("utf-8", "surrogateescape")]
    with open(tmp_path / "out", "wb") as out:
        run_isolated(request_for("printf", "%s\\0", *words, name=name), policy, stdout=out)

    assert words == [os.fsdecode(word) for word in (tmp_path / "out").read_bytes().split(b"\0")[:-1]]


def test_own_library_path(cli, image):
    """A loader path that the request itself sets arrives without the runtime's."""
    ran = cli.run(
        "--image", image("debian11"), "--env", "LD_LIBRARY_PATH=/srv/lib", command=("printenv", "LD_LIBRARY_PATH")
    )

    assert b"/srv/lib\n" == ran.stdout


def test_descriptors(cli, image):
    """Only the three standard descriptors arrive, whatever the pilot leaks."""
    secret = cli.workdir.parent / "secret"
    secret.write_text("secret")
    with open(secret) as leak:
        os.set_inheritable(leak.fileno(), True)
        program = "import os; print([fd for fd in range(256) if os.path.exists(f'/proc/self/fd/{fd}')])"
        ran = cli.run("--image", image("debian11"), command=("python3", "-c", program), close_fds=False)

    assert b"[0, 1, 2]\n" == ran.stdout


def test_descriptors_from_a_library_call(request_for, policy, tmp_path):
    """A descriptor that the calling process made inheritable does not arrive."""
    program = "import os; print([fd for fd in range(1024) if os.path.exists(f'/proc/self/fd/{fd}')])"
    with open(tmp_path / "out", "wb") as out, open("/etc/passwd") as leak:
        os.set_inheritable(leak.fileno(), True)
        run_isolated(request_for("python3", "-c", program, name="debian11"), policy, stdout=out)

    assert b"[0, 1, 2]\n" == (tmp_path / "out").read_bytes()


def test_processes(cli, image):
    """The pilot's processes cannot be seen, and so not signalled."""
    ran = cli.run(
        "--image", image("tiny"), command=("sh", "-c", "cat /proc/[0-9]*/cmdline; echo; ls -d /proc/[0-9]* | wc -l")
    )

    assert b"wlcg_isolate" not in ran.stdout
    assert b"pytest" not in ran.stdout
    assert int(ran.stdout.split(b"\n")[-2]) <= 5


def test_namespaces(cli, image):
    """The container has PID, mount, IPC and user namespaces of its own."""
    names = ("pid", "mnt", "ipc", "user")
    script = "; ".join(f"readlink /proc/self/ns/{n}" for n in names)
    ran = cli.run("--image", image("tiny"), command=("sh", "-c", script))
    inside = ran.stdout.decode().split()

    assert 4 == len(inside)
    assert [] == [n for n, link in zip(names, inside) if link == os.readlink(f"/proc/self/ns/{n}")]


def test_files_of_the_host(cli, image, tmp_path):
    """Neither the pilot's home nor its files and /tmp are there."""
    (tmp_path / "secret").write_text("secret")
    places = [tmp_path / "secret", cli.trace_dir, os.path.expanduser("~/.ssh"), "/home/*", "/srv/../secret"]
    ran = cli.run(
        "--image", image("tiny"), command=("sh", "-c", f"ls -d {' '.join(map(str, places))} 2>/dev/null; ls /tmp")
    )

    assert b"" == ran.stdout


def test_private_directories(cli, image):
    """/tmp and /var/tmp are empty, writable and on the working directory's disk."""
    program = (
        "import os\n"
        "for d in ('/tmp', '/var/tmp'):\n"
        "    print(d, os.listdir(d), os.stat(d).st_dev == os.stat('/srv').st_dev, oct(os.stat(d).st_mode))\n"
        "    open(d + '/x', 'wb').write(b'x' * 100_000_000)\n"
        "print(os.getcwd(), os.environ['HOME'], os.environ['TMPDIR'])\n"
    )
    ran = cli.run("--image", image("debian11"), command=("python3", "-c", program))

    assert "/tmp [] True 0o41777\n/var/tmp [] True 0o41777\n/srv /srv /tmp\n" == ran.stdout.decode(), ran.stderr
    assert [] == os.listdir(cli.workdir)


def test_two_payloads_in_one_directory(cli, image, tmp_path):
    """Payloads that share a working directory do not share /tmp."""
    first = cli.start("--image", image("tiny"), command=("sh", "-c", "touch /tmp/mine; echo ready; sleep 2"))
    assert b"ready\n" == first.stdout.readline()
    second = cli.run("--image", image("tiny"), "--outcome", tmp_path / "second.json", command=("ls", "/tmp"))
    first.communicate(timeout=60)

    assert (0, b"") == (second.status, second.stdout)


def test_payload_that_spoils_its_directory(cli, image, tmp_path):
    """Links that a payload leaves lead no clean-up and no outcome astray."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("stays")
    cli.outcome = cli.workdir / "outcome.json"
    script = (
        f"cd /srv; for d in .wlcg-isolate-*; do mv $d/tmp $d/x; ln -s {victim} $d/tmp; "
        f"mv $d moved; ln -s {victim} $d; done; "
        f"ln -s {victim}/file outcome.json; mkdir -p /var/tmp/deep/er; chmod 0 /var/tmp/deep"
    )
    ran = cli.run("--image", image("tiny"), command=("sh", "-c", script))

    assert (0, True) == (ran.status, ran.outcome["started"])
    assert "stays" == (victim / "file").read_text()
    assert not cli.outcome.is_symlink()


@pytest.mark.parametrize(
    "locked", ["/srv", "/tmp /var/tmp", "/srv/.wlcg-isolate-*", "/tmp/a /tmp /srv/.wlcg-isolate-* /srv"]
)
def test_payload_that_locks_its_directories(cli, image, locked):
    """Modes that shut the owner out keep nothing of the payload's private directories, and those of the rest stay."""
    script = f"mkdir -p /tmp/a/b /var/tmp/c; echo x >/tmp/a/b/x; chmod 0 {locked}"
    ran = cli.run("--image", image("tiny"), "--bind", "/etc:/srv/new/etc", command=("sh", "-c", script))
    mode = cli.workdir.stat().st_mode & 0o777
    cli.workdir.chmod(0o700)

    assert (0, []) == (ran.status, os.listdir(cli.workdir))
    assert ("/srv" in locked.split()) == (mode == 0)


@pytest.mark.parametrize("umask", [0o777, 0o277, 0])
def test_any_umask(cli, image, umask):
    """An odd umask of the pilot stops no payload."""
    cli.trace_dir.mkdir(mode=0o700)
    argv = cli.argv("--image", image("tiny"), command=("sh", "-c", "umask"))
    del argv[argv.index("--outcome") : argv.index("--image")]
    done = subprocess.run(argv, env=cli.environ, umask=umask, capture_output=True, check=False, text=True)

    assert (0, f"0{umask:03o}\n", "") == (done.returncode, done.stdout, done.stderr)
    assert [] == os.listdir(cli.workdir)


def test_umask_and_directory_of_the_caller(cli, image):
    """The payload keeps the caller's umask, and the caller its own state."""
    ran = cli.run("--image", image("tiny"), command=("sh", "-c", "umask; pwd"), umask=0o027)

    assert b"0027\n/srv\n" == ran.stdout


def test_no_capabilities(cli, image):
    """A payload has no capability and cannot gain one, root's included, of which the plan warns."""
    ran = cli.run("--image", image("tiny"), command=("sh", "-c", "grep -E 'CapEff|NoNewPrivs' /proc/self/status"))
    lines = dict(line.split(":\t") for line in ran.stdout.decode().splitlines())

    assert {"CapEff": "0" * 16, "NoNewPrivs": "1"} == lines
    if os.geteuid() == 0:
        plan = [*cli.program, "plan", "--image", image("tiny"), "--workdir", str(cli.workdir), "--", "true"]
        done = subprocess.run(plan, env=cli.environ, capture_output=True, check=True, text=True)
        assert "warning   the pilot is root" in done.stdout


def test_installed_package():
    """The wheel is under test, where the project's own script says so."""
    import wlcg_isolate

    if os.environ.get("WLCG_ISOLATE_TEST_INSTALLED"):
        assert wlcg_isolate.__file__.startswith(sys.prefix)
