"""Scripts whose interpreter is in a container."""

from __future__ import annotations

import subprocess

import pytest


@pytest.fixture
def script(cli, image, tmp_path):
    """Write a script that anybody can start, and run it from a working directory."""

    def run(place, *arguments, text, end="\n", **more):
        # The first line of a script has 255 bytes at most: the trace directory is a policy of the site.
        site = tmp_path / "site.toml"
        site.write_text(f'version = 1\n[trace]\ndirectories = ["{cli.trace_dir}"]\n')
        file = place / "job.sh"
        file.write_text(f"#!/usr/bin/env -S wlcg-isolate run --image {image('tiny')} --script -- sh{end}{text}")
        file.chmod(0o755)
        environ = {**cli.environ, "PATH": f"{program_dir(cli)}:{cli.environ['PATH']}", "WLCG_ISOLATE_SITE": str(site)}
        return subprocess.run(
            [str(file), *arguments], env=environ, cwd=cli.workdir, capture_output=True, text=True, timeout=60,
            check=False, **more,
        )  # fmt: skip

    return run


def program_dir(cli):
    """Find where ``wlcg-isolate`` is installed."""
    return cli.program[0].rpartition("/")[0]


@pytest.mark.serves("script", "arguments")
@pytest.mark.serves("script", "standard input")
@pytest.mark.serves("script", "exit status")
@pytest.mark.parametrize("beside", [True, False], ids=["in-workdir", "elsewhere"])
def test_script(cli, script, tmp_path, beside):
    """A script gets arguments and input, sees the working directory, and its exit status is the caller's."""
    place = cli.workdir if beside else tmp_path
    text = 'echo "$0|$1|$2|$#"; cat; echo done >result; exit 7\n'
    done = script(place, "a", "b c", text=text, input="input\n")

    assert (7, f"{'.' if beside else '/script'}/job.sh|a|b c|2\ninput\n", "") == (
        done.returncode, done.stdout, done.stderr,
    )  # fmt: skip
    assert "done\n" == (cli.workdir / "result").read_text()
    assert "payload.end" in cli.read(7).actions()


@pytest.mark.serves("script", "any name of script and directory, no new line at its end, CRLF on its first line")
@pytest.mark.parametrize("beside", [True, False], ids=["in-workdir", "elsewhere"])
@pytest.mark.parametrize("directory", ["a b", "x, y:z", "q\"u'o\\t\n$HOME"])
def test_odd_scripts(cli, script, tmp_path, beside, directory):
    """Names with blanks and what means something elsewhere are taken as they are; the last line may lack its end."""
    place = (cli.workdir if beside else tmp_path) / directory
    place.mkdir()
    done = script(place, text='echo "$0"', end="\r\n")

    assert (0, f"./{directory}/job.sh\n" if beside else "/script/job.sh\n", "") == (
        done.returncode, done.stdout, done.stderr,
    )  # fmt: skip
