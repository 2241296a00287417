"""
Values from plain types, as JSON and TOML have them, and requests from JSON.
"""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Mapping
from typing import Any

import attrs
import cattrs
from cattrs.errors import ForbiddenExtraKeysError

from wlcg_isolate.errors import IsolateError, Problem, RequestError
from wlcg_isolate.request import Bind, Credential, Identity, Payload, Request


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
    if not isinstance(data, Mapping):
        raise RequestError([_problem(f" must be an object, not {type(data).__name__}", "request")])
    converter = strict_converter()
    try:
        request: Request = converter.structure(data, Request)
    except IsolateError as e:
        raise RequestError(e.problems) from None
    except cattrs.BaseValidationError as e:
        problems = _problems_of(e, "request")
        raise RequestError([*problems, *_other_problems(converter, data, problems)]) from None

    return request


def _other_problems(converter: cattrs.Converter, data: Mapping[str, Any], known: list[Problem]) -> list[Problem]:
    """
    Check the fields that have the right shape while others have not.
    """
    bad = {re.split(r"[.\[]", problem.origin, maxsplit=2)[1] for problem in known if problem.origin != "request"}
    names = {field.name for field in attrs.fields(Request)} - bad
    rest = {name: value for name, value in data.items() if name in names}
    try:
        converter.structure({"payload": {"command": ["-"]}, **rest}, Request)
    except IsolateError as e:
        return list(e.problems)
    except cattrs.BaseValidationError:
        pass

    return []


def read_request_json(path: str, option: str = "--request") -> dict[str, Any]:
    """
    Read a request file, or another one; ``-`` is standard input.

    Args:
        path: The file.

        option: By what it was named.

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
        raise _unreadable(path, e.strerror or str(e), option) from e
    except (ValueError, RecursionError) as e:
        raise _unreadable(path, f"it is not JSON: {e}", option) from e
    if not isinstance(data, dict):
        raise _unreadable(path, "it is not a JSON object", option)

    return data


def _unreadable(path: str, reason: str, option: str) -> RequestError:
    return RequestError(
        [
            Problem(
                kind="request-invalid",
                message=f"{option.lstrip('-')} {path!r} cannot be read: {reason}",
                origin=option,
                advice="give a file that holds one JSON object",
            )
        ]
    )


@functools.lru_cache(maxsize=1)
def strict_converter() -> cattrs.Converter:
    """
    Return cattrs as it is used here: nothing is taken for something else.
    """
    converter = cattrs.Converter(forbid_extra_keys=True)
    for kind, also in ((str, ()), (bool, ()), (int, ()), (float, (int,))):
        # cattrs would turn a number into text and any text into True.
        converter.register_structure_hook(kind, _strict(kind, also))
    for shape, accepted, name in (
        # It also takes any iterable for a list: a text would become its letters.
        (tuple[str, ...], (list, tuple), "a list"),
        (tuple[Bind, ...], (list, tuple), "a list"),
        (tuple[Credential, ...], (list, tuple), "a list"),
        (Mapping[str, str], (Mapping,), "an object"),
        (Mapping[str, float], (Mapping,), "an object"),
        (Mapping[str, Any], (Mapping,), "an object"),
        (Payload, (Mapping,), "an object"),
        (Identity, (Mapping,), "an object"),
        (Bind, (Mapping,), "an object"),
        (Credential, (Mapping,), "an object"),
    ):
        accept_only(converter, shape, accepted, name)

    return converter


def accept_only(converter: cattrs.Converter, shape: Any, accepted: tuple[type, ...], name: str) -> None:
    """
    Look at the type of a value before cattrs takes it apart.
    """
    inner = converter.get_structure_hook(shape, cache_result=False)

    def check(value: Any, _: Any) -> Any:
        if not isinstance(value, accepted):
            msg = f"must be {name}, not {type(value).__name__}"
            raise TypeError(msg)
        return inner(value, shape)

    converter.register_structure_hook_func(lambda wanted: wanted == shape, check)


def _strict(kind: type[Any], also: tuple[type[Any], ...]) -> Any:
    def check(value: Any, _: Any) -> Any:
        if type(value) is kind or type(value) in also:
            return value
        msg = f"must be {_NAMES[kind]}, not {type(value).__name__}"
        raise TypeError(msg)

    return check


_NAMES = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}


def faults_of(error: BaseException, where: str) -> list[tuple[str, str]]:
    """
    Flatten cattrs' tree of errors.

    Returns:
        Pairs of the path of a value and what is wrong with it.
    """
    if isinstance(error, IsolateError):
        return [(where, f": {problem.message}") for problem in error.problems]
    if isinstance(error, ForbiddenExtraKeysError):
        return [(where, f" has no field {key!r}") for key in sorted(error.extra_fields, key=str)]
    if isinstance(error, cattrs.BaseValidationError):
        found: list[tuple[str, str]] = []
        for inner in error.exceptions:
            found += faults_of(inner, where + _step(inner))
        return found
    if isinstance(error, KeyError):
        return [(where, " is missing")]

    return [(where, f" {error}")]


def _problems_of(error: BaseException, where: str) -> list[Problem]:
    return [_problem(fault, path) for path, fault in faults_of(error, where)]


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


def _problem(fault: str, where: str) -> Problem:
    return Problem(kind="request-invalid", message=f"{where}{fault}", origin=where, advice="correct the request")
