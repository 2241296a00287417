"""
Start a payload without this library being there: the launch's protocol as a
program for the node's own ``/bin/sh``.

For pilots that start processes themselves, in any language.  `PROGRAM` is the
same for every plan; what a plan decides is in its arguments and variables.

Rules:

1. The payload's first instruction comes after the start marker, the checks
   from outside and the file ``started``, which no container sees.  What the
   payload can still reach of the two pipes leads to nobody who would believe
   it.
2. Whoever reads ``ps`` sees no value of a variable and no argument of the
   payload: they travel in the environment of the shell, and from there over
   a pipe.
3. The runtime is executed in the place of the shell (same process id, same
   exit status, signals go where they should), or, for `Plan.shell`, is waited
   for, so that all is tidied up when the line ends.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import attrs

from wlcg_isolate import _render
from wlcg_isolate.loader.program import MARKER_FD, NOT_RELEASED, RELEASE_FD, WAITING_FDS

if TYPE_CHECKING:
    from wlcg_isolate.binds import BindDecision
    from wlcg_isolate.plan import Plan

#: What waits in the container.  It reads its one line from the descriptor that
#: it has: opening a named pipe again would wait for a writer who may have gone.
#: ``exit`` is reached when nobody releases it, or the line is cut short.
_WAIT = (
    f'echo "$$" >&{MARKER_FD}; IFS= read -r wlcg_isolate_line <&{RELEASE_FD} && eval "$wlcg_isolate_line"; '
    f"exit {NOT_RELEASED}"
)
WAITING_SHELL = ("/bin/sh", "-c", _WAIT)

#: How the line spells a newline, which is in single quotes wherever it is.
_NEWLINE = """'"$wlcg_isolate_newline"'"""
_SET_NEWLINE = "wlcg_isolate_newline=$(printf '\\n.'); wlcg_isolate_newline=${wlcg_isolate_newline%.}"

#: Directory for what is left, below a directory of trace records; each user's
#: own, as several may share those.
STARTS = ".starts-{uid}"

#: What is checked from outside before the release.
VERIFIES = ("namespaces", "mount points", "image file")

#: Characters of the release in one variable: with four bytes each it is
#: below what the kernel lets one have.
_CHUNK = 30_000
_RELEASE = "WLCG_ISOLATE_RELEASE_"

_SOURCE = r"""
id=$1 scratch=$2 stay=$3 limit=$4 grace=$5 deadline=$6 apart=$7 image=$8 identity=$9 binds=${10}
life=${11} estate=${12} group=${13}
shift 13
mask=$(umask)
umask 077
# What the caller has closed must not become a descriptor of ours.
true 2>/dev/null <&0 || exec </dev/null
true 2>/dev/null >&1 || exec >/dev/null
true >&2 2>/dev/null || exec 2>/dev/null

give_up() {
    printf 'wlcg-isolate: %s\n' "$1" >&2
    exit 125
}

refuse() {
    rm -rf "$left"
    mkdir "$left" && echo "$1" >"$left/refused" && echo 125 >"$left/end"
    give_up "${1#* }"
}

remove() {
    rm -rf "$1" 2>/dev/null || {
        chmod -R u+rwx "$1"
        rm -rf "$1"
    }
}

tidy() {
    [ -e "$left/started" ] || cat "$scratch/words" >"$left/words"
    remove "$scratch"
}

# It ends at an ALRM, which no pilot sends; its sleep with it, also where its number is not noted yet.
timer() {
    nap= over=
    trap 'if [ -n "$nap" ]; then kill -KILL "$nap"; exit 0; fi; over=yes' ALRM
    sleep "$1" &
    nap=$!
    [ -z "$over" ] || {
        kill -KILL "$nap"
        exit 0
    }
    wait "$nap"
    shift
    "$@"
}

hung() {
    : >"$left/hung"
    read -r run <"$left/runtime" && kill_all
}

stop() {
    : >"$left/$1"
    kill -TERM "$payload"
    sleep "$grace"
    kill_all
}

kill_all() {
    look_at_family
    kill -KILL $family
}

# Find the process that wrote the marker among the runtime's descendants.
look_at_family() {
    payload= init= family= todo=$run
    while [ -n "$todo" ]; do
        one=${todo%% *}
        todo=${todo#"$one"}
        todo=${todo# }
        family="$family $one"
        last=
        while read -r key rest; do
            [ "$key" != NSpid: ] || last=${rest##*[!0-9]}
        done <"/proc/$one/status"
        if [ "$one" != "$run" ]; then
            [ "$last" != "$inner" ] || payload=${payload:-$one}
            [ "$last" != 1 ] || init=${init:-$one}
        fi
        for list in "/proc/$one"/task/*/children; do
            kids=
            # It ends without a newline, and is gone with its process.
            read -r kids <"$list"
            for kid in $kids; do
                todo="$todo${todo:+ }$kid"
            done
        done
    done
}

# One process for all of them: /proc/NUMBER/ns/NAME leads to an inode of the namespace.
namespaces_of() {
    set -- "$1"
    for name in $apart; do
        set -- "$@" "/proc/$1/ns/$name"
    done
    shift
    stat -Lc %i "$@"
}

check_namespaces() {
    seen= left_of_ours=$ours
    set -- $(namespaces_of "$payload")
    for name in $apart; do
        if [ -z "$1" ] || [ "$1" = "${left_of_ours%% *}" ]; then
            why="isolation-incomplete the container has no $name namespace of its own"
            return
        fi
        seen="$seen $name $1"
        left_of_ours=${left_of_ours#* }
        shift
    done
}

check_binds() {
    set -f
    for bind in $binds; do
        place=${bind#*:}
        shown=
        while read -r _ _ _ _ point options _; do
            [ "$point" != "$place" ] || shown=$options
        done <"/proc/$payload/mountinfo"
        case ${bind%%:*}:$shown in
            *:) why="bind-not-seen the container does not show $place: nothing is mounted there" ;;
            rw:* | ro:ro | ro:ro,*) ;;
            *) why="bind-not-seen the container does not show $place: it can be written" ;;
        esac
    done
    set +f
}

check() {
    look_at_family
    if [ -z "$payload" ]; then
        why="isolation-incomplete the payload's process was not found below the runtime's"
        return
    fi
    check_namespaces
    [ -n "$why" ] || check_binds
    if [ -z "$why" ] && [ -n "$identity" ] && [ "$(stat -c '%d %i %s %Y %Z' "$image")" != "$identity" ]; then
        why="image-changed $image was replaced after it was examined"
    fi
}

tell() {
    read -r ticks <"/proc/$payload/stat"
    set -- ${ticks##*) }
    shift 19
    printf '%s\n' "trace_id $id" "pid $payload" "inner_pid $inner" "init $init" >"$left/new" &&
    printf '%s\n' "start_ticks $1" "namespaces$seen" >>"$left/new" &&
    mv "$left/new" "$left/started" ||
    why="trace-unwritable $left/started cannot be written"
}

release() {
    i=0
    {
        while eval "[ -n \"\${WLCG_ISOLATE_RELEASE_$i}\" ]"; do
            eval "printf %s \"\${WLCG_ISOLATE_RELEASE_$i}\""
            i=$((i + 1))
        done
        echo
    } >&3
    exec 3>&-
    read -r taken <&4 || why="runtime-killed the container was ended before the start"
}

watch() {
    trap '' HUP INT QUIT TERM USR1 USR2 PIPE
    [ -z "$group" ] || echo 0 >"$group"
    [ -z "$life" ] || exec 9<"$life"
    exec 4<"$left/ready" 3>"$left/release"
    rm -f "$left/ready" "$left/release" "$left/life"
    timer "$deadline" hung 3>&- 4<&- 9<&- &
    guard=$!
    ours=$(echo $(namespaces_of self))
    inner= why=
    read -r inner <&4
    read -r run <"$left/runtime"
    case $inner in
        '' | *[!0-9]*) why=- ;;
        *) check ;;
    esac
    [ -n "$why" ] || tell
    [ -n "$why" ] || release
    relax
    exec 3>&-
    if [ -n "$why" ]; then
        [ "$why" = - ] || printf '%s\n' "$why" >"$left/refused"
        timer "$grace" kill_all 4<&- 9<&- &
        guard=$!
    elif [ -n "$limit" ]; then
        timer "$limit" stop limit 4<&- 9<&- &
        guard=$!
    fi
    if [ -n "$life" ] && ! read -r _ <&9; then
        # Whoever waited for the runtime is gone.
        if [ -z "$why" ]; then
            : >"$left/lost"
            kill -TERM "$payload"
            relax
            timer "$grace" kill_all 4<&- 9<&- &
            guard=$!
        fi
        finish
        [ -z "$estate" ] || remove "$estate"
    elif [ -z "$stay" ]; then
        finish
    fi
    relax
}

# The number of a timer that has ended may be somebody else's.
relax() {
    [ -z "$guard" ] || kill -ALRM "$guard"
    guard=
}

# Wait until nothing of the container is left; what a payload may still write is of no interest.
finish() {
    cat <&4
    relax
    : >"$left/over"
    tidy
    : >"$left/end"
}

start() {
    exec 4>"$left/ready" 3<"$left/release"
    read -r own _ </proc/self/stat
    echo "$own" >"$left/runtime"
    umask "$mask"
    exec 8<&- 9<&-
    exec env -i "$@" 5<&0 6>&1 7>&2 </dev/null >"$scratch/words" 2>&1
}

left= uid=$(id -u)
while [ "$1" != -- ]; do
    place=$1/.starts-$uid
    [ -n "$left" ] || [ -O "$place" ] || mkdir -p "$place" 2>/dev/null
    if [ -z "$left" ] && [ -O "$place" ] && [ -w "$place" ]; then
        left=$place/$id
    fi
    shift
done
shift
[ -n "$left" ] || give_up 'no directory for trace records can be written'
[ -z "$life" ] || [ -p "$life" ] || give_up "$life is no named pipe"
mkdir -m 700 "$scratch" 2>/dev/null || {
    # What is there belongs to another start of the same plan, which may still run.
    [ -e "$scratch" ] || refuse "workdir-not-writable $scratch cannot be made"
    give_up "$scratch exists: this plan was started already"
}
[ ! -e "$left" ] || rm -rf "$left"
mkdir "$left" && mkfifo "$left/ready" "$left/release" "$left/life" || {
    rm -rf "$scratch"
    refuse "trace-unwritable $left cannot be made"
}
mkdir -m 1777 "$scratch/tmp" "$scratch/var_tmp" || {
    rm -rf "$scratch"
    refuse "workdir-not-writable $scratch cannot be made"
}
while [ "$1" != -- ]; do
    case $1 in
        directory) mkdir -p "$2" ;;
        *) mkdir -p "${2%/*}" && : >>"$2" ;;
    esac
    shift 2
done
shift
[ -z "$stay" ] || life=$left/life
# Opening it must not wait for a writer, who may have gone.
[ -z "$life" ] || exec 9<>"$life"
# A child of a child, so that the runtime finds no child that it did not make.
# With the function's own redirections a shell would keep copies of what the caller waits for.
(watch &) </dev/null >/dev/null 2>&1 || {
    rm -rf "$scratch"
    refuse 'runtime-failed no process can watch the start'
}
[ -n "$stay" ] || start "$@"
# The shell must not remark on how the runtime ended.
exec 8>&2 2>/dev/null
(exec 2>&8; start "$@")
status=$?
{
    echo "$status"
    times
} >"$left/end"
echo ended >&9
tidy
exit "$status"
"""

#: After a line that ends so, no semicolon is wanted.
_OPEN_ENDS = ("{", "(", "then", "do", "else", " in", "&&", "||", ";;", "|", "&")


def _one_line(source: str) -> str:
    """
    Write a program on one line.
    """
    lines = [line.strip() for line in source.split("\n")]
    lines = [line for line in lines if line and not line.startswith("#")]

    return " ".join(line if line.endswith(_OPEN_ENDS) else f"{line};" for line in lines)


PROGRAM = _one_line(_SOURCE)


@attrs.frozen(kw_only=True)
class Supervised:
    """
    A command that starts a payload with marker and checks.

    Attributes:
        argv: The command.

        environ: Its whole environment, which holds the values of the
            payload's variables.
    """

    argv: tuple[str, ...]
    environ: dict[str, str] = attrs.field(repr=False)


def supervised(plan: Plan, *, stay: bool = False, life: str = "", estate: str = "", group: str = "") -> Supervised:
    """
    Write the command.

    Args:
        plan: The plan.

        stay: Whether it waits for the runtime and tidies up, instead of
            becoming the runtime.

        life: Named pipe, out of the payload's sight, that whoever starts the
            command holds open and writes a line to when the runtime has
            ended.  Where its end comes before the line, the payload is
            stopped.

        estate: Directory that is removed then.

        group: File ``cgroup.procs`` of the cgroup that what watches moves to,
            so that the payload's own can be removed with its last process.
    """
    runtime, image = plan.runtime, plan.image
    apart = ["mnt", "ipc", *(["pid"] if runtime.pid else []), *(["user"] if runtime.mode == "userns" else [])]
    apart += ["net"] if plan.isolation.network == "none" else []
    argv = ["/bin/sh", "-c", PROGRAM, "wlcg-isolate", plan.trace_id, plan.scratch, "stay" if stay else ""]
    argv += ["" if plan.timeout is None else _seconds(plan.timeout), _seconds(plan.grace)]
    argv += [_seconds(plan.start_deadline), " ".join(apart), image.resolved_path, _identity(plan), _promises(plan)]
    argv += [life, estate, group, *plan.trace_dirs, "--"]
    for path, kind in _render.scratch_mount_points(plan):
        argv += [kind, path]
    argv += ["--", *(f"{name}={value}" for name, value in _render.runtime_environ(plan, plan.scratch).items())]
    argv += [*_render.runtime_argv(plan, plan.scratch), *WAITING_SHELL]
    text = release_text(plan)
    chunks = [text[i : i + _CHUNK] for i in range(0, len(text), _CHUNK)]
    environ = {"PATH": plan.runtime_environ["PATH"], "LC_ALL": "C"}
    environ.update((f"{_RELEASE}{i}", chunk) for i, chunk in enumerate(chunks))

    return Supervised(argv=tuple(argv), environ=environ)


def shell_line(plan: Plan) -> str:
    """
    Write the command as one POSIX shell line.

    It is one simple command with an absolute path, so that no function, no
    variable and no option of the shell that runs it changes anything.
    """
    command = supervised(plan, stay=True)
    words = ["/usr/bin/env", "-i", *(f"{name}={value}" for name, value in command.environ.items()), *command.argv]

    return shlex.join(words)


def release_text(plan: Plan) -> str:
    """
    Write the line that turns the waiting shell into the payload.
    """
    # The runtime starts elsewhere when the caller's directory is gone (1.4.5).
    lines = [f"cd {shlex.quote(plan.home)} || exit {NOT_RELEASED}", _render.tidy_text(plan).rstrip("; ")]
    environ = {**plan.payload_environ, "HOME": plan.home, "PWD": plan.home}
    lines += [f"export {name}={shlex.quote(value)}" for name, value in environ.items()]
    lines.append(f"set -- {shlex.join(plan.request.payload.command)}")
    moves = " ".join(f"{i}<&{fd}" if i == 0 else f"{i}>&{fd}" for i, fd in enumerate(WAITING_FDS))
    closes = " ".join(f"{fd}<&-" for fd in (RELEASE_FD, MARKER_FD, *WAITING_FDS))
    lines += [f"echo >&{MARKER_FD} || exit {NOT_RELEASED}", f"exec {moves} {closes}", 'exec "$@"']

    return f"{_SET_NEWLINE}; " + "; ".join(lines).replace("\n", _NEWLINE)


def _seconds(value: float) -> str:
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _identity(plan: Plan) -> str:
    """
    Write what stat(1) shows of the image file that was examined.
    """
    if plan.image.identity is None:
        return ""
    device, inode, size, *times = plan.image.identity

    return " ".join(map(str, (device, inode, size, *(time // 1_000_000_000 for time in times))))


def _promises(plan: Plan) -> str:
    """
    List the mount points that must be seen, as mountinfo spells them.
    """
    octal = {sign: f"\\{ord(sign):03o}" for sign in " \t\n\\"}
    spelled = str.maketrans(octal)

    return " ".join(f"{_access(bind)}:{bind.place.translate(spelled)}" for bind in plan.mounts)


def _access(bind: BindDecision) -> str:
    # Writing to a device is no matter of its file system.
    return "rw" if bind.writable or bind.source.startswith("/dev/") else "ro"
