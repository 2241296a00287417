"""Distinguished names in all notations have one canonical form."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID
from hypothesis import HealthCheck, assume, example, given, settings, strategies as st

from wlcg_isolate.trace.dn import attribute, canonical_dn, format_dn, parse_dn, slash_dn, user_part

#: A busy machine is no fault of what is tested.
_QUIET = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

JANE = "CN=Jane Doe,OU=Users,DC=cern,DC=ch"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/DC=ch/DC=cern/OU=Users/CN=Jane Doe", JANE),
        ("CN=Jane Doe,OU=Users,DC=cern,DC=ch", JANE),
        ("cn=Jane Doe, ou=Users, dc=cern, dc=ch", JANE),
        ("CN=Jane Doe;OU=Users;DC=cern;DC=ch", JANE),
        ("DC = ch, DC = cern, OU = Users, CN = Jane Doe", JANE),
        (" /DC=ch/DC=cern/OU=Users/CN=Jane Doe\n", JANE),
        ('CN="Jane Doe",OU=Users,0.9.2342.19200300.100.1.25=cern,OID.0.9.2342.19200300.100.1.25=ch', JANE),
        ("/C=UK/O=eScience/CN=host/ce.example.org", "CN=host/ce.example.org,O=eScience,C=UK"),
        ("/C=UK/O=eScience/CN=host/ce/OU=x", "OU=x,CN=host/ce,O=eScience,C=UK"),
        ("/O=Grid/CN=https://x/y=z", "CN=https://x/y\\=z".replace("\\", "") + ",O=Grid"),
        ("/O=A, B/CN=x", "CN=x,O=A\\, B"),
        ("CN=x,O=A\\, B", "CN=x,O=A\\, B"),
        ("CN=x,O=A\\2C B", "CN=x,O=A\\, B"),
        ('CN=x,O="A, B"', "CN=x,O=A\\, B"),
        ("/O=A/CN=Jos\\xC3\\xA9", "CN=José,O=A"),
        ("CN=Jos\\C3\\A9,O=A", "CN=José,O=A"),
        ("/O=A/CN=x/Email=a@b", "emailAddress=a@b,CN=x,O=A"),
        ("/O=A/CN=x/emailAddress=a@b", "emailAddress=a@b,CN=x,O=A"),
        ("E=a@b,CN=x,O=A", "emailAddress=a@b,CN=x,O=A"),
        ("1.2.840.113549.1.9.1=a@b,CN=x,O=A", "emailAddress=a@b,CN=x,O=A"),
        ("/O=A/USERID=jdoe/CN=x", "CN=x,UID=jdoe,O=A"),
        ("UID=jdoe+CN=x,O=A", "CN=x+UID=jdoe,O=A"),
        ("/O=A/UID=jdoe+CN=x", "CN=x+UID=jdoe,O=A"),
        ("/O=A/CN=a+b", "CN=a\\+b,O=A"),
        ("CN=\\ x\\ ,O=\\#1", "CN=\\ x\\ ,O=\\#1"),
        ("CN=,O=A", "CN=,O=A"),
        ("2.5.4.99=x,O=A", "2.5.4.99=x,O=A"),
        ("/O=A/CN=a\nb", "CN=a\\0Ab,O=A"),
        ("CN=JANE,O=A", "CN=JANE,O=A"),
    ],
)  # fmt: skip
def test_canonical(text, expected):
    """Each notation gives the same form; what is canonical stays as it is."""
    assert expected == canonical_dn(text)
    assert expected == canonical_dn(expected)


@pytest.mark.parametrize(
    "text", ["", "/", "jane", "/jane", "/x=y", "CN", "CN=a,", "CN=a,OU", 'CN="a', 'CN="a"b', "CN=a\\", "=a"]
)
def test_no_name(text):
    """What is in no notation is an error."""
    with pytest.raises(ValueError, match=r"attribute|quoted|backslash"):
        canonical_dn(text)


@pytest.mark.parametrize(
    ("added", "left"),
    [
        ("/CN=proxy", ""),
        ("/CN=limited proxy", ""),
        ("/CN=1234567890", ""),
        ("/CN=proxy/CN=limited proxy/CN=77", ""),
        ("/CN=proxy server", "CN=proxy server,"),
        ("/CN=12a", "CN=12a,"),
        ("/OU=proxy", "OU=proxy,"),
        ("/CN=1/CN=x", "CN=x,CN=1,"),
    ],
)
def test_proxy_parts(added, left):
    """What proxies add is taken away from the end, and only there."""
    assert left + JANE == canonical_dn(f"/DC=ch/DC=cern/OU=Users/CN=Jane Doe{added}", proxy=True)


def test_numbers_of_users_stay():
    """Only who knows that it is a proxy may take numbers away; something is always left."""
    assert "CN=1234,CN=Jane,O=A" == canonical_dn("/O=A/CN=Jane/CN=1234")
    assert "CN=1" == canonical_dn("/CN=1/CN=2", proxy=True)


_KINDS = st.sampled_from(["CN", "OU", "O", "DC", "C", "UID", "emailAddress", "L", "2.5.4.99"])
_VALUES = st.text(st.characters(codec="utf-8"), max_size=12)
_PARTS = st.lists(st.tuples(_KINDS, _VALUES), min_size=1, max_size=2, unique_by=lambda pair: pair[0])
_NAMES = st.lists(_PARTS.map(lambda pairs: tuple(sorted(pairs))), min_size=1, max_size=5).map(tuple)


@_QUIET
@given(_NAMES)
@example(((("CN", " "),),))
@example(((("CN", "# "),),))
@example(((("C", "a  "),), (("CN", "\\ "),)))
def test_written_names_are_read_back(name):
    """Every name, whatever its values hold, is read back from its canonical form."""
    assert name == parse_dn(format_dn(name))
    assert format_dn(name) == canonical_dn(format_dn(name))


@_QUIET
@given(_NAMES)
def test_both_notations_agree(name):
    """A name has the same form in both notations, where slashes can express it."""
    values = [value for part in name for _, value in part]
    assume(not any(c in value for value in values for c in "=\\") and not values[-1][-1:].isspace())

    assert format_dn(name) == canonical_dn(slash_dn(name))


@_QUIET
@given(st.lists(st.tuples(st.sampled_from([NameOID.COMMON_NAME, NameOID.ORGANIZATION_NAME]), _VALUES), min_size=1))
def test_as_cryptography_writes_it(pairs):
    """What another implementation of RFC 4514 writes is read the same way."""
    # It writes the values of a name of one part each; NUL and controls differ in spelling only.
    assume(all(0 < len(value) < 64 and not set(value) & set("\t\r\n") for _, value in pairs))
    text = x509.Name([x509.NameAttribute(oid, value) for oid, value in pairs]).rfc4514_string()
    expected = tuple((({NameOID.COMMON_NAME: "CN"}.get(oid, "O"), value),) for oid, value in pairs)

    assert expected == parse_dn(text)


@_QUIET
@given(st.text(max_size=40))
def test_any_text(text):
    """No text does worse than being no name."""
    try:
        found = canonical_dn(text)
    except ValueError:
        return

    assert found == canonical_dn(found)


def test_attributes():
    """An attribute has one spelling, and what is none is refused."""
    assert ["CN", "emailAddress", "UID", "2.5.4.99"] == [*map(attribute, ("cn", "E", "userId", "OID.2.5.4.99"))]
    with pytest.raises(ValueError, match="is no attribute"):
        attribute("x y")


def test_user_part_of_values():
    """A part with two values is no proxy's."""
    name = parse_dn("CN=1+UID=2,O=A")

    assert name == user_part(name)
