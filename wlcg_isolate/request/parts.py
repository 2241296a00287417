"""
The parts of a request.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Optional

import attrs

from wlcg_isolate._values import IDENTIFIER, as_path_text, as_tuple, normal_path, path_fault, text_fault
from wlcg_isolate.errors import Problem, RequestError


def _as_target(value: Any) -> Any:
    value = as_path_text(value)

    if not isinstance(value, str) or not value.startswith("/") or ".." in value.split("/"):
        return value

    return normal_path(value)


def refuse(faults: Iterator[tuple[str, str]], where: str) -> None:
    """
    Raise one error for all *faults*, pairs of field and complaint.
    """
    problems = [
        Problem(
            kind="request-invalid",
            message=f"{field} {fault}",
            origin=where,
            advice="correct the request",
        )
        for field, fault in faults
    ]
    if problems:
        raise RequestError(problems)


@attrs.frozen(kw_only=True)
class Payload:
    """
    What is to run in the container.

    Attributes:
        command: Program and arguments; the program is looked up inside the
            image.  Bytes that are not UTF-8 are held as `os.fsdecode` gives
            them.

    Raises:
        RequestError: The command is empty or holds what is no text.
    """

    command: tuple[str, ...] = attrs.field(converter=as_tuple)

    def __attrs_post_init__(self) -> None:
        refuse(self._faults(), "payload")

    def _faults(self) -> Iterator[tuple[str, str]]:
        if not isinstance(self.command, tuple):
            yield "command", "must be a list of words, not one text"
        elif not self.command:
            yield "command", "must name a program"
        else:
            for i, word in enumerate(self.command):
                fault = text_fault(word, empty=i > 0)
                if fault:
                    yield f"command[{i}]", fault


#: Where a pilot may know a user from.
SOURCES = ("x509-proxy", "token", "wms-asserted")


@attrs.frozen(kw_only=True)
class Identity:
    """
    On whose behalf the payload runs, as far as the pilot knows.

    Attributes:
        vo: Experiment (virtual organisation).

        job_id: The experiment's id of this payload.

        user_dn: Distinguished name of the user's certificate, any notation.

        user_sub: Subject of the user's token.

        user_iss: Issuer of that token; a subject means nothing without it.

        pilot_id: The experiment's id of this pilot.

        user_proxy: File of the user's own proxy, which tells who it is.  It
            is read for the record; the payload gets it by *credentials*.

        user_token: File of the user's own token, the same way.

        source: Where the pilot knows the user from: ``x509-proxy``,
            ``token`` or ``wms-asserted``; not needed with a file.

        verified: Whether the pilot has verified that itself.

    Raises:
        RequestError: A value is empty, or only one of *user_sub* and
            *user_iss* is given (WLCG token profile 1.3: a subject is unique
            within its issuer only), or the source is none.
    """

    vo: Optional[str] = None
    job_id: Optional[str] = None
    user_dn: Optional[str] = None
    user_sub: Optional[str] = None
    user_iss: Optional[str] = None
    pilot_id: Optional[str] = None
    user_proxy: Optional[str] = attrs.field(default=None, converter=as_path_text)
    user_token: Optional[str] = attrs.field(default=None, converter=as_path_text)
    source: Optional[str] = None
    verified: bool = False

    def __attrs_post_init__(self) -> None:
        refuse(self._faults(), "identity")

    def _faults(self) -> Iterator[tuple[str, str]]:
        for field, value in attrs.asdict(self).items():
            fault = None if value is None or field == "verified" else text_fault(value)
            if field in ("user_proxy", "user_token") and value is not None:
                fault = path_fault(value)
            if fault:
                yield field, fault
        if self.source not in (None, *SOURCES):
            yield "source", f"must be one of {', '.join(SOURCES)}"
        if not isinstance(self.verified, bool):
            yield "verified", "must be true or false"
        if (self.user_sub is None) != (self.user_iss is None):
            yield "user_sub and user_iss", "must be given together"


@attrs.frozen(kw_only=True)
class Bind:
    """
    A host path shown inside the container.

    Attributes:
        source: Path on the host; a relative one is taken from the working
            directory.

        target: Absolute path in the container; the source's when not given.

        writable: Whether the payload may write.  Off unless asked for.

        required: Whether a missing source refuses the payload; otherwise the
            bind is left out, visibly.

        origin: Who wanted it; copied to plan and record.

        name: A name by which a later layer of policy can take it out; the
            target when not given.

    Raises:
        RequestError: A path is empty, holds a NUL byte, or is relative where
            it must not be.
    """

    source: str = attrs.field(converter=as_path_text)
    target: str = attrs.field(converter=_as_target)
    writable: bool = False
    required: bool = True
    origin: str = "request"
    name: Optional[str] = None

    @target.default
    def _target_from_source(self) -> str:
        return self.source

    def __attrs_post_init__(self) -> None:
        refuse(self._faults(), f"bind {self.source!r}")

    def _faults(self) -> Iterator[tuple[str, str]]:
        for field, fault in (
            ("source", path_fault(self.source, absolute=False)),
            ("target", path_fault(self.target)),
            ("origin", text_fault(self.origin)),
            ("name", None if self.name is None else text_fault(self.name)),
        ):
            if fault:
                yield field, fault
        if isinstance(self.target, str) and ".." in self.target.split("/"):
            yield "target", "must not hold '..'"
        for field in ("writable", "required"):
            if not isinstance(getattr(self, field), bool):
                yield field, "must be true or false"


@attrs.frozen(kw_only=True)
class Credential:
    """
    A credential of the payload itself, of which it gets a private copy.

    Attributes:
        variable: Variable that names it: ``X509_USER_PROXY``,
            ``BEARER_TOKEN_FILE``, ``BEARER_TOKEN``, ``KRB5CCNAME`` or another.

        source: File that holds it; the one that the host's variable names
            when not given.

    Raises:
        RequestError: The variable has no valid name, or the path is none.
    """

    variable: str
    source: Optional[str] = attrs.field(default=None, converter=as_path_text)

    def __attrs_post_init__(self) -> None:
        refuse(self._faults(), "credential")

    def _faults(self) -> Iterator[tuple[str, str]]:
        if not isinstance(self.variable, str) or not IDENTIFIER.match(self.variable):
            yield "variable", f"is {self.variable!r}, which is no name of a variable"
        fault = None if self.source is None else path_fault(self.source)
        if fault:
            yield "source", fault
