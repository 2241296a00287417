"""
What breaks payloads of the bare runtime on a node that is newer than the image, and does not with the library.

Each is set up as it happens on nodes: the host's own files, in places that the bare runtime shows.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

#: As which2 of EL8 and EL9 exports it, beside ``which_declare``.
WHICH = (
    "() {  ( alias;\n eval ${which_declare} ) | /usr/bin/which --tty-only --read-alias --read-functions --show-tilde "
    "--show-dot $@\n}"
)


@pytest.fixture
def both(cli, image, runtime):
    """Run a command with the bare runtime and with the library, on the same node."""

    def run(environ, *command, binds=(), options=()):
        words = [word for bind in binds for word in ("--bind", bind)]
        bare = subprocess.run(
            [runtime, "exec", "--userns", *words, image("debian11"), *command],
            env={**cli.environ, **environ}, cwd=cli.workdir, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        with_library = cli.run("--image", image("debian11"), *words, *options, command=command, environ=environ)

        return bare, with_library

    return run


def host_library(name):
    """Find a library that this very process uses."""
    maps = Path("/proc/self/maps").read_text()

    return re.search(rf"(/\S+/{re.escape(name)})\n", maps).group(1)


@pytest.fixture
def site(cli):
    """A directory of the site's software, which the bare runtime shows because it is in the home directory."""
    directory = Path(cli.environ["HOME"]) / "site"
    directory.mkdir()

    return directory


def test_library_path(both, site):
    """LD_LIBRARY_PATH leads the image's programs to the host's C library, which their loader cannot take."""
    shutil.copy(host_library("libc.so.6"), site)
    # The runtime drops LD_LIBRARY_PATH itself, so sites hand it on in the runtime's own way.
    environ = {"LD_LIBRARY_PATH": str(site), "APPTAINERENV_LD_LIBRARY_PATH": str(site)}
    bare, ran = both(environ, "cat", "/etc/debian_version")

    assert 0 != bare.returncode
    assert "GLIBC" in bare.stderr
    assert (0, b"11.") == (ran.status, ran.stdout[:3]), ran.stderr


def test_preload(both, site):
    """LD_PRELOAD, as XALT sets it, brings a library that is built for the host."""
    shutil.copy(host_library("libm.so.6"), site / "libxalt_init.so")
    bare, ran = both({"LD_PRELOAD": str(site / "libxalt_init.so")}, "cat", "/etc/debian_version")

    assert re.search(r"GLIBC_2\.\d+' not found", bare.stderr)
    assert (0, b"11.", "") == (ran.status, ran.stdout[:3], ran.stderr)


def test_preload_of_what_is_not_there(both):
    """LD_PRELOAD of a file that only the host has makes every command complain."""
    # The host's own programs complain, too; the payload's words are on standard output.
    script = "exec 2>&1; cat /dev/null; echo done"
    bare, ran = both({"LD_PRELOAD": "/nosuch/libxalt_init.so"}, "sh", "-c", script)

    assert "cannot be preloaded" in bare.stdout
    assert (0, b"done\n") == (ran.status, ran.stdout)


def test_python_home(both):
    """PYTHONHOME ends the image's Python before its first line."""
    bare, ran = both({"PYTHONHOME": "/opt/site/python-3.11"}, "python3", "-c", "print('alive')")

    assert 1 == bare.returncode
    assert "Fatal Python error" in bare.stderr
    assert (0, b"alive\n", "") == (ran.status, ran.stdout, ran.stderr)


def test_bash_env(both, site):
    """BASH_ENV has each bash in the container run the host's script first."""
    (site / "init").write_text("export PATH=/opt/site/bin\n")
    bare, ran = both({"BASH_ENV": str(site / "init")}, "bash", "-c", "ls /")

    assert 127 == bare.returncode
    assert "ls: command not found" in bare.stderr
    assert (0, "") == (ran.status, ran.stderr)


def test_shell_function(both):
    """The function that EL8 exports for which calls the image's with options that it does not know."""
    bare, ran = both({"BASH_FUNC_which%%": WHICH, "which_declare": "declare -f"}, "bash", "-c", "which ls")

    assert 2 == bare.returncode
    assert "Illegal option --" in bare.stderr
    assert (0, b"/usr/bin/ls\n", "") == (ran.status, ran.stdout, ran.stderr)


def test_locale(both):
    """A locale that only the host has ends programs that set their own from it."""
    program = "import locale; locale.setlocale(locale.LC_ALL, ''); print('set')"
    bare, ran = both({"LC_ALL": "en_US.UTF-8"}, "python3", "-c", program)

    assert 1 == bare.returncode
    assert "unsupported locale setting" in bare.stderr
    assert (0, b"set\n", "") == (ran.status, ran.stdout, ran.stderr)


def test_perl(both, site):
    """PERL5LIB leads the image's Perl to modules that were compiled for the host's."""
    find = 'print join " ", grep { -e } map { ("$_/List/Util.pm", "$_/auto/List/Util/Util.so") } @INC'
    found = subprocess.run(["perl", "-e", find], capture_output=True, text=True, check=True).stdout.split()
    for file in found:
        target = site / file[re.search(r"(auto/)?List/", file).start() :]
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            shutil.copy(file, target)
    bare, ran = both({"PERL5LIB": str(site)}, "perl", "-MList::Util=sum", "-e", "print sum 1, 2")

    assert 0 != bare.returncode
    assert "Util" in bare.stderr
    assert (0, b"3", "") == (ran.status, ran.stdout, ran.stderr)


def test_certificates(both, site, cli, image, runtime):
    """SSL_CERT_FILE names a bundle of the host, so that nothing is trusted in the container."""
    make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=ca -keyout /dev/null -out ca.pem"
    subprocess.run(
        [runtime, "exec", "--userns", image("debian11"), "openssl", *make.split()],
        env=cli.environ, cwd=cli.workdir, capture_output=True, check=True,
    )  # fmt: skip
    shutil.copy(cli.workdir / "ca.pem", site)
    environ = {"SSL_CERT_FILE": "/etc/pki/tls/certs/nosuch-bundle.crt"}
    bind = f"{site}/ca.pem:/usr/lib/ssl/cert.pem"
    bare, ran = both(environ, "openssl", "verify", "ca.pem", binds=[bind])

    assert 2 == bare.returncode
    assert "self signed certificate" in bare.stderr
    assert (0, b"ca.pem: OK\n") == (ran.status, ran.stdout), ran.stderr


def test_temporary_directory(both):
    """TMPDIR names a directory of the batch job that the container does not have."""
    bare, ran = both({"TMPDIR": "/scratch/batch/17"}, "mktemp")

    assert (1, "") == (bare.returncode, bare.stdout)
    assert (0, b"/tmp/tmp.") == (ran.status, ran.stdout[:9])


def test_nested_runtime(both, image, runtime):
    """A runtime in the container acts on what the outer one leaves behind, and on what the host set."""
    program = os.path.realpath(runtime)
    prefix = program.partition("/usr/bin/")[0]
    script = f"{program} exec --userns /inner sh -c 'ls -d /evil /inner 2>/dev/null; echo ended'; exit $?"
    binds = [f"{prefix}:{prefix}", f"{image('tiny')}:/inner"]
    options = ["--set", "isolation.nesting=true"]
    bare, ran = both({"SINGULARITY_BIND": "/etc/hostname:/evil"}, "sh", "-c", script, binds=binds, options=options)

    assert "/evil\n/inner\nended\n" == bare.stdout, bare.stderr
    assert b"ended\n" == ran.stdout, ran.stderr
