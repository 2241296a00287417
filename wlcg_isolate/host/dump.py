"""
Facts in plain types, out and in: a node's dump is a plan's input elsewhere.

Rules:

1. A dump holds nothing that is secret or names a person: of the environment
   only the values that are known to be harmless, of the user no name.
2. Reading one back is strict: a dump of another version, or one that somebody
   wrote by hand and got wrong, is a problem with a name, not a wrong plan.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from typing import Any, Union, get_args, get_origin, get_type_hints

import attrs

from wlcg_isolate.errors import HostError, Problem
from wlcg_isolate.host.facts import HostFacts

#: Changes when older readers would misunderstand a dump.
FORMAT = 1

#: What stands for a person's name and number, and for a server.
_SOMEBODY = "somebody"
_NUMBER = "1000"
_SERVER = re.compile(r"^[^/\s]+:/")

#: The value of any variable but these may be a secret.  They are harmless
#: because their names say what they hold, or because batch systems and
#: pilots set them to numbers and host names.
_HARMLESS = re.compile(
    r"(?:PATH|LANG|LC_\w+|TERM|TZ|SHELL|container|KUBERNETES_SERVICE_HOST|CVMFS_MOUNT_DIR|CONDOR_DIR"
    r"|(?:SLURM|PBS|LSB|OAR|SGE)_\w*(?:JOB_?ID|CPUS\w*|NODENAME))\Z"
)
_HIDDEN = "(removed)"

_MAX_BYTES = 1 << 24


def to_plain(value: Any) -> Any:
    """
    Turn facts into plain types, as JSON has them.
    """
    if attrs.has(type(value)):
        return {field.name: to_plain(getattr(value, field.name)) for field in attrs.fields(type(value))}
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [to_plain(item) for item in value]

    return value


def dump(facts: HostFacts) -> dict[str, Any]:
    """
    Return facts in plain types, without secrets and identities.

    Names of the user, the node and file servers are replaced wherever they
    stand, also in paths.
    """
    kept = {name: value if _HARMLESS.match(name) else _HIDDEN for name, value in facts.environ.items()}
    data: dict[str, Any] = to_plain(attrs.evolve(facts, environ=kept, hostname="node"))
    names = {facts.hostname: "node", facts.hostname.partition(".")[0]: "node"}
    if facts.uid != 0:
        names.update({str(facts.uid): _NUMBER, str(facts.gid): _NUMBER})
        data.update(uid=int(_NUMBER), gid=int(_NUMBER))
    if data["node"] is not None:
        _hide_in_node(data["node"], names if facts.uid != 0 else {})

    return {"format": FORMAT, **_without(data, {name: word for name, word in names.items() if len(name) > 2})}


def _hide_in_node(node: dict[str, Any], names: dict[str, str]) -> None:
    if node["user_name"]:
        names[node["user_name"]] = _SOMEBODY
        node["user_name"] = _SOMEBODY
    if node["batch"] and node["batch"]["job_id"]:
        node["batch"]["job_id"] = _HIDDEN
    for mount in node["mounts"]:
        mount["source"] = _SERVER.sub("server:/", mount["source"])


def load(data: Any, origin: str = "facts") -> HostFacts:
    """
    Make facts from a dump.

    Args:
        data: What `dump` returned, or the same after a way through JSON.

        origin: Where it comes from, for problems.

    Raises:
        HostError: It is not such a dump.
    """
    if not isinstance(data, Mapping) or data.get("format") != FORMAT:
        raise _refused(f"is no dump of facts in format {FORMAT}", origin)
    try:
        facts = _structured({k: v for k, v in data.items() if k != "format"}, HostFacts, "facts")
    except (TypeError, ValueError) as e:
        raise _refused(str(e), origin) from None
    if not isinstance(facts, HostFacts):
        raise _refused("is no dump of facts", origin)

    return facts


def read(path: Union[str, os.PathLike[str]]) -> HostFacts:
    """
    Read a dump from a file: what ``wlcg-isolate doctor --json`` printed, or
    its part ``facts``.

    Raises:
        HostError: It cannot be read, or is no such dump.
    """
    try:
        with open(path, encoding="utf-8") as f:
            data = json.loads(f.read(_MAX_BYTES))
    except OSError as e:
        raise _refused(e.strerror or str(e), str(path)) from e
    except (ValueError, RecursionError) as e:
        raise _refused(f"is not JSON: {e}", str(path)) from e
    if isinstance(data, Mapping) and isinstance(data.get("facts"), Mapping):
        data = data["facts"]

    return load(data, str(path))


def _without(value: Any, names: Mapping[str, str]) -> Any:
    """
    Replace names wherever they stand as a word of their own.
    """
    if not names:
        return value
    pattern = re.compile("|".join(rf"(?<![\w-]){re.escape(name)}(?![\w-])" for name in names))

    def replaced(item: Any) -> Any:
        if isinstance(item, str):
            return pattern.sub(lambda match: names[match.group()], item)
        if isinstance(item, dict):
            return {replaced(key): replaced(inner) for key, inner in item.items()}
        return [replaced(inner) for inner in item] if isinstance(item, list) else item

    return replaced(value)


def _structured(value: Any, wanted: Any, where: str) -> Any:
    """
    Make a value of type *wanted* from plain types, and nothing else.

    The facts use few types; that of cattrs which would do more costs an
    import that a cached plan must not pay.
    """
    origin, inner = get_origin(wanted), get_args(wanted)
    if origin is Union:
        others = [kind for kind in inner if kind is not type(None)]
        return None if value is None and len(others) < len(inner) else _structured(value, others[0], where)
    if attrs.has(wanted):
        return _structured_class(value, wanted, where)
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise TypeError(f"{where} must be a list")
        return tuple(_structured(item, inner[0], f"{where}[{i}]") for i, item in enumerate(value))
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(value, Mapping):
            raise TypeError(f"{where} must be an object")
        return {str(key): _structured(item, inner[1], f"{where}.{key}") for key, item in value.items()}
    accepted = (int, float) if wanted is float else (wanted,)
    if type(value) not in accepted:
        raise TypeError(f"{where} must be {wanted.__name__}, not {type(value).__name__}")

    return value


def _structured_class(value: Any, wanted: Any, where: str) -> Any:
    if not isinstance(value, Mapping):
        raise TypeError(f"{where} must be an object")
    fields = attrs.fields_dict(wanted)
    unknown = sorted(set(value) - set(fields))
    missing = sorted(name for name, field in fields.items() if field.default is attrs.NOTHING and name not in value)
    if unknown or missing:
        what = f"has no field {unknown[0]!r}" if unknown else f"lacks {missing[0]!r}"
        raise ValueError(f"{where} {what}")
    hints = get_type_hints(wanted)

    return wanted(**{name: _structured(item, hints[name], f"{where}.{name}") for name, item in value.items()})


def _refused(reason: str, origin: str) -> HostError:
    return HostError(
        [
            Problem(
                kind="facts-invalid",
                message=f"facts cannot be read: {reason}",
                origin=origin,
                advice="dump them with: wlcg-isolate doctor --json",
            )
        ]
    )
