"""
What the pilot asks for.

Rules:

1. A `Request` that exists is valid in itself: every field was checked, and a
   bad one raises one `RequestError` with all problems.
2. Nothing here touches the machine.  Whether a path exists is for `host`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Optional

import attrs

from wlcg_isolate._values import (
    as_frozen,
    as_mapping,
    as_path_text,
    as_tuple,
    is_checksum,
    name_fault,
    path_fault,
    seconds_fault,
    text_fault,
)
from wlcg_isolate.request.parts import Bind, Credential, Identity, Payload, refuse

__all__ = ["Bind", "Credential", "Identity", "Payload", "Request"]


@attrs.frozen(kw_only=True)
class Request:
    """
    Everything that a pilot asks for one payload.

    Attributes:
        payload: What to run.

        image: Image reference: an absolute path to a tree, or a name that
            policy maps to one.

        platform: Platform name, looked up in policy when no image is named.

        workdir: The payload's working directory on the host, shown at
            ``/srv``; None is the current directory of the pilot.

        binds: Additional binds, in order of preference.

        env: Variables for the payload.  Values never show in a repr.

        keep_env: Names of host variables that the payload needs.

        credentials: The payload's own credentials.

        timeout: Time limit in seconds of wall time, or None.

        identity: On whose behalf.

        runtime: Path of the runtime to use instead of a search.

        trace_dir: Directory for trace records, or None for the default.

        settings: Policy that this payload asks for: dotted key to value in
            plain types.  The site's limits and locks hold.

        image_digest: Checksum that the image file must have: ``sha256:`` and
            64 hexadecimal digits; or None.

    Raises:
        RequestError: With every problem of every field.
    """

    payload: Payload
    image: Optional[str] = attrs.field(default=None, converter=as_path_text)
    platform: Optional[str] = None
    workdir: Optional[str] = attrs.field(default=None, converter=as_path_text)
    binds: tuple[Bind, ...] = attrs.field(default=(), converter=as_tuple)
    env: Mapping[str, str] = attrs.field(factory=dict, converter=as_mapping, repr=False)
    keep_env: tuple[str, ...] = attrs.field(default=(), converter=as_tuple)
    credentials: tuple[Credential, ...] = attrs.field(default=(), converter=as_tuple)
    timeout: Optional[float] = None
    identity: Identity = attrs.field(factory=Identity)
    runtime: Optional[str] = attrs.field(default=None, converter=as_path_text)
    trace_dir: Optional[str] = attrs.field(default=None, converter=as_path_text)
    settings: Mapping[str, Any] = attrs.field(factory=dict, converter=as_frozen)
    image_digest: Optional[str] = None

    def __attrs_post_init__(self) -> None:
        refuse(self._faults(), "request")

    def to_dict(self) -> dict[str, Any]:
        """
        Give the request in plain types, as ``--request`` reads it; what is
        not set is left out.

        It holds the values of the payload's variables.
        """
        data: dict[str, Any] = attrs.asdict(
            self,
            filter=lambda _field, value: value not in (None, (), {}),
            value_serializer=lambda _instance, _field, value: _plain(value),
        )

        return data

    def _faults(self) -> Iterator[tuple[str, str]]:
        for field, kind in (("payload", Payload), ("identity", Identity)):
            if not isinstance(getattr(self, field), kind):
                yield field, f"must be of type {kind.__name__}"
        for field in ("image", "platform"):
            value = getattr(self, field)
            fault = None if value is None else text_fault(value)
            if fault:
                yield field, fault
        for field in ("workdir", "runtime", "trace_dir"):
            value = getattr(self, field)
            fault = None if value is None else path_fault(value)
            if fault:
                yield field, fault
        yield from self._list_faults()
        yield from self._env_faults()
        if not isinstance(self.settings, Mapping) or not all(isinstance(key, str) for key in self.settings):
            yield "settings", "must map keys of policy to values"
        if self.image_digest is not None and not is_checksum(self.image_digest):
            yield "image_digest", "must be sha256: and 64 hexadecimal digits"
        fault = None if self.timeout is None else seconds_fault(self.timeout)
        if fault:
            yield "timeout", fault

    def _list_faults(self) -> Iterator[tuple[str, str]]:
        if not isinstance(self.binds, tuple) or not all(isinstance(b, Bind) for b in self.binds):
            yield "binds", "must be a list of Bind"
        if not isinstance(self.credentials, tuple) or not all(isinstance(c, Credential) for c in self.credentials):
            yield "credentials", "must be a list of Credential"
        elif len({credential.variable for credential in self.credentials}) < len(self.credentials):
            yield "credentials", "must name each variable once"
        if not isinstance(self.keep_env, tuple):
            yield "keep_env", "must be a list of names"
        else:
            for name in self.keep_env:
                if name_fault(name):
                    yield "keep_env", f"holds {name!r}, which is no name of a variable"

    def _env_faults(self) -> Iterator[tuple[str, str]]:
        if not isinstance(self.env, Mapping):
            yield "env", "must map names to values"
            return
        for name, value in self.env.items():
            if name_fault(name):
                yield "env", f"holds {name!r}, which is no name of a variable"
                continue
            fault = text_fault(value, empty=True)
            if fault:
                yield f"env[{name}]", fault


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}

    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value
