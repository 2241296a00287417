"""
Where records go: one line of text for each receiver.

``SCHEME://HOST:PORT/PATH?OPTION=VALUE&...``; the schemes and their options
are `SCHEMES`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple, Optional
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit


class Scheme(NamedTuple):
    """
    What an address of one scheme may hold.

    Attributes:
        port: The port when none is given; None when there is no host.

        path: What the path is, or "" when there is none.

        options: Names of the options, with what each is.

        meaning: One sentence for the reference.
    """

    port: Optional[int]
    path: str
    options: Mapping[str, str]
    meaning: str


_SYSLOG = {"facility": "number from 0 to 23; 10 (authpriv) when not given"}
_TLS = {
    "ca": "file of the authorities that sign the receiver's certificate; the system's when not given",
    "cert": "file of the certificate and key to show",
}
_SIZE = {"size": "most bytes of one datagram; 2048 when not given, as RFC 5424 asks of receivers"}

SCHEMES: Mapping[str, Scheme] = {
    "syslog+unix": Scheme(
        None, "socket", {**_SYSLOG, **_SIZE}, "The node's own syslog, in datagrams (RFC 5424, RFC 3164's socket)."
    ),
    "syslog+udp": Scheme(
        514, "", {**_SYSLOG, **_SIZE}, "Syslog over UDP (RFC 5426); a record that does not fit is sent as its core."
    ),
    "syslog+tcp": Scheme(601, "", _SYSLOG, "Syslog over TCP with counted octets (RFC 6587)."),
    "syslog+tls": Scheme(6514, "", {**_SYSLOG, **_TLS}, "Syslog over TLS (RFC 5425)."),
    "journald": Scheme(None, "socket", {}, "The systemd journal, by its native protocol."),
    "http": Scheme(
        80, "path", {"form": "bulk or lines", "token_file": "file of a bearer token"}, "JSON lines over HTTP."
    ),
    "https": Scheme(
        443, "path", {"form": "bulk or lines", "token_file": "file of a bearer token", **_TLS}, "JSON lines over HTTPS."
    ),
    "kafka": Scheme(
        9092, "topic", {"config": "JSON file of librdkafka's settings"}, "Apache Kafka; needs the extra kafka."
    ),
    "chirp": Scheme(
        None,
        "attribute",
        {"program": "path of condor_chirp; looked up in PATH when not given"},
        "An attribute of the HTCondor job that the pilot is: the last record's core.",
    ),
}

_DEFAULT_PATHS = {"syslog+unix": "/dev/log", "journald": "/run/systemd/journal/socket", "chirp": "/ChirpWlcgIsolate"}
_FORMS = ("bulk", "lines")


class Address(NamedTuple):
    """
    A receiver's address, read.

    Attributes:
        scheme: One of `SCHEMES`.

        host: Its host, or "".

        port: Its port, or 0.

        path: Its path, with the slash at its beginning, or "".

        options: Its options.
    """

    scheme: str
    host: str
    port: int
    path: str
    options: Mapping[str, str]

    def number(self, name: str, default: int) -> int:
        """
        Return an option that is a number.
        """
        return int(self.options.get(name, default))


def read_address(text: str) -> Address:
    """
    Read an address.

    Raises:
        ValueError: With everything that is wrong with it.
    """
    faults = list(address_faults(text))
    if faults:
        raise ValueError("; ".join(faults))
    parts = urlsplit(text)
    scheme = SCHEMES[parts.scheme]
    path = unquote(parts.path) if parts.path not in ("", "/") else _DEFAULT_PATHS.get(parts.scheme, "/")

    return Address(
        parts.scheme,
        parts.hostname or "",
        (parts.port or scheme.port or 0),
        path if scheme.path else "",
        dict(parse_qsl(parts.query, keep_blank_values=True)),
    )


def address_faults(text: object) -> Iterator[str]:
    """
    Yield what is wrong with an address.
    """
    if not isinstance(text, str) or not text.isascii() or not text.isprintable() or " " in text:
        yield "must be an address such as syslog+tls://host:6514"
        return
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as e:
        yield f"is no address: {e}"
        return
    scheme = SCHEMES.get(parts.scheme)
    if scheme is None:
        yield f"has scheme {parts.scheme!r}, which is none of {', '.join(SCHEMES)}"
        return
    if port == 0:
        yield "names port 0"
    yield from _place_faults(scheme, parts)
    yield from _option_faults(scheme, parts.scheme, parts.query)


def _place_faults(scheme: Scheme, parts: SplitResult) -> Iterator[str]:
    if parts.username is not None or parts.password is not None:
        yield "must not hold a user or a password; name a file with token_file or cert"
    if parts.fragment:
        yield "must not hold a fragment"
    if scheme.port is not None and not parts.hostname:
        yield "names no host"
    if scheme.port is None and parts.netloc:
        yield f"names a host, which {parts.scheme} has not"
    if parts.path not in ("", "/") and not scheme.path:
        yield "must not hold a path"
    if parts.scheme == "kafka" and parts.path in ("", "/"):
        yield "names no topic"


def _option_faults(scheme: Scheme, name: str, query: str) -> Iterator[str]:
    pairs = parse_qsl(query, keep_blank_values=True)
    for option, value in pairs:
        if option not in scheme.options:
            known = ", ".join(scheme.options) or "none"
            yield f"has option {option!r}; those of {name} are: {known}"
        elif option in ("size", "facility"):
            least, most = (480, 65000) if option == "size" else (0, 23)
            if not value.isdecimal() or not least <= int(value) <= most:
                yield f"{option} must be a number from {least} to {most}"
        elif option == "form" and value not in _FORMS:
            yield f"form must be one of {', '.join(_FORMS)}"
        elif option in ("ca", "cert", "token_file", "config", "program") and not value.startswith("/"):
            yield f"{option} must be an absolute path"
    for option in {option for option, _ in pairs if sum(o == option for o, _ in pairs) > 1}:
        yield f"has option {option!r} more than once"
