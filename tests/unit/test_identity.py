"""Who a payload runs for, how far that is verified, and how it is recorded."""

from __future__ import annotations

import base64
import datetime
import json
import os

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, x25519
from cryptography.x509.oid import NameOID

from wlcg_isolate import HostError, Identity, Policy
from wlcg_isolate.cli import main
from wlcg_isolate.trace import TraceRecord, journal_for, read_records, token, x509 as certificates
from wlcg_isolate.trace.identity import identify
from wlcg_isolate.trace.protect import Keys, hash_of, key_id, protected
from wlcg_isolate.trace.reading import protected_identity
from wlcg_isolate.trace.sealing import seal, unseal

NOW = datetime.datetime.now(datetime.timezone.utc)
DAY = datetime.timedelta(days=1)

JANE = ("DC=ch", "DC=cern", "OU=Users", "CN=Jane Doe")
NAME = "CN=Jane Doe,OU=Users,DC=cern,DC=ch"
KEY = b"k" * 32

_OIDS = {"DC": NameOID.DOMAIN_COMPONENT, "OU": NameOID.ORGANIZATIONAL_UNIT_NAME, "CN": NameOID.COMMON_NAME}


class Holder:
    """A name with a key, and a certificate by somebody."""

    def __init__(self, words, issuer=None, *, until=DAY, signer=None, proxy=None):
        self.key = ec.generate_private_key(ec.SECP256R1())
        pairs = (word.split("=", 1) for word in words)
        self.words = tuple(words)
        self.name = x509.Name([x509.NameAttribute(_OIDS[kind], value) for kind, value in pairs])
        builder = x509.CertificateBuilder().subject_name(self.name).issuer_name((issuer or self).name)
        builder = builder.public_key(self.key.public_key()).serial_number(x509.random_serial_number())
        if proxy:
            info = x509.UnrecognizedExtension(
                x509.ObjectIdentifier(proxy), b"0\x0c0\x0a\x06\x08+\x06\x01\x05\x05\x07\x15\x01"
            )
            builder = builder.add_extension(info, critical=True)
        builder = builder.not_valid_before(NOW - 2 * DAY).not_valid_after(NOW + until)
        self.certificate = builder.sign((signer or issuer or self).key, hashes.SHA256())
        self.pem = self.certificate.public_bytes(serialization.Encoding.PEM)

    def proxy(self, name="1234567", *, kind="1.3.6.1.5.5.7.1.14", **more):
        """Make a proxy of this."""
        return Holder((*self.words, f"CN={name}"), self, proxy=kind, **more)


@pytest.fixture(scope="module")
def authority():
    """Make an authority, and a user with a proxy of a proxy."""
    ca = Holder(("DC=ch", "CN=Some CA"))
    user = Holder(JANE, ca)
    first = user.proxy()
    second = first.proxy("limited proxy", kind=None)

    return ca, user, first, second


def jwt(**claims):
    """Make a token that nobody signed."""
    parts = ({"alg": "RS256", "kid": "k-1"}, {"iss": "https://iam.example/", "sub": "s-4711", **claims})
    words = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]

    return ".".join((*words, "c2lnbmF0dXJl")).encode()


def chain(*holders):
    """Write a proxy file: the certificates with a private key after the first."""
    key = b"-----BEGIN EC PRIVATE KEY-----\nTm90aGluZw==\n-----END EC PRIVATE KEY-----\n"

    return holders[0].pem + key + b"".join(holder.pem for holder in holders[1:])


def test_proxy_names_its_user(authority):
    """The user and the authority of a proxy are read from its file; all proxies are stripped."""
    ca, user, first, second = authority
    who = identify(Identity(), proxy=chain(second, first, user), authorities=certificates.certificates(ca.pem))

    assert ("x509-proxy", "ca", NAME, "CN=Some CA,DC=ch") == (who.source, who.verified, who.name, who.issuer)


@pytest.mark.parametrize(
    ("holders", "trusted", "expected"),
    [
        ("second first user", True, "ca"),
        ("user", True, "ca"),
        ("second first user", False, "chain"),
        ("second first", True, "no"),
        ("forged user", True, "no"),
        ("expired user", True, "no"),
        ("second first foreign", True, "no"),
    ],
)
def test_how_far_verified(authority, holders, trusted, expected):
    """A chain counts as far as its signatures and dates hold."""
    ca, user, first, second = authority
    known = {"user": user, "first": first, "second": second}
    known["forged"] = user.proxy(signer=Holder(JANE))
    known["expired"] = user.proxy(until=-DAY)
    known["foreign"] = Holder(JANE, ca)
    read = certificates.certificates(chain(*(known[name] for name in holders.split())))

    assert expected == certificates.how_far_verified(read, certificates.certificates(ca.pem) if trusted else ())
    assert NAME == identify(Identity(), proxy=chain(*(known[n] for n in holders.split()))).name


@pytest.mark.parametrize("kind", ["1.3.6.1.5.5.7.1.14", "1.3.6.1.4.1.3536.1.222"])
def test_proxies_say_so(authority, kind):
    """Proxies of the standard and of its draft are known by their extension, whatever their name."""
    user = authority[1]

    assert NAME == identify(Identity(), proxy=chain(user.proxy("x", kind=kind), user)).name


def test_authority_that_issues_names_below_its_own():
    """A user's name that is the authority's with a common name more is no proxy's."""
    ca = Holder(("DC=ch", "OU=CA"))
    user = Holder((*ca.words, "CN=Jane Doe"), ca)
    who = identify(Identity(), proxy=chain(user.proxy(), user), authorities=certificates.certificates(ca.pem))

    assert ("CN=Jane Doe,OU=CA,DC=ch", "OU=CA,DC=ch", "ca") == (who.name, who.issuer, who.verified)


@pytest.mark.parametrize("damage", [b"", b"x", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"])
def test_no_proxy(damage):
    """What holds no certificate, or a damaged one, names nobody."""
    with pytest.raises(ValueError, match=r"no certificate|damaged"):
        identify(Identity(), proxy=damage)


def test_every_cut_of_a_certificate(authority):
    """A certificate that is cut anywhere is damaged, not misread."""
    der = authority[1].certificate.public_bytes(serialization.Encoding.DER)
    for cut in range(1, len(der), 7):
        pem = b"-----BEGIN CERTIFICATE-----\n" + base64.b64encode(der[:cut]) + b"\n-----END CERTIFICATE-----"
        with pytest.raises(ValueError, match="damaged"):
            certificates.certificates(pem)


def test_without_cryptography(authority, mocker):
    """Without the extra the user is known, and not verified."""
    mocker.patch.dict("sys.modules", {"cryptography": None})
    who = identify(Identity(), proxy=chain(authority[2], authority[1]))

    assert (NAME, "no") == (who.name, who.verified)


def test_token_names_its_subject():
    """A token says of itself who it is; nothing of it is verified."""
    who = identify(Identity(), bearer=jwt(jti="j-1", aud="any", exp=1.5, **{"wlcg.groups": ["/atlas"]}) + b"\n")
    shown = protected(who, "clear", Keys(), "t").fields

    assert ("token", "no", "s-4711") == (who.source, who.verified, who.sub)
    assert ("j-1", ["any"], 1, ["/atlas"], "RS256", "k-1", False) == tuple(
        shown[name]
        for name in (
            "wlcg.token.jti",
            "wlcg.token.aud",
            "wlcg.token.exp",
            "user.roles",
            "wlcg.token.alg",
            "wlcg.token.kid",
            "wlcg.token.verified",
        )
    )
    assert "c2lnbmF0dXJl" not in json.dumps(shown)


@pytest.mark.parametrize(
    "content",
    [b"", b"secret", b"a.b", b"a.b.c", b"a.b.c.d.e", jwt(sub=None), jwt(iss=7), b"W10.W10.x", b"WzFd.WzFd.x"],
)
def test_no_token(content):
    """What is no token names nobody, and is not repeated in the message."""
    with pytest.raises(ValueError, match=r"it is no|a part of it|it names") as caught:
        token.decode(content)

    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("identity", "source", "verified"),
    [
        (Identity(), "none", "no"),
        (Identity(job_id="7"), "wms-asserted", "no"),
        (Identity(user_dn="/CN=x"), "wms-asserted", "no"),
        (Identity(user_dn="/CN=x", source="x509-proxy", verified=True), "x509-proxy", "pilot"),
        (Identity(user_sub="s", user_iss="i", source="token"), "token", "no"),
    ],
)
def test_asserted(identity, source, verified):
    """What the pilot says is recorded as that."""
    who = identify(identity)

    assert (source, verified) == (who.source, who.verified)


@pytest.mark.parametrize(
    ("user_dn", "source", "name", "notation"),
    [
        ("/DC=ch/DC=cern/OU=Users/CN=Jane Doe", None, NAME, "rfc4514"),
        (f"CN=proxy,{NAME}", "x509-proxy", NAME, "rfc4514"),
        (f"CN=proxy,{NAME}", None, f"CN=proxy,{NAME}", "rfc4514"),
        ("jane", None, "jane", "as-given"),
    ],
)
def test_asserted_names(user_dn, source, name, notation):
    """A name that the pilot says has its canonical form; proxies are stripped where it says that it is one."""
    who = identify(Identity(user_dn=user_dn, source=source))

    assert (name, notation) == (who.name, who.notation)


def test_contradiction(authority):
    """A proxy or token of somebody else than the request names is refused."""
    for what in ({"proxy": authority[1].pem}, {"bearer": jwt()}):
        with pytest.raises(ValueError, match="somebody else"):
            identify(Identity(user_dn="/CN=Eve", user_sub="eve", user_iss="https://iam.example/"), **what)


def test_agreement(authority):
    """A request may name the same user in another notation, and have both proxy and token."""
    dn = "/DC=ch/DC=cern/OU=Users/CN=Jane Doe"
    who = identify(Identity(user_dn=dn), proxy=authority[1].pem, bearer=jwt())

    assert ("x509-proxy", NAME, "s-4711") == (who.source, who.name, who.sub)
    assert (NAME, "https://iam.example/#s-4711") == who.keys


def test_clear_mode():
    """In clear, all names are there to search by, as given too."""
    fields = protected(identify(Identity(user_dn="/O=A/CN=x")), "clear", Keys(), "t").fields

    assert "CN=x,O=A" == fields["user.name"]
    assert ["CN=x,O=A", "/O=A/CN=x"] == fields["related.user"]


def test_hashed_mode():
    """Hashed, a user is found by whoever has the key, in any notation, and named nowhere."""
    spelt = ("/DC=ch/DC=cern/OU=Users/CN=Jane Doe", NAME, "DC = ch, DC = cern, OU = Users, CN = Jane Doe")
    made = [protected(identify(Identity(user_dn=dn)), "hashed", Keys(hashing=KEY), "t") for dn in spelt]

    assert {hash_of(NAME, KEY)} == {one.fields["user.hash"] for one in made}
    assert f"hmac-sha256:{key_id(KEY)}:" == made[0].fields["user.hash"][:-64]
    assert hash_of(NAME, KEY) != hash_of(NAME, b"x" * 32)
    assert "Jane" not in json.dumps([one.fields for one in made])
    assert {"Jane Doe", NAME, spelt[0]} <= set(made[0].hidden)


def test_hashed_token():
    """A token's subject is hashed with its issuer, and is in clear nowhere."""
    fields = protected(identify(Identity(), bearer=jwt()), "hashed", Keys(hashing=KEY), "t").fields
    expected = hash_of("https://iam.example/#s-4711", KEY)

    assert (expected, expected, [expected]) == (
        fields["user.hash"],
        fields["wlcg.token.sub_hash"],
        fields["related.user"],
    )
    assert "s-4711" not in json.dumps(fields)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """Make a key pair of a security team in files."""
    place = tmp_path_factory.mktemp("keys")
    key = x25519.X25519PrivateKey.generate()
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (place / "private").write_bytes(key.private_bytes(*form))
    (place / "private").chmod(0o600)
    (place / "public").write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    (place / "hash").write_bytes(KEY)
    (place / "hash").chmod(0o600)

    return place


def test_sealed_text(pair):
    """Only the owner of the private key opens a sealed text, and only for its payload."""
    public, private = (pair / "public").read_bytes(), (pair / "private").read_bytes()
    sealed, _ = seal("Jané", public, "t-1")

    assert "Jané" == unseal(sealed, private, "t-1")
    assert sealed != seal("Jané", public, "t-1")[0]
    for wrong in ((sealed, private, "t-2"), (sealed[:-1] + b"x", private, "t-1"), (b"", private, "t-1")):
        with pytest.raises(ValueError, match="not sealed for this key"):
            unseal(*wrong)
    with pytest.raises(ValueError, match="no X25519 public key"):
        seal("x", private, "t-1")


def test_sealed_as_others_do(pair):
    """The form is that of RFC 9180, not one of our own: another caller of it opens what was sealed."""
    from cryptography.hazmat.primitives import hpke

    sealed, kid = seal("x", (pair / "public").read_bytes(), "t-1")
    key = serialization.load_pem_private_key((pair / "private").read_bytes(), None)
    suite = hpke.Suite(hpke.KEM.X25519, hpke.KDF.HKDF_SHA256, hpke.AEAD.CHACHA20_POLY1305)

    assert b"x" == suite.decrypt(sealed, key, info=b"wlcg_isolate identity 1 t-1")
    assert 16 == len(kid)


def test_sealed_mode(pair):
    """Sealed, a record holds what its team can open; a hash too where there is a key for it."""
    policy = Policy(trace_identity_mode="sealed", trace_identity_seal_file=str(pair / "public"))
    identity = Identity(user_dn="/O=A/CN=Jane Doe", user_sub="s", user_iss="i")
    fields = protected_identity(identity, policy, "t-1").fields
    opened = unseal(base64.b64decode(fields["wlcg.identity.sealed"]), (pair / "private").read_bytes(), "t-1")
    both = protected_identity(identity, attrs.evolve(policy, trace_identity_key_file=str(pair / "hash")), "t-1").fields

    assert {"user.name": "CN=Jane Doe,O=A", "wlcg.token.iss": "i", "wlcg.token.sub": "s"} == json.loads(opened)
    assert "user.hash" not in fields
    assert hash_of("CN=Jane Doe,O=A", KEY) == both["user.hash"]
    assert "Jane" not in json.dumps([fields, both])


def test_nobody_is_not_sealed(pair):
    """Where nobody is known there is nothing to seal."""
    policy = Policy(trace_identity_mode="sealed", trace_identity_seal_file=str(pair / "public"))

    assert "wlcg.identity.sealed" not in protected_identity(Identity(), policy, "t").fields


@pytest.mark.parametrize(
    ("mode", "content", "permissions", "fault"),
    [
        ("hashed", None, 0, "there is no key to hash"),
        ("sealed", None, 0, "there is no public key"),
        ("hashed", b"short", 0o600, "less than 32 bytes"),
        ("hashed", KEY, 0o644, "others may read or change it"),
        ("hashed", KEY, 0o660, "others may read or change it"),
        ("sealed", b"-----BEGIN PUBLIC KEY-----", 0o644, "no X25519 public key"),
    ],
)
def test_protection_that_cannot_be_kept(tmp_path, mode, content, permissions, fault):
    """Where the mode cannot be kept, the payload is refused."""
    names = {"hashed": "trace_identity_key_file", "sealed": "trace_identity_seal_file"}
    more = {}
    if content is not None:
        (tmp_path / "key").write_bytes(content)
        (tmp_path / "key").chmod(permissions)
        more = {names[mode]: str(tmp_path / "key")}
    with pytest.raises(HostError, match=fault) as caught:
        protected_identity(Identity(user_dn="/CN=x"), Policy(trace_identity_mode=mode, **more), "t")

    assert ["identity-unprotected"] == [problem.kind for problem in caught.value.problems]


@pytest.mark.parametrize("field", ["user_proxy", "user_token"])
@pytest.mark.parametrize("what", ["missing", "empty", "fifo"])
def test_files_that_tell_nothing(tmp_path, field, what):
    """A file that should tell who it is, and does not, refuses the payload."""
    if what == "empty":
        (tmp_path / "empty").write_text("")
    if what == "fifo":
        os.mkfifo(tmp_path / "fifo")
    with pytest.raises(HostError, match=str(tmp_path / what)) as caught:
        protected_identity(Identity(**{field: str(tmp_path / what)}), Policy(), "t")

    assert ["identity-unreadable"] == [problem.kind for problem in caught.value.problems]


def test_authorities_of_the_node(tmp_path, authority):
    """Authorities are read from their directory; files that hold none are passed over."""
    ca, user, first, _ = authority
    (tmp_path / "ca").mkdir()
    (tmp_path / "ca" / "abcd1234.0").write_bytes(ca.pem)
    (tmp_path / "ca" / "broken.0").write_text("x")
    (tmp_path / "ca" / "notes.txt").write_text("x")
    (tmp_path / "proxy").write_bytes(chain(first, user))
    identity = Identity(user_proxy=str(tmp_path / "proxy"))
    policies = (Policy(), Policy(trace_identity_ca_directory=str(tmp_path / "ca")))

    assert ["chain", "ca"] == [
        protected_identity(identity, policy, "t").fields["wlcg.identity.verified"] for policy in policies
    ]


def reveal(pair, tmp_path, *more):
    """Call the subcommand."""
    where = [str(tmp_path / "t"), "--key", str(pair / "private"), "--audit-dir", str(tmp_path / "a")]

    return main(["trace", "reveal", *where, "--reason", "incident 7", *more])


def test_reveal(pair, tmp_path, capsys, check_record):
    """The security team opens identities by its key; that it did is recorded before it sees them."""
    policy = Policy(trace_identity_mode="sealed", trace_identity_seal_file=str(pair / "public"))
    for trace_id in ("t-1", "t-2"):
        fields = protected_identity(Identity(user_dn=f"/O=A/CN=Jane {trace_id}"), policy, trace_id).fields
        for action in ("payload.start", "payload.end"):
            record = TraceRecord(action=action, trace_id=trace_id, fields=fields)
            journal_for([str(tmp_path / "t")]).write(record)
    status = reveal(pair, tmp_path, "--trace-id", "t-2", "--json")
    shown = json.loads(capsys.readouterr().out)
    audit = [r for r in read_records(str(tmp_path / "a"))[0] if not r["event.action"].startswith("log.")]

    assert (0, ["CN=Jane t-2,O=A"]) == (status, [record["user.name"] for record in shown])
    assert [("identity.resolve", "t-2", "incident 7")] == [
        (r["event.action"], r["container.id"], r["wlcg.resolve.reason"]) for r in audit
    ]
    assert "Jane" not in str(audit)
    check_record(audit[0])
    assert 0 == reveal(pair, tmp_path)
    assert "CN=Jane t-1,O=A" in capsys.readouterr().out


def test_reveal_of_others(pair, tmp_path, capsys):
    """What is sealed for another key, or was moved to another payload's record, is not opened, and that is said."""
    policy = Policy(trace_identity_mode="sealed", trace_identity_seal_file=str(pair / "public"))
    fields = protected_identity(Identity(user_dn="/O=A/CN=Jane"), policy, "t-1").fields
    journal = journal_for([str(tmp_path / "t")])
    journal.write(TraceRecord(action="payload.end", trace_id="t-9", fields=fields))
    journal.write(
        TraceRecord(
            action="payload.end",
            trace_id="t-8",
            fields={**fields, "wlcg.identity.sealed": "eA==", "wlcg.identity.sealed_kid": "0" * 16},
        )
    )
    status = reveal(pair, tmp_path)
    told = capsys.readouterr()

    assert 1 == status
    assert "t-9: it is not sealed for this key and this payload" in told.err
    assert "t-8: it is sealed for key 0000000000000000" in told.err
    assert "Jane" not in told.out


def test_reveal_needs_its_key(pair, tmp_path, capsys):
    """A key that others can read, or that is none, opens nothing."""
    (tmp_path / "key").write_bytes((pair / "private").read_bytes())
    (tmp_path / "key").chmod(0o644)
    where = ["trace", "reveal", str(tmp_path), "--audit-dir", str(tmp_path / "a"), "--reason", "x", "--key"]

    assert [1, 1] == [main([*where, str(tmp_path / "key")]), main([*where, str(pair / "hash")])]
    assert "others may read or change it" in capsys.readouterr().err
