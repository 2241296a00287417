"""
A program that passes for a runtime of a chosen release.

Rules:

1. It takes the options that the table of products gives that release, and
   refuses the others in the words of the real one.
2. It makes real containers, on the programs of the machine that it runs on:
   what looks at containers from outside needs no exception for it.
3. Whatever runtime a test has, each call is written down before it acts.
"""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path
from typing import NamedTuple, Optional

from wlcg_isolate.errors import HostError, Problem
from wlcg_isolate.host import tiny
from wlcg_isolate.products import Product, known_options, parse_banner

#: The release that the fake is when nobody chooses.
BANNER = "apptainer version 1.4.5"

#: What a container is made with, beside a shell and its usual company.
NEEDED = ("unshare", "mount", "chroot", "setpriv")

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_RECORD = """\
#!/bin/sh
for word; do printf '%s\\0' "$word"; done >{calls}/$$
"""

_FAKE = """\
case $1 in
--version) echo {banner}; exit 0 ;;
buildcfg) echo APPTAINER_SUID_INSTALL=0; exit 0 ;;
esac
refuse() {{ printf 'Error for command "exec": unknown flag: %s\\n' "$1" >&2; exit 1; }}
fail() {{ echo "FATAL:   container creation failed: $*" >&2; exit 255; }}
shift
binds= work= cwd=/
while :; do
    case $1 in
    {absent}) refuse "$1" ;;
    --mount) binds="$binds$2
"; shift ;;
    --workdir) work=$2; shift ;;
    --pwd | --cwd) cwd=$2; shift ;;
    --no-mount) shift ;;
    {present}) ;;
    -*) refuse "$1" ;;
    *) break ;;
    esac
    shift
done
image=$1
shift
[ -d "$image" ] || fail "image $image: this fake runs trees only"
[ -z "$work" ] || mkdir -p "$work/tmp" "$work/var_tmp" || fail "workdir $work"
export binds work cwd image
exec unshare --user --map-root-user --mount --ipc --pid --fork --kill-child /bin/sh -c {inside} sh "$@"
"""

#: In namespaces of its own: a root on a file system of its own, with the machine's programs and the plan's binds.
_INSIDE = """\
fail() { echo "FATAL:   container creation failed: $*" >&2; exit 255; }
# Flags that a mount has on the machine are locked, and have to be named again.
freeze() {
    for flags in ro ro,nosuid,nodev ro,nosuid,nodev,noexec; do
        for times in '' ,relatime ,noatime; do
            mount -o "remount,bind,$flags$times" "$1" 2>/dev/null && return
        done
    done
    fail "mount $1: cannot be made read-only"
}
show() {
    [ -e "$1" ] || fail "mount $1->$2 error: while mounting $1: mount source $1 doesn't exist"
    if [ -d "$1" ]; then mkdir -p "$root$2"; else mkdir -p "${root}${2%/*}" && [ -e "$root$2" ] || : >"$root$2"; fi
    mount --rbind "$1" "$root$2" || fail "mount $1->$2"
}
root=ROOT
mount -t tmpfs -o mode=755 fake "$root" || fail "mount $root"
for entry in "$image"/* "$image"/.[!.]*; do
    if [ -L "$entry" ] || [ -f "$entry" ]; then cp -dp "$entry" "$root/"
    elif [ -d "$entry" ]; then mkdir -p "$root/${entry##*/}"
    fi
done
for name in usr bin sbin lib lib32 lib64 libx32; do
    if [ -L "/$name" ]; then rm -rf "$root/${name:?}"; cp -d "/$name" "$root/"
    elif [ -d "/$name" ]; then show "/$name" "/$name"; freeze "$root/$name"
    fi
done
mkdir -p "$root/etc"
for name in alternatives group ld.so.cache ld.so.conf ld.so.conf.d nsswitch.conf passwd; do
    if [ -e "/etc/$name" ]; then show "/etc/$name" "/etc/$name"; freeze "$root/etc/$name"; fi
done
mkdir -p "$root/proc" "$root/sys" "$root/dev/shm" "$root/tmp" "$root/var/tmp"
mount -t proc proc "$root/proc" || fail "mount proc"
for name in null zero full random urandom tty; do show "/dev/$name" "/dev/$name"; done
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=1777 fake "$root/dev/shm" || fail "mount /dev/shm"
if [ -n "$work" ]; then show "$work/tmp" /tmp; show "$work/var_tmp" /var/tmp; fi
while IFS= read -r bind; do
    [ -n "$bind" ] || continue
    case $bind in
    type=bind,src=*,dst=*,ro) ro=yes; bind=${bind%,ro} ;;
    type=bind,src=*,dst=*) ro= ;;
    *) fail "mount $bind: this fake does not read it" ;;
    esac
    source=${bind#type=bind,src=}; target=${source##*,dst=}; source=${source%,dst=*}
    show "$source" "$target"
    [ -z "$ro" ] || freeze "$root$target"
done <<LIST
$binds
LIST
freeze "$root"
for name in $(env | sed -n 's/^\\(PREFIXENV_[A-Za-z_][A-Za-z0-9_]*\\)=.*/\\1/p'); do
    eval "export ${name#PREFIXENV_}=\\"\\$$name\\"; unset $name"
done
place=$cwd
unset binds work cwd image APPTAINER_CONFIGDIR SINGULARITY_CONFIGDIR
# No signal of its own ends process 1, so the payload is another one; its end is told as the real one tells it.
exec chroot "$root" setpriv --no-new-privs --inh-caps=-all --ambient-caps=-all --bounding-set=-all /bin/sh -c '
    cd "$1" || exit 255
    shift
    unset OLDPWD
    { "$@" 2>&9 9>&-; } 9>&2 2>/dev/null
    exit $?
' sh "$place" "$@"
"""


class Program(NamedTuple):
    """
    A runtime under test, which writes down how it is called.

    Attributes:
        path: The program.

        calls: Directory of what it wrote down.
    """

    path: str
    calls: str

    def argvs(self) -> list[tuple[str, ...]]:
        """
        List the arguments of all calls that start a container, in order.
        """
        files = sorted(Path(self.calls).iterdir(), key=lambda file: file.stat().st_mtime_ns)
        found = [tuple(os.fsdecode(file.read_bytes()).split("\0")[:-1]) for file in files if file.is_file()]

        return [argv for argv in found if argv[:1] == ("exec",) and argv[-1] != tiny.PROGRAM]


def write_recorder(place: str, real: str) -> Program:
    """
    Write a program that notes each call of a real runtime.

    Args:
        place: An empty directory.

        real: Absolute path of the runtime.
    """
    return _write(place, os.path.basename(real), f'exec {shlex.quote(real)} "$@"\n')


def write_fake(place: str, banner: str = BANNER) -> Program:
    """
    Write a program that passes for a runtime.

    Args:
        place: An empty directory.

        banner: What it answers to ``--version``: the release that it is.

    Raises:
        HostError: No runtime answers so, or this machine lacks what the fake
            is made of.
    """
    product = parse_banner(banner)
    fault = _fault(banner, product)
    if product is None or fault is not None:
        advice = "test plans on nodes, which need no runtime, or with the real one: --real-runtime"
        raise HostError([Problem(kind="runtime-missing", message=fault or "", origin="fake runtime", advice=advice)])
    name = "apptainer" if product.flavour == "apptainer" else "singularity"
    root = os.path.join(place, "root")
    os.mkdir(root)
    inside = _INSIDE.replace("ROOT", shlex.quote(root), 1).replace("PREFIX", product.prefix)
    present = [option for option in known_options() if product.has(option)]
    text = _FAKE.format(
        banner=shlex.quote(banner),
        present=" | ".join(present) or "--version",
        absent=" | ".join(option for option in known_options() if option not in present) or "''",
        inside=shlex.quote(inside),
    )

    return _write(place, name, text)


def _fault(banner: str, product: Optional[Product]) -> Optional[str]:
    if product is None:
        return f"no runtime answers to --version with {banner!r}"
    lacking = [name for name in NEEDED if shutil.which(name, path=_PATH) is None]

    return f"this machine has no {' and no '.join(lacking)} (util-linux, coreutils)" if lacking else None


def _write(place: str, name: str, act: str) -> Program:
    calls, path = os.path.join(place, "calls"), os.path.join(place, name)
    os.mkdir(calls)
    with open(path, "w", encoding="utf-8") as f:
        f.write(_RECORD.format(calls=shlex.quote(calls)) + act)
    os.chmod(path, 0o755)  # noqa: S103 - a program for everybody, as runtimes are

    return Program(path, calls)
