"""
Layers from plain types, as TOML and JSON have them.

Rules:

1. What is wrong in one value hides nothing else that is wrong.
2. A key that nobody knows is a mistake, not something to pass over.
"""

from __future__ import annotations

import functools
import reprlib
import typing
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Optional, Union

import cattrs

from wlcg_isolate.errors import Problem
from wlcg_isolate.policy.layers import Layer
from wlcg_isolate.policy.model import FIELDS, RULES, Policy
from wlcg_isolate.structure import accept_only, faults_of, strict_converter

#: Version of the format; each file names the one that it is written in.
FORMAT = 1

#: What a lock makes of a conflict.
SEVERITIES = ("error", "warning")

#: Tables of a file beside the sections of keys.
_SPECIAL = ("version", "lock", "remove")

_SECTIONS = frozenset(key.partition(".")[0] for key in RULES)

_OneImage = Union[str, Mapping[str, str]]


def layer_from_dict(data: Mapping[str, Any], name: str, file: str) -> tuple[Layer, list[Problem]]:
    """
    Make a layer from the contents of a policy file.

    Args:
        data: The file's tables.

        name: Which layer it is.

        file: Its path, for messages.

    Returns:
        The layer with everything that is good, and a problem for each thing
        that is not.
    """
    found = _Found(name, file)
    version = data.get("version")
    if type(version) is not int or version != FORMAT:
        said = "is missing" if version is None else f"is {_shown(version)}"
        found.add("version", f" {said}, and must be {FORMAT}", f"begin the file with version = {FORMAT}")
    for section, table in data.items():
        if section in _SPECIAL:
            continue
        if section not in _SECTIONS or not isinstance(table, Mapping):
            found.add(section, _no_table(section))
            continue
        for key, value in table.items():
            found.take(f"{section}.{key}", value)
    locks = found.take_locks(data.get("lock", {}))
    remove = found.take_removals(data.get("remove", {}))

    return Layer(name=name, file=file, values=found.values, locks=locks, remove=remove), found.problems


def layer_from_keys(data: Mapping[str, Any], name: str, file: Optional[str]) -> tuple[Layer, list[Problem]]:
    """
    Make a layer from dotted keys and plain values.

    ``remove.KEY`` takes items out of a list.
    """
    found = _Found(name, file or name)
    removals = {key[len("remove.") :]: value for key, value in data.items() if key.startswith("remove.")}
    for key, value in data.items():
        if not key.startswith("remove."):
            found.take(key, value)
    remove = found.take_removals(removals)

    return Layer(name=name, file=file, values=found.values, remove=remove), found.problems


class _Found:
    """
    What was found in one source.
    """

    def __init__(self, layer: str, source: str) -> None:
        self._layer = layer
        self._source = source
        self.values: dict[str, Any] = {}
        self.problems: list[Problem] = []

    def add(self, path: str, fault: str, advice: str = "correct the policy") -> None:
        """
        Note a problem.
        """
        self.problems.append(
            Problem(kind="policy-invalid", message=f"{path}{fault}", origin=self._source, advice=advice)
        )

    def take(self, key: str, value: Any) -> None:
        """
        Take one value, if it is good.
        """
        if not self._may_set(key):
            return
        for i, item in enumerate(value if key == "bind.default" and isinstance(value, (list, tuple)) else ()):
            if isinstance(item, Mapping) and "origin" in item:
                # It says who wanted a bind, which is for the library to say.
                self.add(f"{key}[{i}]", " has no field 'origin'")
                return
        try:
            typed = converter().structure(value, types()[FIELDS[key]])
        except (cattrs.BaseValidationError, ValueError, TypeError) as e:
            for path, fault in faults_of(e, key):
                self.add(path, fault)
            return
        faults = list(RULES[key].check(typed))
        for fault in faults:
            self.add(key, f" {fault}")
        if not faults:
            self.values[key] = typed

    def _may_set(self, key: str) -> bool:
        rule = RULES.get(key)
        if rule is None:
            self.add(key, f" is no key of policy{nearest(key, RULES)}")
        elif self._layer not in rule.layers:
            able = ", ".join(sorted(rule.layers - {"built-in"}))
            self.add(key, f" cannot be set by the layer {self._layer}", f"set it in one of: {able}")
        else:
            return True

        return False

    def take_locks(self, table: Any) -> dict[str, str]:
        """
        Take the table of locks.
        """
        if not isinstance(table, Mapping):
            self.add("lock", " must be a table of keys")
            return {}
        if table and self._layer != "site":
            self.add("lock", f" cannot be set by the layer {self._layer}", "only a site can lock a key")
            return {}
        good: dict[str, str] = {}
        for key, severity in flatten(table):
            if key in good:
                self.add(f"lock.{key}", " is given twice")
            elif key not in RULES:
                self.add(f"lock.{key}", f" is no key of policy{nearest(key, RULES)}")
            elif severity not in SEVERITIES:
                self.add(f"lock.{key}", f" must be one of {', '.join(SEVERITIES)}, not {_shown(severity)}")
            else:
                good[key] = severity

        return good

    def take_removals(self, table: Any) -> dict[str, tuple[str, ...]]:
        """
        Take the table of items to take out of lists.
        """
        if not isinstance(table, Mapping):
            self.add("remove", " must be a table of keys")
            return {}
        good: dict[str, tuple[str, ...]] = {}
        lists = [key for key, rule in RULES.items() if rule.kind == "list"]
        for key, names in flatten(table):
            if key in good:
                self.add(f"remove.{key}", " is given twice")
            elif key not in lists:
                self.add(f"remove.{key}", f" is no list of policy{nearest(key, lists)}")
            elif not isinstance(names, (list, tuple)) or not all(isinstance(name, str) for name in names):
                self.add(f"remove.{key}", " must be a list of names")
            else:
                good[key] = tuple(names)

        return good


def flatten(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """
    Take ``"image.names" = 1`` and ``image.names = 1`` for the same.
    """
    for key, value in table.items():
        if isinstance(value, Mapping) and "." not in key:
            yield from ((f"{key}.{name}", inner) for name, inner in value.items())
        else:
            yield key, value


@functools.lru_cache(maxsize=1)
def types() -> dict[str, Any]:
    """
    Return the type of each field of `Policy`.
    """
    return typing.get_type_hints(Policy)


@functools.lru_cache(maxsize=1)
def converter() -> cattrs.Converter:
    """
    Return the strict converter, which here also knows images.
    """
    made = strict_converter().copy()
    made.register_structure_hook_func(lambda wanted: wanted == _OneImage, _one_image)
    for shape in (Mapping[str, _OneImage], Mapping[str, tuple[str, ...]]):
        accept_only(made, shape, (Mapping,), "an object")

    return made


def _one_image(value: Any, _: Any) -> Any:
    if isinstance(value, str):
        return value
    if not isinstance(value, Mapping):
        msg = f"must be a path or a table of one path for each architecture, not {type(value).__name__}"
        raise TypeError(msg)

    return strict_converter().structure(value, dict[str, str])


def nearest(word: str, known: Iterable[str]) -> str:
    """
    Name the known word that somebody may have meant.
    """
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1)

    return f"; did you mean {close[0]}?" if close else ""


def _shown(value: Any) -> str:
    try:
        return reprlib.repr(value)
    except ValueError:
        # Python writes no number of thousands of digits (CVE-2020-10735).
        return "too long a number"


def _no_table(section: str) -> str:
    if section in _SECTIONS:
        return " must be a table"

    return f" is no section of policy{nearest(section, [*_SECTIONS, *_SPECIAL])}"
