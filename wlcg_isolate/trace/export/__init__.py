"""
Bring trace records out of the node.

The journal is the spool: a record is on disk before anything is sent, and
what a receiver has not taken stays there for the next try, in this process
or in another.

Rules:

1. A record is sent until the receiver has taken it, for sure or as far as the
   protocol can tell; after a doubt it is sent again.  ``event.id`` tells that
   it is the same one, and receivers that can drop the second do.
2. No payload waits for a receiver longer than policy says.
3. A receiver that refuses one record does not hold up the others: the record
   stays in the journal, and the refusal is written down beside it.
4. No secret is part of an address: it is read from a file when it is used.
"""

from __future__ import annotations

from wlcg_isolate.trace.export.courier import Courier, Status
from wlcg_isolate.trace.export.dispatch import Dispatch, dispatch_for, ship
from wlcg_isolate.trace.export.receiver import Receiver, ReceiverError, Refusal, open_receiver

__all__ = [
    "Courier",
    "Dispatch",
    "Receiver",
    "ReceiverError",
    "Refusal",
    "Status",
    "dispatch_for",
    "open_receiver",
    "ship",
]
