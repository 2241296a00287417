"""
Check signatures, where that takes a program of the node.

``gpgv`` checks detached OpenPGP signatures, the runtime those in a SIF.  Each
gets the keys that policy names, and no other.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Optional

from wlcg_isolate.images import minisign, openpgp, verified
from wlcg_isolate.images.fault import ImageFault

_PATH = "/usr/local/bin:/usr/bin:/bin"

#: A key or a signature is some kilobytes.
_MOST = 1 << 20

#: Endings of detached signatures.
_MINISIG, _OPENPGP = ".minisig", (".asc", ".sig", ".gpg")


def check_list(place: str, data: bytes, keys: Sequence[str], seconds: float) -> None:
    """
    Check the signature of a list of checksums.

    Args:
        place: Path of the list; its signature lies beside it.

        data: Content of the list, as it was read.

        keys: Files of public keys; without any, no signature is needed.

        seconds: Deadline.

    Raises:
        ImageFault: It is not signed by one of the keys.
    """
    if not keys:
        return
    known = [_read(key) for key in keys]
    minisign_keys = [minisign.parse_key(key) for key in known if minisign.is_key(key)]
    openpgp_keys = [openpgp.binary_keys(key) for key in known if not minisign.is_key(key)]
    if minisign_keys and os.path.exists(place + _MINISIG):
        minisign.check(data, _read(place + _MINISIG), minisign_keys)
        return
    for ending in _OPENPGP:
        if openpgp_keys and os.path.exists(place + ending):
            _gpgv(data, _read(place + ending), b"".join(openpgp_keys), seconds)
            return

    raise ImageFault("image-list-invalid", "it has no signature by one of the keys that policy names")


def check_sif(path: str, keys: Sequence[str], runtime: Optional[str], place: Optional[str], seconds: float) -> str:
    """
    Check the signature in a SIF, or remember that it was checked.

    Args:
        path: The SIF.

        keys: Files of OpenPGP public keys.

        runtime: Program of the runtime.

        place: Directory of what is remembered.

        seconds: Deadline.

    Returns:
        Fingerprint of the key that signed it.

    Raises:
        ImageFault: It is not signed by one of the keys.

        OSError: It cannot be read.
    """
    binary = b"".join(openpgp.binary_keys(_read(key)) for key in keys)
    allowed = openpgp.fingerprints(binary)
    if runtime is None:
        raise ImageFault("image-unverified", "there is no runtime to check its signature with")
    what = " ".join(["sif", *sorted(allowed)])

    return verified.once(path, place, seconds, what, lambda fd: _verify(runtime, fd, binary, allowed, seconds)).value


def _verify(runtime: str, fd: int, keys: bytes, allowed: Sequence[str], seconds: float) -> str:
    import json
    import tempfile

    with tempfile.TemporaryDirectory(prefix="wlcg-isolate-keys-") as place:
        _write(os.path.join(place, "pgp-public"), keys)
        environ = {"PATH": _PATH, "LC_ALL": "C", "APPTAINER_CONFIGDIR": place, "SINGULARITY_CONFIGDIR": place}
        environ.update({"APPTAINER_KEYSDIR": place, "SINGULARITY_KEYSDIR": place})
        # By descriptor: what is verified is what was opened, whatever becomes of the path.
        argv = (runtime, "verify", "--local", "--json", f"/proc/self/fd/{fd}")
        status, out, err = _run(argv, environ, seconds, (fd,))
    try:
        signers: list[dict[str, Any]] = [item["Signer"] for item in json.loads(out)["SignerKeys"] or ()]
    except (ValueError, TypeError, KeyError):
        signers = []
    good: set[str] = {str(s.get("Fingerprint")).lower() for s in signers if s.get("KeyCheck") and s.get("DataCheck")}
    if status != 0 or not good & set(allowed):
        words = err.strip().splitlines()[-1:] or [f"status {status}"]
        raise ImageFault("image-unverified", f"no valid signature by one of the keys that policy names: {words[0]}")

    return min(good & set(allowed))


def _gpgv(data: bytes, signature: bytes, keys: bytes, seconds: float) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(prefix="wlcg-isolate-keys-") as place:
        paths = [os.path.join(place, name) for name in ("keys.gpg", "list.sig", "list")]
        for path, content in zip(paths, (keys, signature, data)):
            _write(path, content)
        environ = {"PATH": _PATH, "LC_ALL": "C", "GNUPGHOME": place}
        status, _, err = _run(("gpgv", "--keyring", *paths), environ, seconds)
    if status != 0:
        words = err.strip().splitlines()[-1:] or [f"status {status}"]
        raise ImageFault("image-list-invalid", f"its signature is not valid: {words[0]}")


def _run(
    argv: Sequence[str], environ: dict[str, str], seconds: float, descriptors: Sequence[int] = ()
) -> tuple[int, str, str]:
    import subprocess

    try:
        done = subprocess.run(  # noqa: S603 - the node's own programs
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env=environ,
            timeout=seconds,
            pass_fds=descriptors,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as e:
        raise ImageFault("image-unverified", f"{argv[0]} cannot check a signature: {e}") from e

    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as f:
            data = f.read(_MOST + 1)
    except OSError as e:
        raise ImageFault("image-list-invalid", f"{path} cannot be read: {e.strerror}") from e
    if len(data) > _MOST:
        raise ImageFault("image-list-invalid", f"{path} is larger than any key or signature")

    return data


def _write(path: str, data: bytes) -> None:
    with open(path, "xb") as f:
        f.write(data)
