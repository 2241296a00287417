"""
The keys of policy that are about trace records.
"""

from __future__ import annotations

from typing import Optional

import attrs

from wlcg_isolate._values import as_tuple
from wlcg_isolate.policy import checks
from wlcg_isolate.policy.isolation_keys import IsolationKeys
from wlcg_isolate.policy.rules import SITE_MATTER, SITE_ONLY, choice


# Only `Policy` is made; methods made for this class would cost time at every import.
@attrs.frozen(kw_only=True, init=False, repr=False, eq=False)
class TraceKeys(IsolationKeys):
    """
    What is recorded, and where.

    Attributes:
        trace_directories: Where records go when nothing else is asked for;
            the first that the payload cannot see and that can be written.
            ``{state}`` stands for the XDG state directory of the user and
            ``{uid}`` for the user's number.

        trace_identity_mode: How users are recorded: ``clear``, ``hashed``
            (a keyed hash, by which the owner of the key finds them), or
            ``sealed`` (to a public key, whose owner alone can read them; with
            a hash too where there is a key for it).

        trace_identity_key_file: File of the secret key for hashes, at least
            32 bytes, which nobody but this user and root may change and
            nobody but they and a group may read.

        trace_identity_seal_file: File of the X25519 public key in PEM.

        trace_identity_ca_directory: Certificates of the authorities that a
            user's proxy is verified with; needs the extra ``crypto``.

        trace_record_arguments: Whether the payload's arguments are recorded,
            with what looks like a credential taken out.  Otherwise their
            number and digest are.

        trace_site: The site's name in all records; what the pilot calls it
            where nothing is set.

        trace_running_seconds: Time between two records that a payload still
            runs; none: no such records.
    """

    trace_directories: tuple[str, ...] = attrs.field(
        default=("{state}/wlcg_isolate/trace", "/var/tmp/wlcg_isolate.{uid}/trace"),
        converter=as_tuple,
        metadata=choice(checks.directories, layers=SITE_MATTER),
    )
    trace_identity_mode: str = attrs.field(default="clear", metadata=choice(checks.identity_mode, layers=SITE_ONLY))
    trace_identity_key_file: Optional[str] = attrs.field(
        default=None, metadata=choice(checks.path_or_none, layers=SITE_ONLY)
    )
    trace_identity_seal_file: Optional[str] = attrs.field(
        default=None, metadata=choice(checks.path_or_none, layers=SITE_ONLY)
    )
    trace_identity_ca_directory: Optional[str] = attrs.field(
        default=None, metadata=choice(checks.path_or_none, layers=SITE_ONLY)
    )
    trace_record_arguments: bool = attrs.field(default=False, metadata=choice(checks.truth, layers=SITE_ONLY))
    trace_site: Optional[str] = attrs.field(default=None, metadata=choice(checks.text_or_none, layers=SITE_ONLY))
    trace_running_seconds: Optional[float] = attrs.field(
        default=None, metadata=choice(checks.seconds_or_none, layers=SITE_MATTER)
    )
