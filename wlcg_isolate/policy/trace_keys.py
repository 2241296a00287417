"""
The keys of policy that are about trace records.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

import attrs

from wlcg_isolate._values import as_mapping, as_tuple
from wlcg_isolate.policy import checks, trace_checks
from wlcg_isolate.policy.isolation_keys import IsolationKeys
from wlcg_isolate.policy.journal import JournalSettings
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

        trace_rotate_bytes: Size at which a file of records is closed and the
            next one begins.

        trace_checkpoint_records: Records after which the journal adds a
            checkpoint.

        trace_retention_days: Age at which ``trace purge`` removes files of
            records.  It warns below 90 and above 540.

        trace_seal_public_key: Public key (X25519, base64) to which the first
            key of each file is sealed, so that only the owner of the private
            one can check what the records were sealed with.  Needs the extra
            ``[crypto]``; without it files are not sealed, and say so.

        trace_on_write_error: What becomes of a payload whose records cannot be
            written: ``refuse`` does not start it, ``continue`` starts it and
            warns in its outcome.  The same goes for a receiver that cannot be
            used.  Where ``trace.required`` names any, it is ``refuse``.

        trace_receivers: Where records go besides, as soon as they are on
            disk: a name and an address for each, such as
            ``syslog+tls://host:6514``.

        trace_required: Receivers that must have the record of a payload's
            start before its first instruction.  A pilot that starts payloads
            itself (``Plan.supervised``, ``Plan.shell``) cannot, then.

        trace_deliver_seconds: How long a payload waits for them.

        trace_flush_seconds: How long ``wlcg-isolate run`` waits at its end
            for receivers to take the last records.
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
    trace_rotate_bytes: int = attrs.field(
        default=JournalSettings().rotate_bytes, metadata=choice(trace_checks.file_size, layers=SITE_MATTER)
    )
    trace_checkpoint_records: int = attrs.field(
        default=JournalSettings().checkpoint_records, metadata=choice(trace_checks.count, layers=SITE_MATTER)
    )
    trace_retention_days: int = attrs.field(default=180, metadata=choice(trace_checks.count, layers=SITE_ONLY))
    trace_seal_public_key: Optional[str] = attrs.field(
        default=None, metadata=choice(trace_checks.public_key_or_none, layers=SITE_ONLY)
    )
    trace_on_write_error: str = attrs.field(
        default="refuse", metadata=choice(trace_checks.write_error, layers=SITE_ONLY)
    )
    trace_receivers: Mapping[str, str] = attrs.field(
        factory=dict, converter=as_mapping, metadata=choice(trace_checks.receivers, entries=True, layers=SITE_ONLY)
    )
    trace_required: tuple[str, ...] = attrs.field(
        default=(), converter=as_tuple, metadata=choice(checks.texts, layers=SITE_ONLY)
    )
    trace_deliver_seconds: float = attrs.field(default=5.0, metadata=choice(checks.seconds, layers=SITE_ONLY))
    trace_flush_seconds: float = attrs.field(default=2.0, metadata=choice(checks.seconds, layers=SITE_ONLY))
