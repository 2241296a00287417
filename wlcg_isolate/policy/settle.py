"""
The policy that holds for one request on one node.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from wlcg_isolate._values import normal_path
from wlcg_isolate.errors import PolicyError
from wlcg_isolate.policy.layers import Layer
from wlcg_isolate.policy.model import Policy
from wlcg_isolate.request import Request


def settle(
    policy: Policy,
    request: Request,
    environ: Mapping[str, str],
    config: Optional[Mapping[str, tuple[str, ...]]] = None,
    config_file: Optional[str] = None,
) -> Policy:
    """
    Add what the node says and what the request asks for.

    Args:
        policy: What the files say.

        request: What the pilot asks.

        environ: The host's environment.

        config: The runtime's configuration, directive to values.

        config_file: Where that was read from.

    Raises:
        PolicyError: The request sets what is no key or holds a wrong value,
            or a lock was not kept.
    """
    asked = request_layer(request)
    if not config and not asked and not any(name.startswith(("APPTAINER_", "SINGULARITY_")) for name in environ):
        return policy
    from wlcg_isolate.policy.merge import layers_of, merge
    from wlcg_isolate.policy.node import node_layers

    layers, inputs = node_layers(environ, config or {}, config_file)
    if not layers and not asked and not inputs:
        return policy

    return merge((*layers, *layers_of(policy), *asked), [str(found) for found in inputs if found.left_out])


def request_layer(request: Request) -> tuple[Layer, ...]:
    """
    Return what a request asks of policy, as a layer.

    Raises:
        PolicyError: It sets what is no key, or holds a wrong value.
    """
    fields: dict[str, Any] = {}
    if request.trace_dir is not None:
        fields["trace.directories"] = (normal_path(request.trace_dir),)
    if request.runtime is not None:
        fields["runtime.search"] = (request.runtime,)
    own = (Layer(name="request", values=fields),) if fields else ()
    if not request.settings:
        return own
    from wlcg_isolate.policy.parse import layer_from_keys

    layer, problems = layer_from_keys(request.settings, "request", "request.settings")
    if problems:
        raise PolicyError(problems)

    # A field, which is what an option of the command line sets, speaks after the settings of the file.
    return (layer, *own)
