"""
The keys of policy, their defaults, and where a value came from.

Every key is a field of `Policy`; its dotted name is the field's with the
first underscore read as a dot (``image_names`` is ``image.names``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Callable, Optional

import attrs

from wlcg_isolate._values import (
    IDENTIFIER,
    SYSTEM_DIRECTORIES,
    as_mapping,
    as_tuple,
    normal_path,
    path_fault,
    seconds_fault,
    text_fault,
)
from wlcg_isolate.errors import PolicyError, Problem
from wlcg_isolate.request import Bind

#: Directories that hold a runtime though PATH of a batch job may not name
#: them.
_USUAL_PLACES = (
    "apptainer",
    "singularity",
    "/usr/bin/apptainer",
    "/usr/local/bin/apptainer",
    "/usr/bin/singularity",
    "/usr/local/bin/singularity",
)

#: Host variables that mean the same in every image and name no path: the
#: terminal, the time zone, who runs, and the proxies without which nothing
#: on a worker node reaches the network (Apptainer's own --cleanenv keeps
#: TERM and the proxies, too).
_BASE_KEEP = (
    "TERM",
    "TZ",
    "USER",
    "LOGNAME",
    *(
        spelled
        for name in ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy", "all_proxy")
        for spelled in (name, name.upper())
    ),
)


@attrs.frozen(kw_only=True)
class Policy:
    """
    What holds on this node for this experiment.

    Attributes:
        image_names: Image reference or platform to path of the image.

        runtime_search: Programs to try, in order; a name without a slash is
            looked up in PATH.

        runtime_probe_seconds: Deadline for asking a runtime its version.

        runtime_start_seconds: Deadline from the start of the runtime to the
            payload's first instruction.

        host_touch_seconds: Deadline for one look at a path, which may lie on
            a network file system that hangs.

        environment_keep: Host variables that pass.

        bind_default: Binds that every payload gets.

        container_workdir: Where the working directory is in the container.

        payload_grace_seconds: Time between TERM and KILL.

        trace_directories: Where records go when nothing else is asked for;
            the first that the payload cannot see and that can be written.
            ``{state}`` stands for the XDG state directory of the user and
            ``{uid}`` for the user's number.

    Raises:
        PolicyError: With every problem of every value.
    """

    image_names: Mapping[str, str] = attrs.field(factory=dict, converter=as_mapping)
    runtime_search: tuple[str, ...] = attrs.field(default=_USUAL_PLACES, converter=as_tuple)
    runtime_probe_seconds: float = 20.0
    runtime_start_seconds: float = 300.0
    host_touch_seconds: float = 20.0
    environment_keep: tuple[str, ...] = attrs.field(default=_BASE_KEEP, converter=as_tuple)
    bind_default: tuple[Bind, ...] = attrs.field(
        default=(Bind(source="/cvmfs", required=False, origin="built-in"),),
        converter=as_tuple,
    )
    container_workdir: str = "/srv"
    payload_grace_seconds: float = 10.0
    trace_directories: tuple[str, ...] = attrs.field(
        default=("{state}/wlcg_isolate/trace", "/var/tmp/wlcg_isolate.{uid}/trace"),
        converter=as_tuple,
    )

    def __attrs_post_init__(self) -> None:
        problems = [
            Problem(
                kind="policy-invalid",
                message=f"{key_of(field)} {fault}",
                origin="policy",
                advice="correct the policy",
            )
            for field, fault in self._faults()
        ]
        if problems:
            raise PolicyError(problems)

    def _faults(self) -> Iterator[tuple[str, str]]:
        for field in attrs.fields(Policy):
            value = getattr(self, field.name)
            check = _seconds_faults if field.name.endswith("_seconds") else _CHECKS[field.name]
            yield from ((field.name, fault) for fault in check(value))


def _seconds_faults(value: Any) -> Iterator[str]:
    fault = seconds_fault(value)
    if fault:
        yield fault


def _text_faults(value: Any) -> Iterator[str]:
    if not isinstance(value, tuple):
        yield "must be a list of text"
    else:
        yield from (fault for fault in map(text_fault, value) if fault)


def _map_faults(value: Any) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield "must map names to paths"
        return
    for name, path in value.items():
        fault = text_fault(name) or path_fault(path)
        if fault:
            yield f"{name!r}: {fault}"


def _name_faults(value: Any) -> Iterator[str]:
    if not isinstance(value, tuple):
        yield "must be a list of names"
        return
    for name in value:
        if not isinstance(name, str) or not IDENTIFIER.match(name):
            yield f"holds {name!r}, which is no name of a variable"


def _bind_faults(value: Any) -> Iterator[str]:
    if not isinstance(value, tuple) or not all(isinstance(bind, Bind) for bind in value):
        yield "must be a list of Bind"


def _workdir_faults(value: Any) -> Iterator[str]:
    fault = path_fault(value)
    if fault or value != normal_path(value) or value.count("/") != 1 or value == "/":
        yield fault or "must be a directory right below /"
    elif value in SYSTEM_DIRECTORIES:
        yield "must not be a directory of the image's system"


def _directory_faults(value: Any) -> Iterator[str]:
    faults = tuple(_text_faults(value))
    yield from faults
    for place in () if faults else value:
        if not re.match(r"(/|\{state\})([^{}]|\{uid\})*\Z", place):
            yield f"holds {place!r}, which is no absolute path with {{state}} at its begin or {{uid}}"


_CHECKS: Mapping[str, Callable[[Any], Iterator[str]]] = {
    "image_names": _map_faults,
    "runtime_search": _text_faults,
    "environment_keep": _name_faults,
    "bind_default": _bind_faults,
    "container_workdir": _workdir_faults,
    "trace_directories": _directory_faults,
}


def key_of(field: str) -> str:
    """
    Return the dotted key of a field's name.
    """
    return field.replace("_", ".", 1)


@attrs.frozen(kw_only=True)
class Explained:
    """
    Where one value of policy came from.

    Attributes:
        key: Dotted name.

        value: The value in plain types, ready for JSON.

        layer: Name of the layer that set it.

        file: File that set it, or None.

        overrode: What it replaced, lowest layer first.
    """

    key: str
    value: Any
    layer: str
    file: Optional[str] = None
    overrode: tuple[Any, ...] = ()


def explain(policy: Policy) -> list[Explained]:
    """
    List every key of *policy* with its value and origin.
    """
    return [
        Explained(
            key=key_of(field.name),
            value=_plain(getattr(policy, field.name)),
            layer="built-in",
        )
        for field in attrs.fields(Policy)
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Bind):
        return attrs.asdict(value)

    return value
