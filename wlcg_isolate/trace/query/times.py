"""
Moments, as microseconds since 1970 in UTC.

Rule: a time without a zone is refused.  Whose midnight was meant is what an
investigation must not guess.
"""

from __future__ import annotations

import datetime
import re
from typing import Optional

#: What records say: UTC, up to microseconds (RFC 3339).
RECORDED = re.compile(r"(?:19|20|21)\d\d-\d\d-\d\dT[0-2]\d:[0-5]\d:[0-5]\d(?:\.\d{1,6})?Z\Z", re.ASCII)

_GIVEN = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:[Zz]|[+-]\d\d:\d\d)\Z", re.ASCII)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)

#: Microseconds of a second and of a day.
SECOND = 1_000_000
DAY = 86_400 * SECOND


def recorded(text: object) -> Optional[int]:
    """
    Read the time of a record, or None when it is none.
    """
    if not isinstance(text, str) or not RECORDED.match(text):
        return None
    whole, _, fraction = text[:-1].partition(".")
    try:
        moment = datetime.datetime.strptime(whole + "+0000", "%Y-%m-%dT%H:%M:%S%z")
    except ValueError:
        return None

    return _microseconds(moment) + int(fraction.ljust(6, "0") or 0)


def given(text: str) -> int:
    """
    Read a time that somebody gave, in RFC 3339.

    Raises:
        ValueError: It is none, or names no zone.
    """
    if not _GIVEN.match(text):
        msg = "must be a time with its zone, such as 2026-11-25T14:30:00Z or 2026-11-25T15:30:00+01:00"
        raise ValueError(msg)
    whole, fraction, zone = re.fullmatch(r"(.{16}(?::\d\d)?)(?:\.(\d+))?(.*)", text).groups()  # type: ignore[union-attr]
    whole = whole.replace(" ", "T").replace("t", "T") + (":00" if len(whole) == 16 else "")
    moment = datetime.datetime.strptime(
        whole + zone.upper().replace("Z", "+0000").replace(":", ""), "%Y-%m-%dT%H:%M:%S%z"
    )

    return _microseconds(moment) + int((fraction or "0")[:6].ljust(6, "0"))


def _microseconds(moment: datetime.datetime) -> int:
    return (moment - _EPOCH) // datetime.timedelta(microseconds=1)


def shown(moment: int) -> str:
    """
    Write a moment as records do.
    """
    return (_EPOCH + datetime.timedelta(microseconds=moment)).isoformat(timespec="microseconds")[:26] + "Z"


def day(moment: int) -> str:
    """
    Name the day of a moment in UTC.
    """
    return shown(moment)[:10]
