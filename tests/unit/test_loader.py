"""The loader: its bytes, what it reads, and what it does on its own, without any container."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import types

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from wlcg_isolate.host import loader as host_loader
from wlcg_isolate.launch import process
from wlcg_isolate.launch.child import Child
from wlcg_isolate.loader import MACHINES, elf, loader_for, release
from wlcg_isolate.loader.aarch64 import AArch64
from wlcg_isolate.loader.filter import restrictions
from wlcg_isolate.loader.program import write_program
from wlcg_isolate.loader.x86_64 import X86_64

OWN = os.uname().machine
#: How a loader is started here: by the kernel, or by the emulator of its processor.
EMULATOR = {machine: [] if machine == OWN else [shutil.which(f"qemu-{machine}")] for machine in MACHINES}
#: Root can install the emulator (tools/test does), so there a missing one is a failure and not one test less.
RUNNABLE = [machine for machine, words in EMULATOR.items() if None not in words or os.geteuid() == 0]


# --- bytes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("machine", MACHINES)
def test_is_small_and_the_same_each_time(machine):
    """The program is of some hundred bytes, and depends on nothing."""
    first = loader_for(machine)
    loader_for.cache_clear()

    assert first == loader_for(machine)
    assert len(first) < 1500


def test_no_loader_for_others():
    """For another processor there is none."""
    assert None is loader_for("riscv64")


@pytest.mark.parametrize("machine", MACHINES)
def test_elf(machine):
    """The file is one segment, readable and executable, and a stack that is not."""
    data = loader_for(machine)
    fields = struct.unpack_from("<16sHHIQQQIHHHHHH", data)
    segments = [struct.unpack_from("<IIQQQQQQ", data, 64 + 56 * i) for i in range(2)]

    assert (b"\x7fELF\x02\x01\x01" + bytes(9), 2, MACHINES[machine].elf_machine, 1) == fields[:4]
    assert (elf.ADDRESS + 176, 64, 0, 0, 64, 56, 2, 0, 0, 0) == fields[4:]
    assert (1, 5, 0, elf.ADDRESS, elf.ADDRESS, len(data), len(data), 0x10000) == segments[0]
    assert (0x6474E551, 6) == segments[1][:2]


#: As an assembler and a disassembler of the GNU project have them.
ENCODINGS = [
    (X86_64, "set", ("a0", 1), "48c7c701000000"),
    (X86_64, "set", ("a3", -1), "49c7c2ffffffff"),
    (X86_64, "copy", ("s2", "ret"), "4989c5"),
    (X86_64, "copy", ("a0", "s3"), "4c89f7"),
    (X86_64, "load", ("a1", "s0", 8), "488bb308000000"),
    (X86_64, "load", ("s3", "s1", 0), "4c8bb500000000"),
    (X86_64, "store", ("s3", "a1", 8), "4c89b608000000"),
    (X86_64, "store_byte", ("a2", "s2", 0), "49889500000000"),
    (X86_64, "increase", ("s2", -1), "4981c5ffffffff"),
    (X86_64, "add", ("s2", "ret"), "4901c5"),
    (X86_64, "subtract", ("a2", "s2"), "4c29ea"),
    (X86_64, "split_digit", ("s1", "a2"), "4889e848c7c200000000b90a00000048f7f14889c5"),
    (X86_64, "call", ("close", "s1"), "4889efb8030000000f05"),
    (AArch64, "set", ("a0", 1), "200080d2"),
    (AArch64, "set", ("a0", -100), "600c8092"),
    (AArch64, "set", ("a0", 0x1FFF0040), "000880d2e0ffa3f2"),
    (AArch64, "copy", ("s2", "ret"), "f50300aa"),
    (AArch64, "load", ("a1", "s0", 8), "610640f9"),
    (AArch64, "store", ("s3", "a1", 8), "360400f9"),
    (AArch64, "store_byte", ("a2", "s2", 0), "a2020039"),
    (AArch64, "increase", ("s2", -1), "b50600d1"),
    (AArch64, "increase", ("s1", 8), "94220091"),
    (AArch64, "add", ("s2", "ret"), "b502008b"),
    (AArch64, "subtract", ("a2", "s2"), "420015cb"),
    (AArch64, "split_digit", ("s1", "a2"), "490180d28a0ac99a42d1099bf4030aaa"),
    (AArch64, "call", ("close", "s1"), "e00314aa280780d2010000d4"),
]


@pytest.mark.parametrize(
    ("kind", "name", "words", "expected"), ENCODINGS, ids=[f"{e[0].__name__}-{e[1]}" for e in ENCODINGS]
)
def test_encoding(kind, name, words, expected):
    """Each instruction is what the processor's manual says."""
    assembler = kind()
    getattr(assembler, name)(*words)

    assert expected == assembler.finish().hex()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (X86_64, "4881f800000000 0f8406000000 90e9edffffff 90e900000000"),
        (AArch64, "090080d21f0009eb 40000054 fdffff17 01000014"),
    ],
    ids=["x86_64", "aarch64"],
)
def test_jumps(kind, expected):
    """Jumps lead forwards and backwards to where their labels are."""
    a = kind()
    a.label("start")
    a.jump_if("ret", "eq", 0, "near")
    a.jump("start")
    a.label("near")
    a.jump("end")
    a.label("end")

    assert expected.replace(" ", "") == a.finish().hex()


# --- what it reads -------------------------------------------------------------------------------------------------


def _text(data, address):
    start = address - release.ADDRESS

    return data[start : data.index(b"\0", start)]


def _list(data, address):
    found = []
    while True:
        (item,) = struct.unpack_from("<Q", data, address - release.ADDRESS)
        if not item:
            return found
        found.append(item)
        address += 8


WORD = st.binary(max_size=20).map(lambda word: word.replace(b"\0", b"!"))


@given(
    command=st.lists(WORD, min_size=1, max_size=5),
    environ=st.lists(WORD, max_size=5),
    paths=st.lists(WORD, max_size=4),
    directory=WORD,
)
def test_layout(command, environ, paths, directory):
    """All that was laid out is found again at its address."""
    raw = release.lay_out(command, environ, paths=paths, directory=directory, last_fd=77)
    data = raw[8:]
    words = struct.unpack_from("<13Q", data)
    texts = [[_text(data, item) for item in _list(data, words[i])] for i in range(3)]
    shell = struct.unpack_from(f"<{len(command) + 2}Q", data, words[3] - release.ADDRESS)

    assert len(data) == struct.unpack_from("<Q", raw)[0]
    assert [paths, command, environ] == texts
    assert (directory, 77) == (_text(data, words[4]), words[5])
    assert (b"/bin/sh", 0, 0) == (_text(data, shell[0]), shell[1], shell[-1])
    assert command[1:] == [_text(data, item) for item in shell[2:-1]]
    assert [0, 0, 0, 0] == [address % 8 for address in words[:4]]
    for (address, size, status), reason in zip((words[6:9], words[9:12]), ((127, b"not found"), (126, b"executed"))):
        said = data[address - release.ADDRESS :][:size]
        assert (reason[0], True) == (status, said.startswith(b"wlcg-isolate: ") and said.endswith(reason[1] + b"\n"))


@pytest.mark.parametrize(
    ("program", "path", "expected"),
    [
        (b"x", b"/a:/b", [b"/a/x", b"/b/x"]),
        (b"x", b"/a::b:", [b"/a/x", b"x", b"b/x"]),
        (b"x", b"", [b"x"]),
        (b"x", None, [b"/bin/x", b"/usr/bin/x"]),
        (b"x", b"/a:/b:/a", [b"/a/x", b"/b/x"]),
        (b"./x", b"/a", [b"./x"]),
        (b"/x", None, [b"/x"]),
        (b"a/x", b"/a", [b"a/x"]),
        (b"", b"/a", [b""]),
        (b"x" * 256, b"/a", []),
        (b"x", b"/" + b"a" * 4100 + b":/b", [b"/b/x"]),
    ],
    ids=["two", "empty", "nothing", "unset", "twice", "dot", "absolute", "slash", "no-name", "long-name", "long-place"],
)
def test_candidates(program, path, expected):
    """A program is looked for as execvp(3) looks for it."""
    assert expected == release.candidates(program, path)


# --- on its own ----------------------------------------------------------------------------------------------------


@pytest.fixture(params=RUNNABLE)
def machine(request):
    """Each processor whose loader can run here."""
    if None in EMULATOR[request.param]:
        pytest.fail(f"there is no qemu-{request.param}: apt-get install qemu-user")

    return request.param


@pytest.fixture
def load(machine, tmp_path):
    """Start a loader, release it, and tell what became of it."""
    program = tmp_path / "loader"

    def make(raw, *, code=None, before=(), step=None):
        program.write_bytes(code or loader_for(machine))
        program.chmod(0o755)
        pipes = [os.pipe() for _ in range(3)]
        (raw_out, raw_in), (marker_out, marker_in), (said_out, said_in) = pipes
        argv = [*before, *EMULATOR[machine], str(program)]
        with open(os.devnull, "r+b") as null:
            fixed = {0: null.fileno(), 1: 2, 2: 2, 3: raw_out, 4: marker_in, 5: null.fileno(), 6: said_in, 7: said_in}
            child = Child(process.spawn(argv, {}, fixed))
        for fd in (raw_out, marker_in, said_in):
            os.close(fd)
        said = []
        with open(said_out, "rb") as out, open(marker_out, "rb", buffering=0) as marker:
            reader = threading.Thread(target=lambda: said.append(out.read()))
            reader.start()
            pid = marker.readline()
            with open(raw_in, "wb", buffering=0) as text, contextlib.suppress(BrokenPipeError):
                piece = step or len(raw) or 1
                text.writelines(raw[start : start + piece] for start in range(0, len(raw), piece))
            answer = marker.read()
            child.wait(60)
            reader.join()
        child.close()

        return types.SimpleNamespace(
            own_marker=pid == b"%d\n" % child.pid, answer=answer, ended=tuple(child.ended), said=said[0]
        )

    return make


def laid_out(*command, environ=(), path=b"/usr/bin:/bin", directory=b"/", paths=None, **more):
    """Write a release for a command."""
    words = [os.fsencode(word) for word in command]
    found = release.candidates(words[0], path) if paths is None else paths

    return release.lay_out(words, list(environ), paths=found, directory=directory, last_fd=1023, **more)


def test_becomes_the_payload(load):
    """It says who it is, that it has read, and becomes what it was told, in its directory."""
    done = load(laid_out("sh", "-c", "pwd; echo $$; exit 7", directory=b"/usr/lib"))

    assert (True, b"\n", (7, None)) == (done.own_marker, done.answer, done.ended)
    assert b"/usr/lib" == done.said.splitlines()[0]


EVERY = bytes(range(1, 256))
ENVIRONMENTS = {
    "every-byte": [b"A=" + EVERY, b"NL=\n\n", b"Q='\"\\$(x)`x`"],
    "every-name": [bytes([i]) + b"x=1" for i in range(1, 256) if i != ord("=")],
    "shells-own": [b"UID=1", b"RANDOM=2", b"OPTIND=x", b"_=3", b"SHLVL=4", b"BASH_FUNC_x%%=() { :; }", b"a.b=5"],
    "empty-values": [b"A=", b"B=", b"=", b"="],
    "no-equals": [b"A", b""],
    "twice": [b"A=1", b"A=2"],
    "nothing": [],
    "longest": [b"A=" + b"x" * (32 * 4096 - 3)],
    "two-megabytes": [b"V%d=" % i + b"y" * 100_000 for i in range(20)],
    "5000": [b"V%d=%d" % (i, i * i) for i in range(5000)],
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_environment_is_exact(load, name):
    """The payload's environment is what was laid out, in its order, and nothing else."""
    expected = ENVIRONMENTS[name]
    done = load(laid_out("cat", "/proc/self/environ", environ=expected))

    assert ((0, None), b"".join(entry + b"\0" for entry in expected)) == (done.ended, done.said)


@pytest.mark.parametrize(
    "words",
    [(EVERY,), (b"",), (b"", b"", b""), (b"\n", b"-n", b"*", b"$(x)"), (b"x" * (32 * 4096 - 1),), (b"a",) * 5000],
    ids=["every-byte", "empty", "empties", "odd", "longest", "5000"],
)
def test_arguments_are_exact(load, words):
    """The payload's arguments are what was laid out."""
    done = load(laid_out("sh", "-c", "cat /proc/$$/cmdline; exit 0", "sh", *words))

    assert (0, None) == done.ended
    assert [b"sh", *words] == done.said[:-1].split(b"\0")[3:]


def test_name_of_the_program(load):
    """The first argument may be anything, even empty, and is the payload's own."""
    done = load(laid_out("", "-c", "cat /proc/$$/cmdline; exit 0", paths=[b"/bin/sh"]))

    assert b"" == done.said.split(b"\0")[0]
    assert ((0, None), b"-c") == (done.ended, done.said.split(b"\0")[1])


def test_release_in_pieces(load):
    """However the release arrives, it is read whole."""
    done = load(laid_out("echo", "whole"), step=7)

    assert ((0, None), b"whole\n") == (done.ended, done.said)


def test_descriptors(load):
    """The payload has three descriptors, and no way to the pipes."""
    done = load(laid_out("ls", "-l", "/proc/self/fd"))
    names = [line.split()[-3] for line in done.said.decode().splitlines()[1:]]

    # The last one is the directory that is being listed.
    assert ["0", "1", "2", "3"] == names


def test_descriptors_on_an_old_kernel(load, machine):
    """Where the kernel has no close_range(2), the descriptors are closed one by one."""
    kind = MACHINES[machine]
    a = type("Old", (kind,), {"calls": {**kind.calls, "close_range": 99_999}})()
    write_program(a)
    done = load(laid_out("ls", "/proc/self/fd"), code=elf.wrap(a.finish(), kind.elf_machine))

    assert ((0, None), b"0\n1\n2\n3\n") == (done.ended, done.said)


def test_signals(load, machine):
    """What was blocked is not, and what was ignored stays so, as an exec does it."""
    block = (
        "import os, signal, sys\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\n"
        "signal.signal(signal.SIGUSR1, signal.SIG_IGN)\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    done = load(laid_out("cat", "/proc/self/status"), before=[sys.executable, "-S", "-c", block])
    status = dict(line.split(":\t", 1) for line in done.said.decode().splitlines() if ":\t" in line)

    assert 0 == int(status["SigBlk"], 16)
    # The emulator itself ignores nothing.
    assert (machine == OWN) == bool(int(status["SigIgn"], 16) & 1 << (signal.SIGUSR1 - 1))


#: Lets the kernel take a program from somebody who is not root.
NO_PRIVILEGES = (
    "import ctypes, os, sys\nassert ctypes.CDLL(None).prctl(38, 1, 0, 0, 0) == 0\nos.execv(sys.argv[1], sys.argv[1:])\n"
)


def test_restrictions(load, machine):
    """The kernel keeps the payload from what the release says; an emulator cannot, and executes nothing."""
    raw = laid_out(
        "sh", "-c", "grep Seccomp: /proc/self/status; unshare -U true; echo $?",
        restrictions=restrictions(machine, nesting=False, keyrings=False),
    )  # fmt: skip
    done = load(raw, before=[sys.executable, "-S", "-c", NO_PRIVILEGES])

    if machine == OWN:
        assert (b"\n", (0, None)) == (done.answer, done.ended)
        assert b"Seccomp:\t2\n" == done.said[:11]
        assert done.said.endswith(b"Operation not permitted\n1\n")
    else:
        assert (b"", (125, None), b"") == (done.answer, done.ended, done.said)


def test_restrictions_that_the_kernel_refuses(load):
    """Nothing is executed without them."""
    raw = laid_out("echo", "ran", restrictions=b"\xff" * 8)
    done = load(raw, before=[sys.executable, "-S", "-c", NO_PRIVILEGES])

    assert (b"", (125, None), b"") == (done.answer, done.ended, done.said)


@pytest.fixture
def place(tmp_path):
    """A directory with files that can and cannot be executed."""
    (tmp_path / "plain").write_text("echo no\n")
    (tmp_path / "script").write_text('echo "$0" "$@"; exit 5\n')
    (tmp_path / "no-interpreter").write_text("#!/nosuch/interpreter\n")
    (tmp_path / "loop").write_text(f"#!{tmp_path}/loop\n")
    (tmp_path / "dangling").symlink_to("/nosuch/x")
    (tmp_path / "directory").mkdir()
    for name in ("script", "no-interpreter", "loop"):
        (tmp_path / name).chmod(0o755)

    return os.fsencode(tmp_path)


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        ("nosuch", 127, b"wlcg-isolate: nosuch: not found\n"),
        ("", 127, b"wlcg-isolate: : not found\n"),
        ("x" * 300, 127, b"wlcg-isolate: " + b"x" * 300 + b": not found\n"),
        ("/nosuch/x", 127, b"wlcg-isolate: /nosuch/x: not found\n"),
        ("/etc/passwd/x", 127, b"wlcg-isolate: /etc/passwd/x: not found\n"),
        ("no-interpreter", 126, b"wlcg-isolate: no-interpreter: cannot be executed\n"),
        ("loop", 126, b"wlcg-isolate: loop: cannot be executed\n"),
        ("dangling", 127, b"wlcg-isolate: dangling: not found\n"),
        ("plain", 126, b"wlcg-isolate: plain: cannot be executed\n"),
        ("directory", 126, b"wlcg-isolate: directory: cannot be executed\n"),
    ],
    ids=[
        "unknown",
        "empty",
        "long",
        "no-path",
        "below-a-file",
        "interpreter",
        "loop",
        "dangling",
        "plain",
        "directory",
    ],
)
def test_no_program(load, place, command, status, said):
    """What cannot be executed is told as a shell tells it, on the payload's standard error, and to the host."""
    done = load(laid_out(command, path=place + b":/nosuch"))

    assert (b"\n" + bytes([status]), (status, None), said) == (done.answer, done.ended, done.said)


def test_search_goes_on(load, place):
    """What cannot be executed does not hide what can, later in PATH."""
    os.mkdir(place + b"/first")
    for name in (b"/first/true", b"/first/echo"):
        with open(place + name, "wb"):
            pass
    done = load(laid_out("echo", "found", path=b"/etc/passwd:/nosuch:" + place + b"/first:/usr/bin:/bin"))

    assert ((0, None), b"found\n") == (done.ended, done.said)


def test_script_without_first_line(load, place):
    """A script without ``#!`` is run by the shell, with its path and arguments."""
    done = load(laid_out("script", "a b", "", environ=[b"A=1"], path=place))

    assert ((5, None), place + b"/script a b \n") == (done.ended, done.said)


def test_release_cut_short(load, machine, tmp_path):
    """Whatever part of the release is missing, nothing is executed."""
    touched = tmp_path / "touched"
    raw = laid_out("touch", str(touched), environ=[b"A=1"])
    offsets = range(len(raw)) if machine == OWN else [0, 1, 7, 8, 9, *range(16, len(raw), 97), len(raw) - 1]
    seen = {(done.own_marker, done.answer, done.ended, done.said) for done in (load(raw[:cut]) for cut in offsets)}

    assert {(True, b"", (125, None), b"")} == seen
    assert not touched.exists()
    assert (0, None) == load(raw).ended
    assert touched.exists()


@pytest.mark.parametrize("size", [0, 1 << 40, (1 << 64) - 1], ids=["none", "huge", "negative"])
def test_release_of_an_impossible_size(load, size):
    """A release for which there is no memory is not read."""
    done = load(struct.pack("<Q", size) + b"x" * 100)

    assert (b"", (125, None)) == (done.answer, done.ended)


def test_directory_that_is_gone(load):
    """Without its directory the payload is not started."""
    done = load(laid_out("true", directory=b"/nosuch"))

    assert (b"", (125, None)) == (done.answer, done.ended)


def test_nobody_waits_for_the_marker(machine, tmp_path):
    """Without a descriptor for the marker nothing is executed."""
    program = tmp_path / "loader"
    program.write_bytes(loader_for(machine))
    program.chmod(0o755)
    done = subprocess.run([*EMULATOR[machine], program], stdin=subprocess.DEVNULL, check=False, env={})

    assert 125 == done.returncode


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(st.binary(min_size=1, max_size=30), max_size=50, unique=True),
    values=st.lists(st.binary(max_size=300), min_size=50, max_size=50),
    words=st.lists(st.binary(max_size=100), max_size=10),
)
def test_anything_arrives(load, names, values, words):
    """Random names, values and arguments arrive as they are."""
    entries = [
        name.replace(b"=", b"~").replace(b"\0", b"^") + b"=" + value.replace(b"\0", b"^")
        for name, value in zip(names, values)
    ]
    words = [word.replace(b"\0", b"^") for word in words]
    shown = "cat /proc/$$/environ /proc/$$/cmdline; exit 0"
    done = load(laid_out("sh", "-c", shown, "sh", *words, environ=entries))
    expected = [*entries, b"sh", b"-c", shown.encode(), b"sh", *words]

    assert expected == done.said[:-1].split(b"\0")


# --- on the node ---------------------------------------------------------------------------------------------------


def test_file_cannot_be_changed():
    """The loader's file cannot be written, cut or made longer, not even by who has it."""
    fd = host_loader.open_loader(OWN)
    try:
        for change in (lambda: os.write(fd, b"x"), lambda: os.truncate(fd, 0), lambda: os.truncate(fd, 9999)):
            with pytest.raises(PermissionError):
                change()
        assert loader_for(OWN) == os.pread(fd, 10_000, 0)
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


@pytest.fixture
def fresh(monkeypatch):
    """Forget that the loader has worked."""
    monkeypatch.setattr(host_loader, "_works", set())


def test_works_here(fresh):
    """On this node the loader can be used, and is tried once only."""
    before = sorted(os.listdir("/proc/self/fd"))

    assert None is host_loader.loader_fault(OWN, 10)
    assert {OWN} == host_loader._works
    assert before == sorted(os.listdir("/proc/self/fd"))


def test_works_for_a_caller_that_ignores_its_children(fresh):
    """The trial needs nobody's exit status."""
    previous = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert None is host_loader.loader_fault(OWN, 10)
    finally:
        signal.signal(signal.SIGCHLD, previous)


def test_works_with_a_python_for_older_systems(fresh, monkeypatch):
    """A Python that knows no memfd_create(2) asks the kernel itself."""
    monkeypatch.delattr(os, "memfd_create")

    assert None is host_loader.loader_fault(OWN, 10)


def test_kernel_before_6_3(fresh, mocker):
    """A kernel that does not know of executable files in memory makes them so."""
    real, calls = os.memfd_create, []

    def old(name, flags):
        calls.append(flags)
        if flags & 16:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return real(name, flags)

    mocker.patch.object(os, "memfd_create", old)

    assert None is host_loader.loader_fault(OWN, 10)
    assert [19, 3] == calls


@pytest.mark.parametrize("python", ["new", "old"])
def test_node_that_forbids_it(fresh, mocker, monkeypatch, python):
    """A node on which files in memory are not executed says so (sysctl vm.memfd_noexec = 2)."""
    if python == "new":
        mocker.patch.object(os, "memfd_create", side_effect=PermissionError(errno.EACCES, "Permission denied"))
    else:
        monkeypatch.delattr(os, "memfd_create")
        monkeypatch.setattr(host_loader, "_MEMFD_CREATE", {OWN: 99_999})
    words = {"new": "Permission denied", "old": "Function not implemented"}[python]

    assert f"the loader cannot be executed: {words}" == host_loader.loader_fault(OWN, 10)
    assert set() == host_loader._works


def test_file_that_may_not_be_executed(fresh, mocker):
    """A file that the system does not execute is a fault with the system's words."""
    change = os.fchmod
    mocker.patch.object(os, "fchmod", lambda fd, _: change(fd, 0o600))

    assert "the loader cannot be executed: Permission denied" == host_loader.loader_fault(OWN, 10)


@pytest.mark.parametrize("answer", [b"", b"1\n"], ids=["silent", "forged"])
def test_program_that_does_not_answer(fresh, mocker, answer):
    """What is executed and does not say its own number is not the loader."""
    body = b"#!/bin/sh\nprintf '" + answer.replace(b"\n", b"\\n") + b"' >&4\n"
    mocker.patch.object(host_loader, "loader_for", return_value=body)

    assert "the loader gives no start marker" == host_loader.loader_fault(OWN, 10)


def test_program_that_hangs(fresh, mocker):
    """What says nothing in time is ended."""
    mocker.patch.object(host_loader, "loader_for", return_value=b"#!/bin/sh\nexec sleep 60\n")

    assert "the loader gives no start marker" == host_loader.loader_fault(OWN, 0.3)


def test_other_processor(fresh):
    """A processor without a loader is a fault of the node."""
    assert "the loader cannot be executed: there is none for riscv64" == host_loader.loader_fault("riscv64", 10)
