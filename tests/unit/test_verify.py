"""What was done to a file of records, and what verify says of it.

The mistakes of earlier designs of sealed logs are rows here: systemd's journal
took entries that were sealed with the key of another epoch (CVE-2023-31439),
did not miss the seals of empty epochs, so that a cut end went unseen
(CVE-2023-31438), passed files without any seal although a key was given
(systemd 15425), and tied its keys to the clock (systemd 17833).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import HealthCheck, given, settings, strategies as st

from wlcg_isolate.errors import TraceError
from wlcg_isolate.policy.journal import JournalSettings
from wlcg_isolate.trace import Journal, TraceRecord, export_keys
from wlcg_isolate.trace.chain import Chain, link_of, mac_of, new_file_key, next_key
from wlcg_isolate.trace.findings import FINDINGS
from wlcg_isolate.trace.seal import Keys
from wlcg_isolate.trace.verify import verify


def start(number, **fields):
    """Make a record of a start."""
    return TraceRecord(action="payload.start", trace_id=f"t-{number}", fields={"n": number, **fields})


@pytest.fixture
def write(tmp_path):
    """Write a file of some records, with exported keys; give its path."""
    keys = []

    def make(count=6, *, close=True, directory="d", **more):
        export_keys(lambda _, kid, key: keys.append({"kid": kid, "key": key.hex()}))
        try:
            journal = Journal(str(tmp_path / directory), JournalSettings(**more))
            for number in range(count):
                journal.write(start(number))
            path = journal.path
            if close:
                journal.close()
        finally:
            export_keys(None)
        (tmp_path / "keys").write_text("".join(json.dumps(key) + "\n" for key in keys))
        return path

    return make


def lines_of(path):
    """Read a file's lines."""
    with open(path, "rb") as f:
        return f.read().splitlines(keepends=True)


def put(path, lines):
    """Write a file's lines."""
    with open(path, "wb") as f:
        f.write(b"".join(lines))


def relink(lines, begin, key=None):
    """Compute all hashes anew from a line on, as somebody who knows the format can; with *key*, the digests too."""
    chain = None
    for number, line in enumerate(lines):
        link = link_of(line)
        if number < begin:
            head = link.hash
            continue
        chain = chain or Chain(link.alg, link.file_id, link.kid, link.sequence, link.epoch, head, None)
        made, digest = chain.line(json.loads(line))
        if link.mac is not None:
            mac = mac_of(key, digest.encode()) if key else link.mac
            made = made[:-3] + f',"mac":"{mac}"}}}}\n'.encode()
        lines[number] = made
        chain = chain.after(digest)

    return lines


def kinds(report):
    """List the kinds of all findings."""
    return sorted({f.kind for f in (*report.findings, *(f for file in report.files for f in file.findings))})


def edit(lines):
    """Change one value."""
    lines[3] = lines[3].replace(b'"n":2', b'"n":7')


def edit_and_rehash(lines):
    """Change one value and its own hash."""
    body, _, rest = lines[3].replace(b'"n":2', b'"n":7').partition(b',"hash":"')
    lines[3] = body + b',"hash":"' + hashlib.sha256(body).hexdigest().encode() + rest[64:]


def edit_and_relink(lines):
    """Change one value and all hashes after it."""
    edit(lines)
    relink(lines, 3)


def drop(lines):
    """Take a record out."""
    del lines[3]


def drop_and_relink(lines):
    """Take a record out, and join what is left."""
    del lines[3]
    for number, line in enumerate(lines):
        if number >= 3:
            said = json.loads(line)
            lines[number] = line.replace(
                b'"event.sequence":%d,' % said["event.sequence"], b'"event.sequence":%d,' % (said["event.sequence"] - 1)
            ).replace(b'"epoch":%d,' % (number + 1), b'"epoch":%d,' % number)
    chain_lines = relink_renumbered(lines, 3)
    lines[:] = chain_lines


def relink_renumbered(lines, begin):
    """Give lines whose numbers were changed their hashes."""
    head = link_of(lines[begin - 1]).hash
    for number in range(begin, len(lines)):
        body, _, rest = lines[number].partition(b',"prev_hash":"')
        body += b',"prev_hash":"' + head.encode() + b'"'
        head = hashlib.sha256(body).hexdigest()
        lines[number] = body + b',"hash":"' + head.encode() + rest[64 + len('","hash":"') + 64 :]

    return lines


def swap(lines):
    """Exchange two records."""
    lines[3], lines[4] = lines[4], lines[3]


def repeat(lines):
    """Write a record twice."""
    lines.insert(4, lines[3])


def garbage(lines):
    """Put something else between."""
    lines.insert(4, b'{"event.action":"payload.start"}\n')


def garbage_for_a_record(lines):
    """Put something else in a record's place."""
    lines[4] = b"\0" * (len(lines[4]) - 1) + b"\n"


def behead(lines):
    """Take the beginning away."""
    del lines[:2]


def append(lines):
    """Write behind the end."""
    lines.append(lines[3])


def append_bytes(lines):
    """Write half a line behind the end."""
    lines.append(b"{")


def replace_all(lines):
    """Put a file of no journal in its place."""
    lines[:] = [b'{"event.action":"payload.start"}\n'] * 3


def downgrade(lines):
    """Take the keyed digest away from one record, and say so in it."""
    lines[3] = lines[3].partition(b',"mac"')[0].replace(b"sha256+hmac-sha256", b"sha256") + b"}}\n"


ATTACKS = [
    (edit, {"altered"}),
    (edit_and_rehash, {"forged", "rewritten"}),
    (edit_and_relink, {"forged"}),
    (drop, {"gap"}),
    (drop_and_relink, {"forged"}),
    (swap, {"reordered"}),
    (repeat, {"duplicate"}),
    (garbage, {"no-record"}),
    (garbage_for_a_record, {"no-record", "gap"}),
    (behead, {"no-genesis", "wrong-key"}),
    (append, {"duplicate"}),
    (append_bytes, {"after-close"}),
    (replace_all, {"foreign"}),
    (downgrade, {"altered"}),
]


@pytest.mark.parametrize(("attack", "expected"), ATTACKS, ids=[attack.__name__ for attack, _ in ATTACKS])
def test_attack_is_named(write, tmp_path, attack, expected):
    """What was done to a sealed file is called by its name, and nothing else is."""
    path = write()
    lines = lines_of(path)
    attack(lines)
    put(path, lines)
    report = verify(path, keys=Keys(str(tmp_path / "keys")))
    found = {f.kind for file in report.files for f in file.findings if f.harm}

    assert found
    assert expected == found
    assert (1, None) == (report.status, report.files[0].level)


def test_one_edit_is_one_finding(write):
    """What follows an edit is not blamed, and the place is named."""
    path = write()
    lines = lines_of(path)
    edit(lines)
    put(path, lines)
    (finding,) = verify(path).files[0].findings

    assert ("altered", 4, sum(map(len, lines[:3]))) == (finding.kind, finding.line, finding.offset)


def test_forgery_without_a_key_is_not_denied(write):
    """Hashes alone prove nothing against who can compute them: verify says what holds the file."""
    path = write()
    lines = lines_of(path)
    edit_and_relink(lines)
    put(path, lines)
    report = verify(path)

    assert (0, 0) == (report.status, report.files[0].level)
    assert "not checked (no key)" in report.files[0].protection


def test_untouched_file(write, tmp_path):
    """A file that nobody touched reaches the level that it can, with the reason."""
    report = verify(os.path.dirname(write()), keys=Keys(str(tmp_path / "keys")))
    (file,) = report.files

    assert (0, False, "closed", 0) == (report.status, report.harmed, file.state, file.level)
    assert ("hash chain and keyed digests, checked", 8) == (file.protection, file.records)
    assert "--received" in file.level_reason


@pytest.mark.parametrize("other", [0, 2, 4], ids=["first", "earlier", "later"])
def test_key_of_another_epoch(write, tmp_path, other):
    """A record that is sealed with the key of another record is refused (CVE-2023-31439)."""
    path = write()
    key = bytes.fromhex(json.loads((tmp_path / "keys").read_text())["key"])
    for _ in range(other):
        key = next_key(key)
    lines = lines_of(path)
    link = link_of(lines[3])
    lines[3] = lines[3].replace(link.mac.encode(), mac_of(key, link.hash.encode()).encode())
    put(path, lines)
    report = verify(path, keys=Keys(str(tmp_path / "keys")))

    assert ["forged"] == kinds(report)


def test_epoch_set_back(write, tmp_path):
    """A record that claims an earlier key, and is sealed with that one, is refused."""
    path = write()
    key = bytes.fromhex(json.loads((tmp_path / "keys").read_text())["key"])
    lines = lines_of(path)
    body = lines[5].partition(b',"hash":"')[0].replace(b'"epoch":5', b'"epoch":0')
    digest = hashlib.sha256(body).hexdigest()
    lines[5] = body + f',"hash":"{digest}","mac":"{mac_of(key, digest.encode())}"}}}}\n'.encode()
    put(path, lines)

    assert "wrong-epoch" in kinds(verify(path, keys=Keys(str(tmp_path / "keys"))))


@pytest.mark.parametrize("left", range(1, 8))
def test_cut_end_is_seen_where_it_is_known(write, tmp_path, left):
    """A cut at any record shows against a copy of the last; without it nobody can tell (CVE-2023-31438)."""
    path = write()
    lines = lines_of(path)
    (tmp_path / "copy.jsonl").write_bytes(lines[-1])
    put(path, lines[:left])
    alone = verify(path)
    compared = verify(path, copies=[str(tmp_path / "copy.jsonl")])

    # Its process, the tests' own, is alive.
    assert (0, ["still-written"]) == (alone.status, kinds(alone))
    assert (1, ["still-written", "truncated"]) == (compared.status, kinds(compared))


def test_unsealed_file_fails_when_a_key_is_given(tmp_path):
    """A file without seals does not pass where seals are to be checked (systemd 15425)."""
    journal = Journal(str(tmp_path / "d"))
    journal.write(start(1))
    journal.close()
    (tmp_path / "keys").write_text(json.dumps({"kid": "x", "key": "00" * 32}))
    report = verify(journal.path, keys=Keys(str(tmp_path / "keys")))

    assert (1, ["unsealed"]) == (report.status, kinds(report))
    assert 0 == verify(journal.path).status


def test_wrong_key(write, tmp_path):
    """A key that is not the file's is no proof of anything."""
    path = write()
    (tmp_path / "other").write_text(json.dumps({"kid": "x", "key": "00" * 32}))
    report = verify(path, keys=Keys(str(tmp_path / "other")))

    assert (1, ["wrong-key"]) == (report.status, kinds(report))


def test_clock_that_is_set_back(write, tmp_path):
    """A clock that is set makes a remark, no failure, and no record lacks its seal (systemd 17833)."""
    path = write(close=False)
    directory = os.path.dirname(path)
    os.remove(path)
    keys = []
    export_keys(lambda _, kid, key: keys.append({"kid": kid, "key": key.hex()}))
    journal = Journal(directory)
    export_keys(None)
    journal.write(TraceRecord(action="payload.end", trace_id="t", timestamp="2001-01-01T00:00:00.000000Z"))
    journal.close()
    (tmp_path / "keys").write_text(json.dumps(keys[0]))
    report = verify(journal.path, keys=Keys(str(tmp_path / "keys")))

    assert (0, ["clock-back"]) == (report.status, kinds(report))


def test_spliced_files(write):
    """The beginning of one file and the end of another are no file."""
    first, second = write(directory="a"), write(directory="b")
    put(first, lines_of(first)[:4] + lines_of(second)[4:])
    report = verify(first)

    assert {"spliced", "left-open", "still-written"} >= set(kinds(report)) >= {"spliced"}


def test_removed_file_is_missed(write):
    """Any file that a later one knows of is missed when it goes."""
    files = [write() for _ in range(3)]
    for gone in files[:2]:
        kept = lines_of(gone)
        os.remove(gone)
        report = verify(os.path.dirname(gone))
        assert (1, ["missing-file"]) == (report.status, kinds(report))
        assert os.path.basename(gone) in report.findings[0].message
        assert 0 == verify(os.path.dirname(gone), partial=True).status
        put(gone, kept)
    os.remove(files[2])

    # Nobody knows of the newest: that is what copies off the node are for.
    assert 0 == verify(os.path.dirname(files[0])).status


@pytest.fixture(scope="module")
def rotated_once(tmp_path_factory):
    """Let a process write four files."""
    place = tmp_path_factory.mktemp("rotated")
    journal = Journal(str(place), JournalSettings(rotate_bytes=65536, checkpoint_records=10))
    for number in range(25):
        journal.write(start(number, fill="x" * 10_000))
    journal.close()

    return place


@pytest.fixture
def rotated(rotated_once, tmp_path):
    """Give a copy of the files of one process, and their names."""
    shutil.copytree(rotated_once, tmp_path / "rotated")

    return tmp_path / "rotated", sorted(os.listdir(rotated_once))


@pytest.mark.parametrize("which", range(4))
def test_removed_file_of_a_rotation_is_missed(rotated, which):
    """Any file of one process is missed, the last one, too: the one before names it."""
    directory, names = rotated
    before = verify(str(directory))
    (directory / names[which]).unlink()
    report = verify(str(directory))

    assert (4, 0) == (len(names), before.status)
    assert (1, ["missing-file"]) == (report.status, kinds(report))
    assert names[which] in report.findings[0].message


def test_rotation_without_its_end(rotated):
    """A crash between two files of a process is left open, and no loss."""
    directory, names = rotated
    lines = lines_of(directory / names[-2])
    put(directory / names[-2], lines[:-1])
    crashed = verify(str(directory))
    put(directory / names[-2], lines[:-2])
    cut = verify(str(directory))

    assert (0, ["still-written"]) == (crashed.status, kinds(crashed))
    assert (1, ["still-written", "truncated"]) == (cut.status, kinds(cut))


def test_sequence_goes_on_through_rotation(rotated):
    """The numbers of a process's records have no gap and no repetition, checkpoints and ends included."""
    directory, names = rotated
    links = [link_of(line) for name in names for line in lines_of(directory / name)]

    assert list(range(len(links))) == [link.sequence for link in links]
    assert 4 == len({link.file_id for link in links})


def test_older_state_put_back(write, tmp_path):
    """A file that is put back as it was before shows against what a later file knows."""
    path = write(close=False)
    old = lines_of(path)[:4]
    write()
    put(path, old)
    report = verify(os.path.dirname(path))

    assert ["still-written", "truncated"] == kinds(report)


def test_copy_under_another_name(write):
    """A copy of an old file is no second one."""
    path = write()
    shutil.copy(path, os.path.join(os.path.dirname(path), "20990101T000000.000000Z-h-1.jsonl"))
    report = verify(os.path.dirname(path))

    assert 1 == report.status
    assert ["renamed", "replayed"] == kinds(report)


def test_exchanged_history(write):
    """A file that was written anew, as a whole, shows against what a later file knows."""
    path = write(close=False)
    write()
    lines = lines_of(path)
    lines[2] = lines[2].replace(b'"n":1', b'"n":9')
    put(path, relink(lines, 2))

    assert "contradicted" in kinds(verify(os.path.dirname(path)))


def test_received_copies_raise_the_level(write, tmp_path):
    """A file whose last start was received off the node reaches level 1; one that differs fails."""
    path = write()
    lines = lines_of(path)
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes(b"".join(lines[:3]))
    before = verify(path, copies=[str(copy)]).files[0]
    # As syslog keeps them: with a header of its own.
    copy.write_bytes(b"noise\n" + b"".join(b"Jan  1 00:00:00 node pilot: " + line for line in lines[:7]))
    assert "the records with 7 copies that were received" in verify(path, copies=[str(copy)]).compared
    after = verify(path, copies=[str(copy)]).files[0]
    lines[2] = lines[2].replace(b'"n":1', b'"n":9')
    put(path, relink(lines, 2))

    assert (0, "record 6 started a payload; the last one that was received is 2") == (before.level, before.level_reason)
    assert 1 == after.level
    assert "contradicted" in kinds(verify(path, copies=[str(copy)]))


def test_copies_of_a_file_that_is_gone(write, tmp_path):
    """A file that was received and is not there is missed."""
    path = write()
    other = write()
    (tmp_path / "copy.jsonl").write_bytes(b"".join(lines_of(other)[:3]))
    os.remove(other)

    assert ["missing-file"] == kinds(verify(os.path.dirname(path), copies=[str(tmp_path)]))


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)], ids=str)
def test_no_plain_file(write, make):
    """Something else than a file is told, and neither followed nor waited for."""
    directory = os.path.dirname(write())
    make(os.path.join(directory, "20990101T000000.000000Z-h-1.jsonl"))

    assert (1, ["not-a-file"]) == (verify(directory).status, kinds(verify(directory)))


def test_nothing_to_verify(tmp_path):
    """Nothing is not the same as nothing wrong."""
    assert 2 == verify(str(tmp_path)).status
    with pytest.raises(TraceError):
        verify(str(tmp_path / "none"))


@pytest.mark.parametrize("content", [b"", b'{"@timestamp":"2026'], ids=["empty", "torn"])
def test_file_that_was_hardly_begun(tmp_path, content):
    """A process that was killed before its first whole line has lost nothing."""
    (tmp_path / "20260101T000000.000000Z-nowhere-1.jsonl").write_bytes(content)
    report = verify(str(tmp_path))

    assert (0, "left-open") == (report.status, report.files[0].state)
    assert "empty" in kinds(report)


def test_last_record_cut_at_every_byte(write):
    """Wherever the last record is cut, nothing else is blamed and the place is named."""
    path = write(3, close=False)
    lines = lines_of(path)
    good = sum(map(len, lines[:-1]))
    whole = b"".join(lines)
    for size in range(good, len(whole)):
        with open(path, "wb") as f:
            f.write(whole[:size])
        report = verify(path)
        assert (0, len(lines) - 1) == (report.status, report.files[0].records)
        assert (None if size == good else good) == report.files[0].cut_at


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_byte_changes_unseen(write, tmp_path, data):
    """Whatever byte of a sealed and closed file is changed, it is found; without the last one, the end is torn."""
    path = tmp_path / "fuzz.jsonl"
    if not path.exists():
        shutil.copy(write(), path)
        shutil.copy(path, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    at = data.draw(st.integers(0, len(whole) - 2))
    value = data.draw(st.integers(0, 255).filter(lambda v: v != whole[at]))
    path.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])

    assert 1 == verify(str(path), keys=Keys(str(tmp_path / "keys"))).status


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.lists(
        st.sampled_from([b"\n", b"{", b'"', b"\0", b"\xff", b'{"event.action":"log.genesis"}\n'])
        | st.binary(max_size=40)
    )
)
def test_garbage_breaks_nothing(tmp_path, content):
    """A file of anything is reported, never an exception."""
    path = tmp_path / "20260101T000000.000000Z-nowhere-1.jsonl"
    path.write_bytes(b"".join(content))
    report = verify(str(tmp_path))

    assert report.status in (0, 1)
    assert json.dumps(report.to_dict())


def test_findings_are_bounded(write):
    """Whoever exchanges everything does not fill the reader's disk."""
    path = write(250, checkpoint_records=1000)
    lines = lines_of(path)
    put(path, [lines[0], *(line.replace(b'"n":', b'"m":') for line in lines[1:])])
    (file,) = verify(path).files

    assert "too-many" == [f.kind for f in file.findings if f.line is not None][-1]
    assert len(file.findings) < 250


def test_sealed_to_a_public_key(tmp_path):
    """Only the owner of the private key can check what was sealed to it; the key is in no file as it is."""
    private = X25519PrivateKey.generate()
    raw = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    journal = Journal(str(tmp_path / "d"), JournalSettings(seal_public_key=base64.b64encode(raw).decode()))
    journal.write(start(1))
    journal.close()
    for name, key in (("right", private), ("wrong", X25519PrivateKey.generate())):
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (tmp_path / name).write_bytes(pem)
    genesis = json.loads(lines_of(journal.path)[0])
    right = verify(journal.path, keys=Keys(str(tmp_path / "right")))

    assert (0, "hash chain and keyed digests, checked") == (right.status, right.files[0].protection)
    assert ["wrong-key"] == kinds(verify(journal.path, keys=Keys(str(tmp_path / "wrong"))))
    assert "sealed" == genesis["wlcg.journal.key.kind"]


def test_sealing_that_is_not_possible_is_said(tmp_path, mocker):
    """Without the library for it a file is not sealed, and says so."""
    mocker.patch("wlcg_isolate.trace.seal._suite", side_effect=ImportError("no cryptography"))
    journal = Journal(str(tmp_path), JournalSettings(seal_public_key=base64.b64encode(b"x" * 32).decode()))
    journal.close()
    genesis = json.loads(lines_of(journal.path)[0])

    assert "none" == genesis["wlcg.journal.key.kind"]
    assert "no cryptography" in genesis["wlcg.journal.key.reason"]


def test_export_that_fails_is_said(tmp_path):
    """A pilot that cannot take the key away gets a file that says so."""

    def fail(*_):
        raise RuntimeError("secret words")

    export_keys(fail)
    try:
        journal = Journal(str(tmp_path))
    finally:
        export_keys(None)
    genesis = json.loads(lines_of(journal.path)[0])

    assert "the key could not be exported: RuntimeError" == genesis["wlcg.journal.key.reason"]


@pytest.mark.parametrize(
    "content", [b"", b"x", b"{}", b'{"kid":"a","key":"00"}', b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----"]
)
def test_no_key(tmp_path, content):
    """A file that is no key is refused, not passed over."""
    (tmp_path / "key").write_bytes(content)
    with pytest.raises(TraceError, match="keys cannot be read"):
        Keys(str(tmp_path / "key"))


def test_keys_evolve_one_way():
    """The key of a record gives those after it, and its name gives none."""
    key = b"k" * 32

    assert hashlib.sha256(b"wlcg_isolate journal key\0" + key).digest() == next_key(key)
    assert hashlib.sha256(b"wlcg_isolate journal kid\0" + key).hexdigest()[:16] == new_file_key(key)[1]


def test_kinds_are_explained():
    """Each kind of finding has its sentence, and both sorts exist."""
    assert {True, False} == {meaning.harm for meaning in FINDINGS.values()}
    assert all(meaning.text.endswith(".") for meaning in FINDINGS.values())


def test_file_that_begins_meanwhile(rotated, mocker):
    """A file that a pilot begins while others are read is not missed."""
    directory, names = rotated
    files = [str(directory / name) for name in names]
    mocker.patch("wlcg_isolate.trace.verify.files_of", return_value=files[:-1])
    report = verify(str(directory))

    assert (0, []) == (report.status, kinds(report))


def test_writer_that_was_taken_for_dead(tmp_path, mocker):
    """A pilot that another one could not see (a container's process ids) goes on: a remark, no failure."""
    mocker.patch("wlcg_isolate.trace.ends._is_left", return_value=True)
    first = Journal(str(tmp_path))
    first.write(start(1))
    Journal(str(tmp_path)).close()
    first.write(start(2))
    first.close()

    assert (0, ["continued"]) == (verify(str(tmp_path)).status, kinds(verify(str(tmp_path))))


def test_records_behind_the_end_of_a_file_that_was_followed(rotated):
    """Who goes on in a file that another one follows is told by both."""
    directory, names = rotated
    lines = lines_of(directory / names[1])
    link = link_of(lines[-1])
    chain = Chain(link.alg, link.file_id, link.kid, link.sequence, link.epoch, "", None).after(link.hash)
    put(directory / names[1], [*lines, chain.line(start(99).to_dict())[0]])

    assert ["after-close", "contradicted", "still-written"] == kinds(verify(str(directory)))


def test_checkpoint_at_another_place(write):
    """A checkpoint says how many bytes were before it."""
    path = write(3, checkpoint_records=2)
    lines = lines_of(path)
    lines[1] = lines[1].replace(b'"n":0', b'"n":1000')
    put(path, relink(lines, 1))

    assert ["contradicted"] == kinds(verify(path))


def test_unknown_method(write):
    """A file whose first record names another method is not taken for protected."""
    path = write()
    lines = lines_of(path)
    lines[0] = lines[0].replace(b"sha256+hmac-sha256", b"none+hmac-sha256")
    put(path, lines)

    assert "altered" in kinds(verify(path))
