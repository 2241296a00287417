"""
One canonical form for distinguished names.

The canonical form is that of RFC 4514: most specific part first, separated
by commas, each attribute with one fixed spelling, special characters after a
backslash, parts of several values sorted.  Values are compared as they are:
no rule of the grid folds their case.

The other notation, with slashes (OpenSSL's "oneline", Globus), is ambiguous
where a value holds a slash: it is split only where a known attribute, or a
number of one, and ``=`` follow.

OpenSSL also writes commas in the other order, most general part first, and
then with blanks ("C = CH, O = CERN"); a name with blanks that begins with a
country or a domain is read so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

#: Spellings of attributes, in lower case, to the one that is kept (RFC 4514;
#: RFC 2985; what OpenSSL, Globus, Java and NSS write).
_SPELLINGS = {
    **{name.lower(): name for name in ("CN", "L", "ST", "O", "OU", "C", "STREET", "DC", "UID", "SN", "T", "DNQ")},
    **dict.fromkeys(("emailaddress", "email", "e", "1.2.840.113549.1.9.1"), "emailAddress"),
    **dict.fromkeys(("userid", "0.9.2342.19200300.100.1.1"), "UID"),
    **dict.fromkeys(("s", "sp", "stateorprovincename", "2.5.4.8"), "ST"),
    **dict.fromkeys(("commonname", "2.5.4.3"), "CN"),
    **dict.fromkeys(("surname", "2.5.4.4"), "SN"),
    **dict.fromkeys(("serialnumber", "2.5.4.5"), "serialNumber"),
    **dict.fromkeys(("countryname", "2.5.4.6"), "C"),
    **dict.fromkeys(("localityname", "2.5.4.7"), "L"),
    **dict.fromkeys(("streetaddress", "2.5.4.9"), "STREET"),
    **dict.fromkeys(("organizationname", "2.5.4.10"), "O"),
    **dict.fromkeys(("organizationalunitname", "2.5.4.11"), "OU"),
    **dict.fromkeys(("title", "2.5.4.12"), "T"),
    **dict.fromkeys(("givenname", "gn", "g", "2.5.4.42"), "GN"),
    **dict.fromkeys(("dnqualifier", "2.5.4.46"), "DNQ"),
    **dict.fromkeys(("domaincomponent", "0.9.2342.19200300.100.1.25"), "DC"),
    **dict.fromkeys(("organizationidentifier", "2.5.4.97"), "organizationIdentifier"),
}

_NAME = rf"(?:{'|'.join(sorted(map(re.escape, _SPELLINGS), key=len, reverse=True))}|(?:oid\.)?\d+(?:\.\d+)+)"
_SLASH = re.compile(rf"/(?={_NAME}=)", re.IGNORECASE)
_PLUS = re.compile(rf"\+(?={_NAME}=)", re.IGNORECASE)
_TYPE = re.compile(rf"{_NAME}\Z", re.IGNORECASE)

#: Characters that need a backslash anywhere in a value (RFC 4514, 2.4).
_SPECIAL = '"+,;<>\\'

#: What the subject of a proxy has more than its user's (RFC 3820 and the
#: older forms of Globus).
_PROXY = re.compile(r"(proxy|limited proxy|rfc proxy|\d+)\Z")

#: A part of a name: pairs of attribute and value.
Part = tuple[tuple[str, str], ...]


#: A name of parts, the most general first, as certificates have it.
Name = tuple[Part, ...]


def canonical_dn(text: str, *, proxy: bool = False) -> str:
    """
    Write a distinguished name in the canonical form.

    Args:
        text: The name, in either notation.

        proxy: Whether it is the subject of a proxy; what that has more than
            its user's name is taken away.

    Raises:
        ValueError: It is no distinguished name.
    """
    name = parse_dn(text)

    return format_dn(user_part(name) if proxy else name)


def parse_dn(text: str) -> Name:
    """
    Read a distinguished name in either notation.

    Raises:
        ValueError: It is none.
    """
    text = text.lstrip()
    if text.startswith("/"):
        return tuple(_slash_parts(text.rstrip()))

    # A blank at the end may be an escaped one.
    return _comma_parts(text.rstrip("\t\r\n"))


def user_part(name: Name) -> Name:
    """
    Take away what proxies add to the name of their user.
    """
    while len(name) > 1 and len(name[-1]) == 1 and name[-1][0][0] == "CN" and _PROXY.match(name[-1][0][1]):
        name = name[:-1]

    return name


def format_dn(name: Name) -> str:
    """
    Write a name as RFC 4514 has it.
    """
    return ",".join("+".join(sorted(f"{kind}={_escaped(value)}" for kind, value in part)) for part in reversed(name))


def slash_dn(name: Name) -> str:
    """
    Write a name with slashes, as grid software shows it.
    """
    return "".join("/" + "+".join(f"{kind}={value}" for kind, value in part) for part in name)


def attribute(spelling: str) -> str:
    """
    Return the one spelling of an attribute.

    Raises:
        ValueError: It is none.
    """
    if not _TYPE.match(spelling):
        msg = f"{spelling!r} is no attribute of a distinguished name"
        raise ValueError(msg)
    plain = spelling.lower()
    plain = plain.removeprefix("oid.")

    return _SPELLINGS.get(plain, plain)


def _slash_parts(text: str) -> Iterator[Part]:
    begin, *parts = _SLASH.split(text)
    if begin or not parts:
        msg = "it names no attribute that is known"
        raise ValueError(msg)
    for part in parts:
        pairs = (pair.partition("=") for pair in _PLUS.split(part))
        yield _part([(attribute(kind), _unhexed(value)) for kind, _, value in pairs])


def _unhexed(value: str) -> str:
    """
    Read the escapes of OpenSSL: a backslash, an x and two digits.
    """
    return _HEX_RUN.sub(lambda m: bytes.fromhex(m[0].replace("\\x", "")).decode(errors="surrogateescape"), value)


_HEX_RUN = re.compile(r"(?:\\x[0-9A-Fa-f]{2})+")


def _comma_parts(text: str) -> Name:
    """
    Read RFC 4514, and RFC 2253 and 1779, which allow more.
    """
    parts: list[Part] = []
    pairs: list[tuple[str, str]] = []
    loose = False
    rest = text
    while True:
        kind, equals, rest = rest.partition("=")
        if not equals:
            msg = "an attribute has no value"
            raise ValueError(msg)
        value, separator, rest = _value(rest.lstrip(" "))
        loose = loose or kind != kind.strip(" ")
        pairs.append((attribute(kind.strip(" ")), value))
        if separator != "+":
            parts.append(_part(pairs))
            pairs = []
        if not separator:
            break
    general_first = loose and parts[0][0][0] in _GENERAL and parts[-1][0][0] not in _GENERAL

    return tuple(parts if general_first else reversed(parts))


#: Attributes that a user's name begins with at its general end.
_GENERAL = ("C", "DC", "O")


def _value(text: str) -> tuple[str, str, str]:
    """
    Read one value.

    Returns:
        The value, what separates it from the next or "", and the rest.
    """
    if text.startswith('"'):
        return _quoted(text)
    found = bytearray()
    # Blanks at the end count only where they are escaped.
    solid = 0
    at = 0
    while at < len(text) and text[at] not in ",;+":
        if text[at] == "\\":
            piece, at = _escape(text, at)
            found += piece
            solid = len(found)
            continue
        found += text[at].encode(errors="surrogateescape")
        solid = solid if text[at] == " " else len(found)
        at += 1

    return found[:solid].decode(errors="surrogateescape"), text[at : at + 1], text[at + 1 :]


def _quoted(text: str) -> tuple[str, str, str]:
    found = bytearray()
    at = 1
    while at < len(text) and text[at] != '"':
        piece, at = _escape(text, at) if text[at] == "\\" else (text[at].encode(errors="surrogateescape"), at + 1)
        found += piece
    rest = text[at + 1 :].lstrip(" ")
    if at >= len(text) or (rest and rest[0] not in ",;+"):
        msg = "a quoted value has no end"
        raise ValueError(msg)

    return found.decode(errors="surrogateescape"), rest[:1], rest[1:]


def _escape(text: str, at: int) -> tuple[bytes, int]:
    two = text[at + 1 : at + 3]
    if re.fullmatch(r"[0-9A-Fa-f]{2}", two):
        return bytes.fromhex(two), at + 3
    if not two:
        msg = "it ends with a backslash"
        raise ValueError(msg)

    return two[0].encode(errors="surrogateescape"), at + 2


def _part(pairs: Sequence[tuple[str, str]]) -> Part:
    return tuple(sorted(pairs))


def _escaped(value: str) -> str:
    text = "".join(_escaped_character(c) for c in value)
    if text[:1] in ("#", " "):
        text = f"\\{text}"
    if len(value) > 1 and value.endswith(" "):
        text = f"{text[:-1]}\\ "

    return text


def _escaped_character(character: str) -> str:
    if character in _SPECIAL:
        return f"\\{character}"
    if character.isprintable():
        return character

    return "".join(f"\\{byte:02X}" for byte in character.encode(errors="surrogateescape"))
