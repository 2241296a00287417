"""
Configuration files of runtimes.
"""

from __future__ import annotations

import pytest

from wlcg_isolate.host.config import config_file_of, parse_config, read_config

#: Cut from what packages ship: Apptainer 1.4.5 (Debian), SingularityCE 4.1
#: (Ubuntu), Singularity 3.8.7 (EPEL) and 2.6.1.
SHIPPED = """\
# APPTAINER.CONF
# ALLOW SETUID: [BOOL]
# DEFAULT: yes
allow setuid = yes

#bind path = /opt
bind path = /etc/localtime
bind path = /etc/hosts
  bind path=/scratch:/data , /opt
enable overlay = try
image driver =
limit container paths = /cvmfs, /scratch
binary path = $PATH:/usr/local/sbin:/usr/bin
"""


def test_directives_are_read():
    """Values keep their order, remarks and empty values are left out, a directive that repeats adds up."""
    expected = {
        "allow setuid": ("yes",),
        "bind path": ("/etc/localtime", "/etc/hosts", "/scratch:/data", "/opt"),
        "enable overlay": ("try",),
        "limit container paths": ("/cvmfs", "/scratch"),
        "binary path": ("$PATH:/usr/local/sbin:/usr/bin",),
    }

    assert expected == parse_config(SHIPPED)


@pytest.mark.parametrize(
    "text", ["", "# bind path = /opt", "bind path", "= /opt", "\0\0", "key2 = digits are in no directive's name"]
)
def test_what_is_no_directive_is_left_out(text):
    """Remarks, noise and broken lines say nothing."""
    assert {} == parse_config(text)


def test_file_is_the_one_that_buildcfg_names():
    """A runtime that says where its configuration lies is believed."""
    built = "PACKAGE_NAME=apptainer\nAPPTAINER_CONF_FILE=/opt/a b/apptainer.conf\nAPPTAINER_SUID_INSTALL=0\n"

    assert "/opt/a b/apptainer.conf" == config_file_of("/usr/bin/apptainer", built)


def test_file_under_the_same_prefix_is_found(tmp_path):
    """Without an answer, the usual place beside the program counts; links to the program are followed."""
    program = tmp_path / "usr" / "bin" / "singularity"
    conf = tmp_path / "usr" / "etc" / "singularity" / "singularity.conf"
    for path in (program, conf):
        path.parent.mkdir(parents=True)
        path.write_text("")
    link = tmp_path / "link"
    link.symlink_to(program)

    assert str(conf) == config_file_of(str(link), "")


def test_unreadable_file_is_none(tmp_path):
    """A file that is not there is told from an empty one."""
    empty = tmp_path / "empty.conf"
    empty.write_text("")

    assert (None, {}) == (read_config(str(tmp_path / "none")), read_config(str(empty)))
