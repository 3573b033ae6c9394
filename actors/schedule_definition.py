"""What a schedule was set up with: which workflow, when, and what to do when that is not so simple.

Two set-ups with equal definitions (and equal inputs) are the same, so the second one changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from hashlib import blake2b
from typing import Final, Literal, TypeAlias, get_args

import msgspec

from ..runtime.clock import moment
from ..runtime.codec import BAD_VALUE, ENCODER, reason
from ..runtime.durations import Duration, InvalidDuration, to_due_ms, to_seconds
from ..runtime.repeats import (
    MISSED,
    Missed,
    Repeat,
    check_cron,
    is_missed_policy,
    newest_planned,
    next_planned,
)
from .errors import InvalidSchedule
from .workflow.labels import RunLabels, check_labels, given_tags

# What happens at a planned time while a run that the schedule started before goes on:
#   allow    another one is started beside it
#   skip     none is
#   queue    the planned time waits until it ended; at most `max_queued` of them
#   cancel   it is stopped, and the new one started
Overlap: TypeAlias = Literal["allow", "skip", "queue", "cancel"]
OVERLAPS: Final[tuple[Overlap, ...]] = get_args(Overlap)

MIN_EVERY_SECONDS: Final = 1.0
MAX_NAME_BYTES: Final = 100  # it is a tag of its runs, and begins their ids
MAX_MISSED: Final = 1_000  # each is a run started in one commit
MAX_QUEUED: Final = 1_000  # kept in the schedule's own record

# Tags that a schedule gives its runs.
SCHEDULE_TAG: Final = "schedule"
PLANNED_TAG: Final = "scheduled_at"


class Timing(msgspec.Struct, array_like=True, frozen=True):
    """When: once (`at_ms`), or repeated between `start_ms` and `end_ms`; times are ms since 1970."""

    at_ms: int | None = None
    repeat: Repeat | None = None
    start_ms: int | None = None
    end_ms: int | None = None
    max_fires: int | None = None
    jitter_ms: int = 0

    def anchor(self, now_ms: int) -> int:
        """One of the planned times of an interval that is set up now."""
        return now_ms if self.start_ms is None else self.start_ms

    def first(self, anchor_ms: int, now_ms: int) -> int | None:
        """The first planned time of a schedule that is set up now; a single time counts though it passed."""
        if self.at_ms is not None:
            return self.at_ms
        after_ms = now_ms if self.start_ms is None else max(self.start_ms, now_ms) - 1
        return self.following(anchor_ms, after_ms)

    def following(self, anchor_ms: int, after_ms: int) -> int | None:
        """The first planned time behind `after_ms`; None when none comes any more."""
        if self.repeat is None:
            return self.at_ms if self.at_ms is not None and self.at_ms > after_ms else None
        if self.start_ms is not None:
            after_ms = max(after_ms, self.start_ms - 1)
        found = next_planned(self.repeat, anchor_ms, after_ms)
        return None if found is None or self._is_behind_end(found) else found

    def newest(self, anchor_ms: int, until_ms: int, since_ms: int) -> int | None:
        """The last planned time that isn't behind `until_ms`; None when none came from `since_ms` on."""
        if self.repeat is None:
            return self.at_ms if self.at_ms is not None and since_ms <= self.at_ms <= until_ms else None
        if self.start_ms is not None:
            since_ms = max(since_ms, self.start_ms)
        if self.end_ms is not None:
            until_ms = min(until_ms, self.end_ms)
        return newest_planned(self.repeat, anchor_ms, until_ms, since_ms) if since_ms <= until_ms else None

    def due_ms(self, name: str, planned_ms: int) -> int:
        """When the run of a planned time is to start: later where there is jitter, and always the same."""
        if not self.jitter_ms:
            return planned_ms
        digest = blake2b(f"{name} {planned_ms}".encode(), digest_size=8).digest()
        return planned_ms + int.from_bytes(digest, "big") % (self.jitter_ms + 1)

    def _is_behind_end(self, planned_ms: int) -> bool:
        return self.end_ms is not None and planned_ms > self.end_ms


class Definition(msgspec.Struct, array_like=True, frozen=True):
    """What a schedule was set up with, but for its input."""

    workflow: str = ""
    timing: Timing = Timing()
    missed: Missed = "one"
    max_missed: int = 100
    overlap: Overlap = "allow"
    max_queued: int = 1
    ref: tuple[str, str] | None = None
    tenant: str | None = None
    tags: dict[str, str] = {}


def make_definition(
    name: str,
    workflow: str,
    *,
    cron: str | None,
    every: Duration | None,
    at: datetime | None,
    tz: str | None,
    start: datetime | None,
    end: datetime | None,
    max_fires: int | None,
    jitter: Duration,
    missed: Missed,
    max_missed: int,
    overlap: Overlap,
    max_queued: int,
    ref: tuple[str, str] | None,
    tenant: str | None,
    tags: Mapping[str, str] | None,
) -> Definition:
    """See `Runtime.schedule`; raises `InvalidSchedule`, `InvalidCron` or `InvalidDuration`."""
    check_name(name)
    where = f"schedule {name!r}"
    given = [word for word, value in (("cron", cron), ("every", every), ("at", at)) if value is not None]
    if len(given) != 1:
        raise InvalidSchedule(
            f"{where}: give one of cron, every and at; got {' and '.join(given) or 'none of them'}"
        )
    if cron is None and tz is not None:
        raise InvalidSchedule(f"{where}: tz={tz!r} is the time zone of cron, which wasn't given")
    if at is not None and (start, end, max_fires) != (None, None, None):
        raise InvalidSchedule(f"{where}: start, end and max_fires are for schedules that repeat, not for at")
    if not is_missed_policy(missed):
        raise InvalidSchedule(f"{where}: missed must be one of {', '.join(MISSED)}; got {missed!r}")
    if overlap not in OVERLAPS:
        raise InvalidSchedule(f"{where}: overlap must be one of {', '.join(OVERLAPS)}; got {overlap!r}")
    _check_count(where, "max_missed", max_missed, MAX_MISSED)
    _check_count(where, "max_queued", max_queued, MAX_QUEUED)
    if max_fires is not None:
        _check_count(where, "max_fires", max_fires, None)
    repeat: Repeat | None = None
    if cron is not None:
        repeat = check_cron(cron, tz or "UTC")
    elif every is not None:
        seconds = to_seconds(every, what=f"{where}: every")
        if seconds < MIN_EVERY_SECONDS:
            raise InvalidSchedule(
                f"{where}: every must be at least {MIN_EVERY_SECONDS:g} s; got {every!r} (an actor's alarm "
                f"may repeat faster)"
            )
        repeat = round(seconds * 1000)
    timing = Timing(
        moment_ms(where, "at", at),
        repeat,
        moment_ms(where, "start", start),
        moment_ms(where, "end", end),
        max_fires,
        round(to_seconds(jitter, what=f"{where}: jitter") * 1000),
    )
    if isinstance(repeat, int) and timing.jitter_ms >= repeat:
        raise InvalidSchedule(f"{where}: jitter must be less than every; got {jitter!r} and {every!r}")
    if timing.start_ms is not None and timing.end_ms is not None and timing.start_ms > timing.end_ms:
        raise InvalidSchedule(f"{where}: start lies behind end; got {start} and {end}")
    own_tags = given_tags(tags)
    for tag in (SCHEDULE_TAG, PLANNED_TAG):
        if tag in own_tags:
            raise InvalidSchedule(f"{where}: the tag {tag!r} is one that each run gets from its schedule")
    labels = RunLabels(ref, tenant, {**own_tags, SCHEDULE_TAG: name, PLANNED_TAG: "a time"})
    made = Definition(
        workflow, timing, missed, max_missed, overlap, max_queued, ref, tenant, dict(tags or {})
    )
    try:
        found = msgspec.msgpack.decode(ENCODER.encode(made), type=Definition)
        check_labels(labels)
    except BAD_VALUE as error:
        raise InvalidSchedule(
            f"{where}: the labels of a run are texts: ref (two), tenant, tags; {reason(error)}"
        ) from error
    return found


def check_name(name: object) -> str:
    """Itself; raises `InvalidSchedule` when it can't begin the id of a run."""
    if (
        not isinstance(name, str)
        or not name.isprintable()
        or " " in name
        or not 1 <= len(name.encode(errors="replace")) <= MAX_NAME_BYTES
    ):
        raise InvalidSchedule(
            f"the name of a schedule is a text of 1 to {MAX_NAME_BYTES} bytes, of printable characters "
            f"without blanks; got {name!r:.200}"
        )
    return name


def moment_ms(where: str, what: str, given: datetime | None) -> int | None:
    """A datetime with a zone as milliseconds since 1970; raises `InvalidSchedule`."""
    if given is None:
        return None
    if not isinstance(given, datetime):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidSchedule(f"{where}: {what} must be a datetime with a time zone; got {given!r}")
    try:
        return to_due_ms(given, 0, what=what)
    except InvalidDuration as error:
        raise InvalidSchedule(f"{where}: {error}") from error


def _check_count(where: str, what: str, given: object, most: int | None) -> None:
    if type(given) is not int or given < 1 or (most is not None and given > most):
        room = "at least 1" if most is None else f"from 1 to {most}"
        raise InvalidSchedule(f"{where}: {what} must be {room}; got {given!r}")


def planned_text(planned_ms: int) -> str:
    """A planned time as it stands in ids and tags: ISO 8601, in UTC."""
    text = moment(planned_ms).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{text}.{planned_ms % 1000:03}Z" if planned_ms % 1000 else f"{text}Z"
