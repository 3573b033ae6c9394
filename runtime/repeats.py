"""How something repeats: at an interval of real time, or as a cron expression says in a time zone.

Plain data in the record of an alarm or a schedule; times are milliseconds since 1970.  What was planned
follows from the data alone, so it is the same after a restart, and whatever the wall clock did meanwhile.

Cron is imported when somebody uses it: most programs don't, and `import holdfast` should be quick.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, cast

# What becomes of times that passed while nobody could keep them:
#   one    the newest of them is made up
#   all    each of them is, in order
#   skip   none is that is later than LATE_MS
Missed: TypeAlias = Literal["one", "all", "skip"]
MISSED: Final[tuple[Missed, ...]] = ("one", "all", "skip")
# More than any stall of a healthy process.
LATE_MS: Final = 60_000

# An interval in milliseconds; or a cron expression and the name of a time zone.
Repeat: TypeAlias = int | tuple[str, str]


def check_cron(expression: str, tz: str) -> tuple[str, str]:
    """The two as a `Repeat`; raises `InvalidCron`."""
    from .cron import parse_cron
    from .zones import zone

    parse_cron(expression)
    zone(tz)
    return expression, tz


def next_planned(repeat: Repeat, anchor_ms: int, after_ms: int) -> int | None:
    """The first planned time behind `after_ms`; None when none comes any more.

    `anchor_ms` is one of the planned times of an interval; cron needs none.  Raises `InvalidCron` when the
    zone isn't known (any more).
    """
    if isinstance(repeat, int):
        return anchor_ms + ((after_ms - anchor_ms) // repeat + 1) * repeat
    from .cron import parse_cron
    from .cron_times import next_time
    from .zones import zone

    found = next_time(parse_cron(repeat[0]), after_ms // 1000, zone(repeat[1]))
    return None if found is None else found * 1000


def newest_planned(repeat: Repeat, anchor_ms: int, until_ms: int, since_ms: int) -> int | None:
    """The last planned time that isn't behind `until_ms`; None when none came from `since_ms` on."""
    if isinstance(repeat, int):
        found: int | None = anchor_ms + (until_ms - anchor_ms) // repeat * repeat
    else:
        from .cron import parse_cron
        from .cron_times import newest_time
        from .zones import zone

        seconds = newest_time(parse_cron(repeat[0]), until_ms // 1000, -(since_ms // -1000), zone(repeat[1]))
        found = None if seconds is None else seconds * 1000
    return found if found is not None and found >= since_ms else None


def is_missed_policy(given: object) -> bool:
    """Whether it is one of the three words."""
    return given in cast("tuple[object, ...]", MISSED)
