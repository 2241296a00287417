"""A user is found in whatever notation records were told of, and also where they hold hashes."""

from __future__ import annotations

import json

import pytest

from wlcg_isolate import Identity
from wlcg_isolate.cli import main
from wlcg_isolate.trace.identity import identify
from wlcg_isolate.trace.protect import Keys, protected

KEY = bytes(range(32))

#: One person as grid software writes the name, as RFC 4514 does, with blanks, and with what a proxy adds.
SLASH = "/DC=ch/DC=cern/OU=Users/CN=jane/CN=Jane Doe"
COMMA = "CN=Jane Doe,CN=jane,OU=Users,DC=cern,DC=ch"
SPELLINGS = (SLASH, COMMA, COMMA.replace(",", ", "), f"{SLASH}/CN=1234567")

#: Whom records are of: by name, by name and token, by token, and by what is no distinguished name.
IDENTITIES = {
    "slash": Identity(user_dn=SLASH),
    "comma": Identity(user_dn=COMMA),
    "proxy": Identity(user_dn=f"{SLASH}/CN=1234567", source="x509-proxy"),
    "name-and-token": Identity(user_dn=SLASH, user_sub="s-1", user_iss="https://i.example.org", source="token"),
    "other": Identity(user_dn=SLASH.replace("Jane", "John")),
    "token": Identity(user_sub="s-1", user_iss="https://i.example.org"),
    "other-issuer": Identity(user_sub="s-1", user_iss="https://j.example.org"),
    "as-given": Identity(user_dn="jane@example.org"),
}

JANE = {"slash", "comma", "proxy", "name-and-token"}
TOKEN = {"name-and-token", "token"}


@pytest.fixture(scope="module", params=["clear", "hashed"])
def mode(request):
    """How identities are recorded."""
    return request.param


@pytest.fixture(scope="module")
def place(mode, tmp_path_factory):
    """A payload of each identity, as JSON lines."""
    place = tmp_path_factory.mktemp(mode)
    (place / "key").write_bytes(KEY)
    with open(place / "records.jsonl", "w") as f:
        for number, (name, identity) in enumerate(IDENTITIES.items()):
            fields = protected(identify(identity), mode, Keys(hashing=KEY), name).fields
            head = {"@timestamp": "2026-03-01T00:00:00.000000Z", "event.action": "payload.start"}
            record = {**head, "event.id": str(number), "container.id": name, "host.name": "wn1", **fields}
            f.write(json.dumps({key: value for key, value in record.items() if value is not None}) + "\n")

    return place


@pytest.fixture(scope="module")
def parquet(place):
    """The same as Parquet."""
    assert 0 == main(["trace", "export", "--trace-dir", str(place / "records.jsonl"), "--parquet", str(place / "p")])

    return str(place / "p")


@pytest.fixture
def ask(place, parquet, capsys, mode):
    """Ask every engine; where records are hashed, with the site's key."""

    def ask(*words):
        key = ["--user-key", str(place / "key")] if mode == "hashed" else []
        answers = []
        for where, engine in (
            (str(place / "records.jsonl"), "plain"),
            (str(place / "records.jsonl"), "duckdb"),
            (parquet, "duckdb"),
        ):
            capsys.readouterr()
            assert 0 == main(["trace", "find", "--json", "--trace-dir", where, "--engine", engine, *words, *key])
            answers.append({one["trace_id"] for one in json.loads(capsys.readouterr().out)})
        assert answers[0] == answers[1] == answers[2]
        return answers[0]

    return ask


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_notation(ask, spelling):
    """Whatever notation is asked in finds what was recorded in any."""
    assert JANE == ask("--user-dn", spelling)


def test_token(ask):
    """Subject and issuer together are one user, by whatever else the records name it."""
    assert TOKEN == ask("--user-sub", "s-1", "--user-iss", "https://i.example.org")


def test_what_is_no_distinguished_name(ask):
    """A name in no notation is found as it was given."""
    assert {"as-given"} == ask("--user-dn", "jane@example.org")


def test_hashes_say_nothing_without_their_key(place, mode, capsys, tmp_path):
    """Without the key, or with another one, nobody is found in hashed records."""
    (tmp_path / "other").write_bytes(bytes(32))
    where = ["trace", "find", "--json", "--trace-dir", str(place / "records.jsonl"), "--user-dn", SLASH]
    found = []
    for more in ([], ["--user-key", str(tmp_path / "other")]):
        assert 0 == main([*where, *more])
        found.append({one["trace_id"] for one in json.loads(capsys.readouterr().out)})

    assert [JANE if mode == "clear" else set()] * 2 == found


def test_key_alone(capsys, place):
    """A key that names nobody, and one that cannot be read, are refused by name."""
    words = ["trace", "find", "--trace-dir", str(place / "records.jsonl"), "--user-key"]

    assert 1 == main([*words, str(place / "key")])
    assert "a key alone names no user" in capsys.readouterr().err
    assert 1 == main([*words, str(place / "none"), "--user-dn", SLASH])
    assert "cannot be read" in capsys.readouterr().err
