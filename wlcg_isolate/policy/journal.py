"""
What policy says of the journal, as one value that a plan can carry.
"""

from __future__ import annotations

from typing import Any, Optional

import attrs


@attrs.frozen(kw_only=True)
class JournalSettings:
    """
    How a journal is written.

    Attributes:
        rotate_bytes: Size at which a file is closed and the next one begins.

        checkpoint_records: Records after which the journal adds a checkpoint.

        seal_public_key: X25519 key in base64 to which the first key of each
            file is sealed, or None.

        on_write_error: ``"refuse"`` or ``"continue"``: what becomes of a
            payload whose records cannot be written.
    """

    rotate_bytes: int = 64 * 1024 * 1024
    checkpoint_records: int = 128
    seal_public_key: Optional[str] = None
    on_write_error: str = "refuse"

    @classmethod
    def of(cls, policy: Any) -> JournalSettings:
        """
        Take them from a policy.
        """
        return cls(**{field.name: getattr(policy, f"trace_{field.name}") for field in attrs.fields(cls)})
