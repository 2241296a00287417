"""
What site and experiment allow.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Optional, Union

from wlcg_isolate.policy.model import Policy
from wlcg_isolate.policy.places import any_file

if TYPE_CHECKING:
    from wlcg_isolate.policy.files import Source

__all__ = ["Policy", "load_policy"]


def load_policy(
    site: Optional[Source] = None,
    experiment: Optional[Union[Source, Sequence[Source]]] = None,
    *,
    operator: Iterable[str] = (),
) -> Policy:
    """
    Return the policy that holds on this node.

    Args:
        site: The site's file; drop-ins in ``NAME.d/*.toml`` beside it are
            read as well.  None for the file that ``WLCG_ISOLATE_SITE``
            names, or else ``/etc/wlcg_isolate/site.toml`` where there is
            one; an empty variable means none.

        experiment: Name of a shipped profile, or a file; of several, the
            first is the experiment's profile and the others are its files for
            this site.  None for what ``WLCG_ISOLATE_EXPERIMENT`` names,
            separated by ``:``.  With the name of a profile,
            ``experiments/NAME.toml`` beside the site's file is read as well.

        operator: ``KEY=VALUE`` words that come after all files; the value is
            TOML, or else text.

    Raises:
        PolicyError: With every problem of every file: unreadable, writable by
            others, not TOML, unknown key, wrong value, a key in a layer that
            may not set it, a lock that was not kept.
    """
    words = tuple(operator)
    if site is None and experiment is None and not words and not any_file(os.environ):
        return Policy()
    from wlcg_isolate.policy.files import find, read
    from wlcg_isolate.policy.merge import merge

    return merge(read(find(site, experiment, os.environ), words))
