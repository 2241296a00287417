"""
A pilot with secrets in every place where a program can keep them.

    python3 pilot.py --secret=TEXT SCENE.json

It runs the same attempts twice as its own children: on the node as any program of its user, and as a payload with the
library.  Another payload runs beside each.  What the attempts gave, and what became of the pilot, is written to the
file that SCENE.json names.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import uuid
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import weapons

from wlcg_isolate import Bind, Credential, Payload, Request, load_policy, run_isolated

libc = ctypes.CDLL(None, use_errno=True)
libc.shmat.restype = ctypes.c_void_p


class Secrets:
    """All places, each with its own secret."""

    def __init__(self, place: Path) -> None:
        self.expected = {}
        self.goal = {"outside": True, "pid": os.getpid(), "group": os.getpgrp()}
        self.stack = contextlib.ExitStack()
        self.place = place
        self.mark = uuid.uuid4().hex
        self.expected["ENVIRONMENT"] = os.environ["PILOT_SECRET"]
        self.expected["ARGUMENT"] = sys.argv[1].partition("=")[2]
        self.memory()
        self.files()
        self.shared()
        self.queue()
        self.keys()
        self.sockets()

    def secret(self, mark):
        """Make a secret behind its mark."""
        self.expected[mark] = uuid.uuid4().hex

        return f"{mark}={self.expected[mark]}"

    def memory(self):
        """Keep one in memory."""
        self._memory = ctypes.create_string_buffer(self.secret("MEMORY").encode(), 64)
        self.goal["address"] = ctypes.addressof(self._memory)

    def files(self):
        """Keep some in files, one of them open and inheritable."""
        home = self.place / "pilot"
        home.mkdir()
        paths = {
            "PROXY": home / "proxy",
            "DESCRIPTOR": home / "open",
            "TOKEN": Path("/tmp") / f"redteam-{self.mark}",
            "DEVSHM": Path("/dev/shm") / f"redteam-{self.mark}",
        }
        for mark, path in paths.items():
            path.write_text(self.secret(mark))
            path.chmod(0o600)
            self.stack.callback(path.unlink)
        fd = os.open(paths["DESCRIPTOR"], os.O_RDONLY)
        os.set_inheritable(fd, True)
        handle = ctypes.create_string_buffer(136)
        ctypes.c_uint.from_buffer(handle).value = 128
        self.handles = not libc.name_to_handle_at(
            -100, os.fsencode(paths["PROXY"]), handle, ctypes.byref(ctypes.c_int()), 0
        )
        self.goal.update(
            descriptor=fd,
            home=str(home),
            proxy=str(paths["PROXY"]),
            token=str(paths["TOKEN"]),
            dev_shm=str(paths["DEVSHM"]),
            user_home=os.environ["HOME"],
            trace=str(self.place / "trace"),
            handle=handle.raw.hex(),
        )

    def shared(self):
        """Keep some in what System V shares between processes."""
        key = uuid.uuid4().int & 0x3FFFFFFF
        shm = libc.shmget(key, 64, 0o1600)
        ctypes.memmove(libc.shmat(shm, None, 0), self.secret("SHARED").encode(), 39)
        msg = libc.msgget(key, 0o1600)
        message = (1).to_bytes(8, "little") + self.secret("MESSAGE").encode()
        for _ in range(2):
            libc.msgsnd(msg, message, ctypes.c_size_t(48), 0)
        self.semaphores = libc.semget(key, 1, 0o1600)
        self.stack.callback(libc.shmctl, shm, 0, None)
        self.stack.callback(libc.msgctl, msg, 0, None)
        self.stack.callback(libc.semctl, self.semaphores, 0, 0)
        self.goal.update(key=key, shm=shm)

    def queue(self):
        """Keep one in a POSIX message queue."""
        name = f"redteam-{self.mark}"
        attributes = (ctypes.c_long * 8)(0, 4, 64)
        number = weapons.call("mq_open", name.encode(), os.O_RDWR | os.O_CREAT, 0o600, attributes)
        lib = ctypes.CDLL("librt.so.1", use_errno=True)
        text = self.secret("QUEUE").encode()
        for _ in range(2):
            weapons.check(lib.mq_send(number, text, ctypes.c_size_t(len(text)), 0))
        self.stack.callback(lib.mq_unlink, f"/{name}".encode())
        self.goal["queue"] = name

    def keys(self):
        """Keep two in the kernel's keyrings."""
        names = {"session_key": f"redteam-session-{self.mark}", "user_key": f"redteam-user-{self.mark}"}
        weapons.call("keyctl", 1, 0, 0, 0, 0)
        # The session's own, and the one of the user.
        text = self.secret("KEY").encode()
        self.goal.update(names)
        self.goal["session_key_number"] = weapons.call(
            "add_key", b"user", names["session_key"].encode(), text, len(text), -3
        )
        user = weapons.call("add_key", b"user", names["user_key"].encode(), text, len(text), -4)
        self.stack.callback(lambda: weapons.call("keyctl", 9, user, -4, 0, 0))
        self.goal["user_ring_number"] = weapons.call("keyctl", 0, -4, 0, 0, 0)

    def sockets(self):
        """Answer on a socket with a file and on one without."""
        answer, fd = self.secret("SOCKET").encode(), self.goal["descriptor"]

        def serve(server):
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    with client:
                        socket.send_fds(client, [answer], [fd])

        self.goal.update(socket=str(self.place / "pilot" / "socket"), abstract=f"redteam-{self.mark}")
        for address in (self.goal["socket"], "\0" + self.goal["abstract"]):
            server = self.stack.enter_context(socket.socket(socket.AF_UNIX))
            server.bind(address)
            server.listen(8)
            threading.Thread(target=serve, args=(server,), daemon=True).start()


class Victim:
    """Another payload beside the hostile one."""

    def __init__(self, place: Path, name: str) -> None:
        self.id, self.secret = uuid.uuid4().hex, uuid.uuid4().hex
        self.work = place / name
        self.work.mkdir()
        self.environ = {"VICTIM_ID": self.id, "VICTIM_SECRET": self.secret}
        self.facts = {
            "id": self.id,
            "pid": None,
            "key": uuid.uuid4().int & 0x3FFFFFFF,
            "tmp": f"/tmp/victim-{self.id}",
            "var_tmp": f"/var/tmp/victim-{self.id}",
            "dev_shm": f"/dev/shm/victim-{self.id}",
            "credential": None,
        }

    def write(self, work: str) -> None:
        """Tell the program what to do."""
        self.facts["work"] = f"{work}/secret"
        (self.work / "victim.json").write_text(json.dumps(self.facts))

    def ready(self, out) -> None:
        """Wait until it is ready."""
        self.facts.update(json.loads(out.readline()))


@contextlib.contextmanager
def victim_outside(place: Path):
    """Run it as any program of the user."""
    victim = Victim(place, "victim-outside")
    victim.facts["credential"] = str(victim.work / ".wlcg-isolate-x")
    victim.facts["credentials"] = victim.facts["credential"]
    victim.write(str(victim.work))
    words = [sys.executable, str(Path(__file__).with_name("victim.py")), "victim.json"]
    child = subprocess.Popen(
        words, cwd=victim.work, env=victim.environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    victim.ready(child.stdout)
    try:
        yield victim
    finally:
        end, _ = child.communicate()
        victim.end = json.loads(end)
        for name in ("tmp", "var_tmp", "dev_shm"):
            os.unlink(victim.facts[name])


@contextlib.contextmanager
def victim_inside(place: Path, scene, policy):
    """Run it as a payload."""
    victim = Victim(place, "victim-inside")
    victim.write("/srv")
    # The way from the working directory of another payload.
    victim.facts["credentials"] = f"{victim.work}/.wlcg-isolate-*/**/*"
    victim.facts["work"] = f"{victim.work}/secret"
    (victim.work / "victim.py").write_text(Path(__file__).with_name("victim.py").read_text())
    (place / "pilot" / "credential").write_text(f"VICTIM-CREDENTIAL={victim.secret}")
    request = make_request(
        scene, place, victim.work, ("python3", "victim.py", "victim.json"), env=victim.environ,
        credentials=(Credential(variable="VICTIM_TOKEN_FILE", source=str(place / "pilot" / "credential")),),
    )  # fmt: skip
    (stdin_read, stdin), (out, stdout_write) = os.pipe(), os.pipe()

    def be_payload():
        try:
            victim.outcome = run_isolated(request, policy, stdin=stdin_read, stdout=stdout_write).to_dict()
        finally:
            # Who waits for its words must not wait for ever.
            os.close(stdin_read)
            os.close(stdout_write)

    thread = threading.Thread(target=be_payload)
    thread.start()
    with open(out) as lines:
        victim.ready(lines)
        # Its number is its own container's.
        victim.facts["pid"] = None
        try:
            yield victim
        finally:
            os.close(stdin)
            victim.end = json.loads(lines.readline())
            thread.join()


def make_request(scene, place, work, command, **more):
    """Ask for a payload."""
    return Request(
        payload=Payload(command=command),
        image=scene["image"],
        workdir=str(work),
        trace_dir=str(place / "trace"),
        runtime=scene["runtime"],
        **more,
    )


def attack_outside(scene, goal, place):
    """Run the attempts on the node."""
    work = place / "outside"
    work.mkdir()
    (work / "goal.json").write_text(
        json.dumps(
            {
                **goal,
                "read_only": str(place / "export"),
                "beside": str(work / "hard"),
                "program": str(place / "program"),
            }
        )
    )
    words = [sys.executable, weapons.__file__, "goal.json", "loot.json", *scene["outside"]]
    subprocess.run(words, cwd=work, check=True, close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    return json.loads((work / "loot.json").read_text())


def attack_inside(scene, goal, place, policy):
    """Run the attempts as a payload."""
    work = place / "inside"
    work.mkdir()
    (work / "goal.json").write_text(
        json.dumps({**goal, "outside": False, "read_only": "/ro", "beside": "/srv/hard", "program": "/proc/1/exe"})
    )
    (work / "weapons.py").write_text(Path(weapons.__file__).read_text())
    words = ("python3", "weapons.py", "goal.json", "loot.json", *scene["inside"])
    binds = (Bind(source=str(place / "export"), target="/ro"),)
    with open(os.devnull, "w") as null:
        outcome = run_isolated(make_request(scene, place, work, words, binds=binds), policy, stdout=null)
    file = work / "loot.json"

    return json.loads(file.read_text()) if file.exists() else None, outcome.to_dict()


def main() -> None:
    """Run the scene."""
    scene = json.loads(Path(sys.argv[2]).read_text())
    place = Path(scene["place"])
    (place / "export").mkdir()
    (place / "export" / "data").write_text("data")
    (place / "program").touch()
    signals = []
    signal.signal(signal.SIGURG, lambda number, _frame: signals.append(number))
    libc.prctl(0x59616D61, ctypes.c_ulong(-1), 0, 0, 0)
    policy = load_policy()
    secrets = Secrets(place)

    def state():
        count = len(signals)
        signals.clear()
        return {
            "signals": count,
            "nice": os.getpriority(os.PRIO_PROCESS, 0),
            "semaphore": libc.semctl(secrets.semaphores, 0, 12),
            "export": sorted(os.listdir(place / "export")),
            "pilot": sorted(os.listdir(place / "pilot")),
        }

    with secrets.stack, victim_inside(place, scene, policy) as inner:
        with victim_outside(place) as outer:
            outside = attack_outside(scene, {**secrets.goal, "victim": outer.facts}, place)
        before = state()
        inside, outcome = attack_inside(scene, {**secrets.goal, "victim": inner.facts}, place, policy)
        after = state()
    result = {
        "expected": {**secrets.expected, "VICTIM-OUTSIDE": outer.secret, "VICTIM-INSIDE": inner.secret},
        "handles": secrets.handles,
        "outside": outside,
        "inside": inside,
        "outcome": outcome,
        "before": before,
        "after": after,
        "victim": {"outside": outer.end, "inside": inner.end, "outcome": inner.outcome},
    }
    Path(scene["result"]).write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
