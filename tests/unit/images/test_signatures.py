"""
A list of checksums counts when one of the keys signed it.

The keys and signatures of minisign were made by minisign 0.11::

    minisign -G -W -p k.pub -s k.sec
    minisign -S -s k.sec -m SUMS -t file:SUMS
    minisign -S -l -s k.sec -m SUMS -t legacy

Those of OpenPGP by gpg 2.2.40::

    gpg --quick-generate-key "tester <t@example.org>" ed25519 sign never
    gpg --armor --detach-sign SUMS
"""

from __future__ import annotations

import base64

import pytest

from wlcg_isolate.host.signature import check_list
from wlcg_isolate.images import minisign, openpgp
from wlcg_isolate.images.fault import ImageFault

LIST = b"a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1a1  x.sif\n"
KEY = b"""\
untrusted comment: minisign public key 839D4790FFFED522
RWQi1f7/kEedg6B7qZMsp5Zl0IiY97qKhw+NIZmxgiSNJfJxKMI9BN2A
"""
HASHED = b"""\
untrusted comment: signature from minisign secret key
RUQi1f7/kEedgzPFbHknQucmyirlbogO2RvY96F3OZKV9LmlKOgPGtKU36bnCsI6j7aTGIz9rP07TyvKHgmxNySd1BJvvRo2EQ0=
trusted comment: file:SUMS
dzwZAO7ApIq+EMuLQUNrHVVW4prtimEvU/7OCB04cEpfGZOl48zaHF0p/kLXRDBU147vifT6mH0QUmts5ZUcDA==
"""
PLAIN = b"""\
untrusted comment: signature from minisign secret key
RWQi1f7/kEedg0qAK5rEDOSTtpbUIHTMrSqsx4jOZeY0dUlqw8hIPo/yJSkbjTTR6OWEYlfM958ok0UH+fT4SriAqn74DN/xpQE=
trusted comment: legacy
S/RcbeyPCvMYiaMt46JDd2brQVfLf4t3P1RLFDQe+UiKeDQPvf6ZwcCa1XpEx4tbsCS1k61mGQrk9+BER1iOCg==
"""


@pytest.fixture
def files(tmp_path):
    """Write files and return the path of the list."""

    def make(**content):
        (tmp_path / "SUMS").write_bytes(LIST)
        for name, data in content.items():
            (tmp_path / name.replace("_", ".")).write_bytes(data)
        return str(tmp_path / "SUMS"), str(tmp_path)

    return make


@pytest.mark.parametrize("signature", [HASHED, PLAIN], ids=["hashed", "plain"])
def test_minisign(files, signature):
    """Both ways of minisign are good."""
    path, place = files(SUMS_minisig=signature, k_pub=KEY)

    assert None is check_list(path, LIST, (f"{place}/k.pub",), 10)


@pytest.mark.parametrize(
    ("signature", "data", "words"),
    [
        pytest.param(HASHED, LIST + b"x", "the signature is not valid", id="other list"),
        pytest.param(HASHED.replace(b"file:SUMS", b"file:SUMZ"), LIST, "is not valid", id="other comment"),
        pytest.param(HASHED.replace(b"gzPFbH", b"gzPFbI"), LIST, "is not valid", id="other signature"),
        pytest.param(HASHED.replace(b"RUQi1f7", b"RUQi2f7"), LIST, "by none of the keys", id="other key"),
        pytest.param(HASHED[:80], LIST, "is none of minisign", id="cut"),
        pytest.param(b"", LIST, "is none of minisign", id="empty"),
        pytest.param(HASHED.replace(b"RUQi", b"!!!!"), LIST, "is no base64", id="no base64"),
    ],
)
def test_bad_minisign(files, signature, data, words):
    """Whatever was changed is found."""
    path, place = files(SUMS_minisig=signature, k_pub=KEY)
    with pytest.raises(ImageFault, match=words) as caught:
        check_list(path, data, (f"{place}/k.pub",), 10)

    assert "image-list-invalid" == caught.value.kind


def test_without_the_package(files, mocker):
    """Without the package for it, a signature is not taken for good."""
    mocker.patch.dict("sys.modules", {"cryptography.exceptions": None})
    path, place = files(SUMS_minisig=HASHED, k_pub=KEY)
    with pytest.raises(ImageFault, match="the package cryptography is missing"):
        check_list(path, LIST, (f"{place}/k.pub",), 10)


def test_no_keys_and_no_signature(files):
    """Without keys no signature is asked for; with keys one must be there."""
    path, place = files(k_pub=KEY)

    assert None is check_list(path, LIST, (), 10)
    with pytest.raises(ImageFault, match="has no signature by one of the keys"):
        check_list(path, LIST, (f"{place}/k.pub",), 10)


@pytest.mark.parametrize("key", [b"untrusted comment: x\nAAAA\n", b"rubbish", b"", b"\x99\xff\xff", b"-----x"])
def test_bad_keys(files, key):
    """What is no key is refused."""
    path, place = files(SUMS_minisig=HASHED, k_pub=key)
    with pytest.raises(ImageFault, match=r"there is no minisign key|there are no OpenPGP keys"):
        check_list(path, LIST, (f"{place}/k.pub",), 10)


def test_missing_key(files):
    """A key that policy names must be there."""
    path, _ = files()
    with pytest.raises(ImageFault, match="/nosuch cannot be read"):
        check_list(path, LIST, ("/nosuch",), 10)


PGP_KEY = b"""\
-----BEGIN PGP PUBLIC KEY BLOCK-----

mDMEawYkWBYJKwYBBAHaRw8BAQdASfIIOf10S52DfIQco5b6tzfBpOAU36R/iBpf
NaB1/i20FnRlc3RlciA8dEBleGFtcGxlLm9yZz6IkAQTFggAOBYhBO4Pv5xLIRdE
0PhyBphYxwqmkqv3BQJrBiRYAhsDBQsJCAcCBhUKCQgLAgQWAgMBAh4BAheAAAoJ
EJhYxwqmkqv3+T0BALj1XtCnXi7/C4OBEo26lqiBq7Fk8PdeSBS1qj/AXno6AP9S
PTL1kw4S5Mk6L7uwTQgR0wQpjXJUgJzg4VLx0JXFBA==
=e8kZ
-----END PGP PUBLIC KEY BLOCK-----
"""
PGP_SIGNATURE = b"""\
-----BEGIN PGP SIGNATURE-----

iHUEABYIAB0WIQTuD7+cSyEXRND4cgaYWMcKppKr9wUCawYkWAAKCRCYWMcKppKr
95HtAP9vxqAEzSsr486yiqPFBgBTEEZTtn+CIjoJKN+m4v+xrwEAzNzy51BBvS2I
++8Kz6r78+NjVMcOVlfuPEqUwjxwiw0=
=pMW/
-----END PGP SIGNATURE-----
"""


def without_armour(data):
    """Take the armour from a key or a signature."""
    body = data.split(b"\n\n")[1].split(b"\n=")[0]

    return base64.b64decode(body)


@pytest.mark.parametrize("key", [PGP_KEY, without_armour(PGP_KEY)], ids=["armoured", "binary"])
@pytest.mark.parametrize("signature", [PGP_SIGNATURE, without_armour(PGP_SIGNATURE)], ids=["armoured", "binary"])
def test_openpgp(files, key, signature):
    """Signatures of gpg are good, with keys and signatures in either form."""
    path, place = files(SUMS_asc=signature, k_pub=key)

    assert None is check_list(path, LIST, (f"{place}/k.pub",), 30)
    with pytest.raises(ImageFault, match="its signature is not valid"):
        check_list(path, LIST + b"x", (f"{place}/k.pub",), 30)


def test_without_gpgv(files, mocker):
    """Without the program for it, a signature is not taken for good."""
    mocker.patch("subprocess.run", side_effect=FileNotFoundError(2, "No such file or directory"))
    path, place = files(SUMS_asc=PGP_SIGNATURE, k_pub=PGP_KEY)
    with pytest.raises(ImageFault, match="gpgv cannot check a signature"):
        check_list(path, LIST, (f"{place}/k.pub",), 30)


def test_fingerprints():
    """The fingerprint of a key is the one that gpg tells."""
    assert ["ee0fbf9c4b211744d0f872069858c70aa692abf7"] == openpgp.fingerprints(openpgp.binary_keys(PGP_KEY))


def test_key_of_somebody_else(files):
    """A good signature by another key does not count."""
    path, place = files(SUMS_asc=PGP_SIGNATURE, k_pub=KEY)
    with pytest.raises(ImageFault, match="has no signature by one of the keys"):
        check_list(path, LIST, (f"{place}/k.pub",), 30)


def test_parse_key():
    """A key of minisign is taken apart."""
    key = minisign.parse_key(KEY)

    assert (bytes.fromhex("22d5feff90479d83"), 32) == (key.number, len(key.key))
