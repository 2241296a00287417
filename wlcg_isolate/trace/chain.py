"""
How the lines of a journal hang together.

Rules:

1. What is hashed are the bytes as they are written, from the first of the
   line to the end of ``prev_hash``; nobody has to write a record anew to
   check it.
2. Everything that could be exchanged is in the hashed part: the file, the
   key, the record's number and that of its key, and the hash before it.
3. Each record has a key of its own, made from the one before by a hash that
   nobody can turn back, so that who takes the present key cannot alter what
   was written before.  Keys are counted, never timed: a clock that is set
   leaves no record without a key and gives none two.
4. This module touches nothing but memory.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

#: Version of what this module writes.
FORMAT = 1

#: `wlcg.integrity.alg` without and with keys.
CHAINED = "sha256"
SEALED = "sha256+hmac-sha256"

#: What comes before the first record.
NOTHING = "0" * 64

#: No record is longer; a reader need not hold more than that.
MAX_LINE = 4 * 1024 * 1024

#: Names of the keys that the journal adds, and what each one means.
INTEGRITY_FIELDS: Mapping[str, str] = {
    "event.sequence": "number of the record in the files of one pilot process, from 0",
    "wlcg.integrity.alg": f"`{CHAINED}`: chained; `{SEALED}`: each record has a keyed digest, too",
    "wlcg.integrity.file_id": "identity of the file, at random",
    "wlcg.integrity.kid": "name of the file's first key (a digest of it), or empty",
    "wlcg.integrity.epoch": "number of the record's key: records of this file before it",
    "wlcg.integrity.prev_hash": "`hash` of the record before; zeros before the first one",
    "wlcg.integrity.hash": "SHA-256 of the bytes of the line up to `prev_hash`, its closing quote included",
    "wlcg.integrity.mac": "HMAC-SHA-256 of `hash` with the record's key; absent in files that are not sealed",
}

#: Names of the fields of the journal's records about itself (`log.*`).
JOURNAL_FIELDS: Mapping[str, str] = {
    "wlcg.journal.format": "genesis: version of this format",
    "wlcg.journal.name": "genesis: name of the file when it was made",
    "wlcg.journal.previous": "genesis: the process's file before (`name`, `file_id`, `sequence` and `hash` of its last "
    "record, `bytes`), and the `reason` for another one",
    "wlcg.journal.neighbours": "genesis: the same of up to 16 newest files of other processes in the directory",
    "wlcg.journal.key.kind": "genesis: `sealed`, `exported` or `none`: what became of the first key",
    "wlcg.journal.key.sealed": "genesis: the first key, sealed with HPKE (RFC 9180: X25519, HKDF-SHA256, "
    "ChaCha20-Poly1305), base64",
    "wlcg.journal.key.to": "genesis: the public key that it was sealed to, base64",
    "wlcg.journal.key.reason": "genesis: why there is no key, where one was wanted",
    "wlcg.journal.recovered": "recovered: a file whose process ended without closing it (as `previous`, and "
    "`torn_bytes`: what follows its last whole line)",
    "wlcg.journal.checkpoint": "checkpoint: where the file stood before it (as `previous`)",
    "wlcg.journal.close.reason": "close: `end`, `exit` or `rotated`",
    "wlcg.journal.next": "close: the process's next file (`name`, `file_id`)",
    "wlcg.journal.purged": "purged: a file that was removed (as `previous`, with `records`, `first` and `last` time, "
    "`state` and kinds of `findings`)",
}

_OWN = ("@timestamp", "event.action", "event.sequence", "wlcg.integrity")
_SUFFIX = {CHAINED: len(',"hash":""}}\n') + 64, SEALED: len(',"hash":"","mac":""}}\n') + 128}
_EVOLVE = b"wlcg_isolate journal key\0"
_NAME = b"wlcg_isolate journal kid\0"

_TAIL = re.compile(
    rb',"event\.sequence":(?P<sequence>[0-9]{1,18}),"wlcg\.integrity":\{"alg":"(?P<alg>[a-z0-9+-]+)",'
    rb'"file_id":"(?P<file_id>[0-9a-f]{32})","kid":"(?P<kid>[0-9a-f]*)","epoch":(?P<epoch>[0-9]{1,18}),'
    rb'"prev_hash":"(?P<prev>[0-9a-f]{64})","hash":"(?P<hash>[0-9a-f]{64})"(?:,"mac":"(?P<mac>[0-9a-f]{64})")?\}\}\n\Z'
)
#: A tail is shorter than this, so that a search need not go through the line.
_TAIL_BYTES = 640


def new_file_key(key: Optional[bytes]) -> tuple[str, str]:
    """
    Tell the method and the name of a file's first key.
    """
    return (CHAINED, "") if key is None else (SEALED, hashlib.sha256(_NAME + key).hexdigest()[:16])


def next_key(key: bytes) -> bytes:
    """
    Make the key of the next record.
    """
    return hashlib.sha256(_EVOLVE + key).digest()


class Chain(NamedTuple):
    """
    Where a file stands: what its next record follows from.

    Attributes:
        alg: `CHAINED` or `SEALED`.

        file_id: Identity of the file.

        kid: Name of its first key, or "".

        sequence: Number of the next record.

        epoch: Number of the next record's key.

        head: Hash of the last record.

        key: The next record's key, or None.
    """

    alg: str
    file_id: str
    kid: str
    sequence: int
    epoch: int
    head: str
    key: Optional[bytes]

    @property
    def mac_missing(self) -> bool:
        """
        Whether its records have no keyed digest.
        """
        return self.alg == CHAINED

    def after(self, head: str) -> Chain:
        """
        Return the chain with one record more.
        """
        key = None if self.key is None else next_key(self.key)

        return self._replace(sequence=self.sequence + 1, epoch=self.epoch + 1, head=head, key=key)

    def tail(self) -> bytes:
        """
        Return the end of the hashed part of the next record.
        """
        return (
            f',"event.sequence":{self.sequence},"wlcg.integrity":{{"alg":"{self.alg}","file_id":"{self.file_id}",'
            f'"kid":"{self.kid}","epoch":{self.epoch},"prev_hash":"{self.head}"'
        ).encode()

    def line(self, record: Mapping[str, Any]) -> tuple[bytes, str]:
        """
        Write the next record.

        Returns:
            Its line, and its hash for `after`.

        Raises:
            ValueError: The record cannot be written as JSON, or is too long.

            TypeError: It holds what is no type of JSON.
        """
        head = {"@timestamp": record["@timestamp"], "event.action": record["event.action"]}
        rest = {name: value for name, value in record.items() if name not in _OWN}
        text = json.dumps({**head, **rest}, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
        body = text[:-1].encode() + self.tail()
        digest = hashlib.sha256(body).hexdigest()
        mac = "" if self.key is None else f',"mac":"{mac_of(self.key, digest.encode())}"'
        line = body + f',"hash":"{digest}"{mac}}}}}\n'.encode()
        if len(line) > MAX_LINE:
            msg = f"the record takes {len(line)} bytes, of which {MAX_LINE} are the most"
            raise ValueError(msg)

        return line, digest

    def accepts(self, line: bytes) -> Optional[str]:
        """
        Tell whether a line is the next record; the hash if it is.
        """
        cut = _SUFFIX[self.alg]
        body = line[:-cut]
        if not body.endswith(self.tail()):
            return None
        digest = hashlib.sha256(body).hexdigest()
        end = f',"hash":"{digest}"' if self.alg == CHAINED else f',"hash":"{digest}","mac":"'
        if line[-cut : len(end) - cut] != end.encode() or line[-3:] != b"}}\n":
            return None
        if self.key is not None and not hmac.compare_digest(mac_of(self.key, digest.encode()).encode(), line[-68:-4]):
            return None

        return digest


def mac_of(key: bytes, digest: bytes) -> str:
    """
    Make the keyed digest of a record's hash.
    """
    return hmac.digest(key, digest, "sha256").hex()


class Link(NamedTuple):
    """
    What a line says of its own place in the chain.

    Attributes:
        alg: The method it claims.

        file_id: The file it claims.

        kid: The key it claims.

        sequence: Its number.

        epoch: The number of its key.

        prev: Hash of the record before.

        hash: Its own hash, as it says.

        mac: Its keyed digest, or None.

        true: Whether the hash is that of its bytes.
    """

    alg: str
    file_id: str
    kid: str
    sequence: int
    epoch: int
    prev: str
    hash: str
    mac: Optional[str]
    true: bool


def link_of(line: bytes) -> Optional[Link]:
    """
    Read what a line says of its place; None when it says nothing.
    """
    begin = max(0, len(line) - _TAIL_BYTES)
    found = _TAIL.search(line, begin)
    if found is None:
        return None
    said = {name: None if value is None else value.decode() for name, value in found.groupdict().items()}
    body = line[: found.end("prev") + 1]

    return Link(
        alg=said["alg"] or "",
        file_id=said["file_id"] or "",
        kid=said["kid"] or "",
        sequence=int(said["sequence"] or 0),
        epoch=int(said["epoch"] or 0),
        prev=said["prev"] or "",
        hash=said["hash"] or "",
        mac=said["mac"],
        true=hashlib.sha256(body).hexdigest() == said["hash"],
    )


def action_of(line: bytes) -> str:
    """
    Read what a line's record is about from where the journal writes it.
    """
    return line[_ACTION : line.find(b'"', _ACTION, _ACTION + 64)].decode("ascii", "replace")


def time_of(line: bytes) -> str:
    """
    Read a line's time from where the journal writes it.
    """
    return line[15:42].decode("ascii", "replace")


_ACTION = len('{"@timestamp":"2026-01-01T00:00:00.000000Z","event.action":"')
