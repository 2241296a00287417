"""
Requests from plain types and from JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

import cattrs
from cattrs.errors import ForbiddenExtraKeysError

from wlcg_isolate.errors import IsolateError, Problem, RequestError
from wlcg_isolate.request import Request


def request_from_dict(data: Mapping[str, Any]) -> Request:
    """
    Make a request from plain types, as JSON has them.

    Args:
        data: The fields of `Request` by name; ``payload`` is
            ``{"command": [...]}``, ``identity`` and each of ``binds`` are
            objects with the fields of `Identity` and `Bind`.

    Raises:
        RequestError: With every problem, unknown keys included.
    """
    try:
        request: Request = _converter().structure(data, Request)
    except IsolateError as e:
        raise RequestError(e.problems) from None
    except cattrs.BaseValidationError as e:
        raise RequestError(_problems_of(e, "request")) from None

    return request


def read_request_json(path: str) -> dict[str, Any]:
    """
    Read a request file; ``-`` is standard input.

    Raises:
        RequestError: It cannot be read, or is no JSON object.
    """
    try:
        if path == "-":
            data = json.loads(sys.stdin.buffer.read())
        else:
            with open(path, "rb") as f:
                data = json.loads(f.read())
    except OSError as e:
        raise _unreadable(path, e.strerror or str(e)) from e
    except (ValueError, RecursionError) as e:
        raise _unreadable(path, f"it is not JSON: {e}") from e
    if not isinstance(data, dict):
        raise _unreadable(path, "it is not a JSON object")

    return data


def _unreadable(path: str, reason: str) -> RequestError:
    return RequestError(
        [
            Problem(
                kind="request-invalid",
                message=f"request {path!r} cannot be read: {reason}",
                origin="--request",
                advice="give a file that holds one JSON object",
            )
        ]
    )


def _converter() -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    for kind, also in ((str, ()), (bool, ()), (float, (int,))):
        # cattrs would turn a number into text and any text into True.
        converter.register_structure_hook(kind, _strict(kind, also))

    return converter


def _strict(kind: type[Any], also: tuple[type[Any], ...]) -> Any:
    def check(value: Any, _: Any) -> Any:
        if type(value) is kind or type(value) in also:
            return value
        msg = f"must be {_NAMES[kind]}, not {type(value).__name__}"
        raise TypeError(msg)

    return check


_NAMES = {str: "text", bool: "true or false", float: "a number"}


def _problems_of(error: BaseException, where: str) -> list[Problem]:
    """
    Flatten cattrs' tree of errors into problems, each with its path.
    """
    if isinstance(error, IsolateError):
        return list(error.problems)
    if isinstance(error, ForbiddenExtraKeysError):
        return [_problem(f"has no field {key!r}", where) for key in sorted(error.extra_fields)]
    if isinstance(error, cattrs.BaseValidationError):
        found: list[Problem] = []
        for inner in error.exceptions:
            found += _problems_of(inner, where + _step(inner))
        return found
    if isinstance(error, KeyError):
        return [_problem(f"lacks the field {error.args[0]!r}", where)]

    return [_problem(str(error), where)]


def _step(error: BaseException) -> str:
    """
    Read from cattrs' note which field or item an error belongs to.
    """
    for note in getattr(error, "__notes__", ()):
        name = getattr(note, "name", None)
        if name is not None:
            return f".{name}"
        index = getattr(note, "index", None)
        if index is not None:
            return f"[{index}]"

    return ""


def _problem(message: str, where: str) -> Problem:
    return Problem(kind="request-invalid", message=f"{where} {message}", origin=where, advice="correct the request")
