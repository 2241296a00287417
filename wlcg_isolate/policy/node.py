"""
What a node already says of containers, read once as the site's input.

Sites are told to set variables of the runtime and to edit its configuration
file.  The runtime itself is kept from the variables, since any of them acts
as an option; so what they say is taken in here, with its origin.

Rules:

1. Everything that is found gets a `NodeInput`: taken for a key, or left out
   with the reason.
2. It is the weakest voice of the site: what a site's file says comes after the
   configuration, and before the variables, which anybody may have set.
3. A bind that a node asks for never refuses a payload: it is left out where
   its source is missing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

import attrs

from wlcg_isolate._values import path_fault
from wlcg_isolate.errors import RequestError
from wlcg_isolate.policy.layers import Layer
from wlcg_isolate.request import Bind

#: Apptainer reads both spellings, the first one first; SingularityCE only
#: the second (runtime/launcher sources of Apptainer 1.4 and SingularityCE 4).
_PREFIXES = ("APPTAINER", "SINGULARITY")

#: A comma or colon that no backslash protects (Apptainer 1.4, bind.go).
_COMMA = re.compile(r"(?<!\\),")
_COLON = re.compile(r"(?<!\\):")

_LAYERS = ("overlay", "underlay")

#: Bound by the runtime itself in every container, also with --contain.
_OF_THE_RUNTIME = ("/etc/localtime", "/etc/hosts")


@attrs.frozen(kw_only=True)
class NodeInput:
    """
    One thing that the node says.

    Attributes:
        source: Where it was read: the environment, or a file.

        name: Name of the variable or directive.

        said: What it says.

        key: Policy key that it became, or "".

        reason: What became of it, in words.
    """

    source: str
    name: str
    said: str
    key: str
    reason: str

    @property
    def left_out(self) -> bool:
        """
        Whether it should have become something, and did not.
        """
        return self.reason.startswith(_LEFT_OUT)

    def __str__(self) -> str:
        """
        Tell it in one line.
        """
        return f"{self.name} = {self.said} in {self.source} {self.reason}"


_LEFT_OUT = "left out: "


class _Directive(NamedTuple):
    """
    One directive of the runtime's configuration file.

    Attributes:
        name: Its name there.

        key: Key that it becomes, or "".

        reason: Why, or why not.
    """

    name: str
    key: str
    reason: str


#: Documented in each runtime's own configuration file.
_DIRECTIVES = (
    _Directive("bind path", "bind.default", "the runtime drops it with --contain, so it is bound here"),
    _Directive("allow setuid", "runtime.allow_setuid", "decides over set-uid mode"),
    _Directive("user bind control", "runtime.user_binds", "without it the runtime ignores every bind"),
    _Directive("enable overlay", "runtime.layers", "creates missing targets"),
    _Directive("enable underlay", "runtime.layers", "creates missing targets"),
    _Directive("mount home", "", "not needed: a payload never sees the user's home directory"),
    _Directive("mount tmp", "", "not needed: a payload has directories of its own"),
    _Directive("mount hostfs", "", "not followed: --contain keeps the host's file systems out"),
)


#: What a `NodeInput` of a variable names as its source.
ENVIRONMENT = "the environment"


def node_layers(
    environ: Mapping[str, str], config: Mapping[str, tuple[str, ...]], config_file: Optional[str]
) -> tuple[tuple[Layer, ...], tuple[NodeInput, ...]]:
    """
    Read what the node says.

    Args:
        environ: The host's environment.

        config: The runtime's configuration, directive to values.

        config_file: Where that was read from.

    Returns:
        Layers of the site, weakest first, and what became of everything.
    """
    inputs: list[NodeInput] = []
    file = config_file or "the runtime's configuration"
    layers = [Layer(name="site", file=file, values=_config_values(config, file, inputs))]
    for name in ("BIND", "BINDPATH", "CACHEDIR", "TMPDIR"):
        variable = _first_of(name, environ, inputs)
        if variable is not None:
            values = _variable_values(variable, environ[variable], inputs)
            layers.append(Layer(name="site", file=f"variable {variable}", values=values, trusted=False))

    return tuple(layer for layer in layers if layer.values), tuple(inputs)


def _first_of(name: str, environ: Mapping[str, str], inputs: list[NodeInput]) -> Optional[str]:
    """
    Return the spelling of a variable that counts.
    """
    found = [f"{prefix}_{name}" for prefix in _PREFIXES if environ.get(f"{prefix}_{name}")]
    for variable in found[1:]:
        if environ[variable] != environ[found[0]]:
            reason = f"{found[0]} says something else, and comes first"
            inputs.append(_left_out(ENVIRONMENT, variable, environ[variable], reason))

    return found[0] if found else None


def _variable_values(variable: str, said: str, inputs: list[NodeInput]) -> dict[str, Any]:
    if variable.endswith(("_BIND", "_BINDPATH")):
        binds = _binds(ENVIRONMENT, variable, said, inputs)
        return {"bind.default": binds} if binds else {}
    fault = path_fault(said)
    if fault:
        inputs.append(_left_out(ENVIRONMENT, variable, said, f"it {fault}"))
        return {}
    key = "runtime.cachedir" if variable.endswith("_CACHEDIR") else "runtime.tmpdir"
    inputs.append(NodeInput(source=ENVIRONMENT, name=variable, said=said, key=key, reason="handed to the runtime"))

    return {key: said}


def _config_values(config: Mapping[str, tuple[str, ...]], file: str, inputs: list[NodeInput]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    binds: tuple[Bind, ...] = ()
    for name, key, reason in _DIRECTIVES:
        for said in config.get(name, ()):
            if key == "bind.default":
                binds += _admin_binds(file, name, said, inputs)
                continue
            inputs.append(NodeInput(source=file, name=name, said=said, key=key, reason=reason))
            # Several layers are one key; any other word than "no" means some way of "yes".
            if key and said == "no":
                values[key] = False
    off = {layer for layer in _LAYERS if config.get(f"enable {layer}", ("yes",))[-1] == "no"}
    if off:
        values["runtime.layers"] = tuple(layer for layer in _LAYERS if layer not in off)
    if binds:
        values["bind.default"] = binds

    return values


def _admin_binds(file: str, name: str, said: str, inputs: list[NodeInput]) -> tuple[Bind, ...]:
    if said.partition(":")[0] in _OF_THE_RUNTIME:
        inputs.append(
            NodeInput(source=file, name=name, said=said, key="", reason="not needed: the runtime binds it in any case")
        )
        return ()

    return _binds(file, name, said, inputs)


def _binds(origin: str, name: str, said: str, inputs: list[NodeInput]) -> tuple[Bind, ...]:
    """
    Read binds as the runtime does: ``SRC[:DST[:OPTIONS]]``, by commas.
    """
    found = []
    for spec in _join_options(_COMMA.split(said)):
        if not spec:
            continue
        bind, fault = _bind(spec)
        if bind is None:
            inputs.append(_left_out(origin, name, spec, fault))
            continue
        found.append(bind)
        inputs.append(
            NodeInput(source=origin, name=name, said=spec, key="bind.default", reason="bound where it is present")
        )

    return tuple(found)


def _join_options(words: list[str]) -> list[str]:
    """
    Put ``ro`` back to the bind before it: ``/a:/b:rw,ro`` is one bind.
    """
    joined: list[str] = []
    for word in words:
        if word in ("ro", "rw") and joined and len(_COLON.split(joined[-1])) == 3:
            joined[-1] += f",{word}"
        else:
            joined.append(word)

    return joined


def _bind(spec: str) -> tuple[Optional[Bind], str]:
    """
    Read one bind.

    Returns:
        The bind, or None and why not.
    """
    source, *rest = (part.replace("\\:", ":").replace("\\,", ",") for part in _COLON.split(spec))
    options = rest[1].split(",") if len(rest) > 1 else []
    odd = [option for option in options if option not in ("ro", "rw")]
    if len(rest) > 2 or odd:
        return None, f"{(odd or rest)[-1]!r} is no option that is known here"
    if not source.startswith("/"):
        return None, "its source is no absolute path"
    try:
        return Bind(
            source=source,
            target=rest[0] if rest and rest[0] else source,
            writable="ro" not in options,
            required=False,
            origin="site",
        ), ""
    except RequestError as e:
        return None, e.problems[0].message


def _left_out(source: str, name: str, said: str, reason: str) -> NodeInput:
    return NodeInput(source=source, name=name, said=said, key="", reason=f"{_LEFT_OUT}{reason}")
