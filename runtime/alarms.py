"""`self.alarms`: any number of named alarms for each actor, set and cancelled in the turn's own commit.

An alarm lies on disk twice: under its actor by name, and in the order of due times, where the scheduler finds
it.  Firing is a turn (alarm_scheduler.py).
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final, Literal, TypeVar

import msgspec

from ..storage import layout
from ..storage.errors import CallerError, InvalidKey, InvalidValue
from ..storage.group_commit import Writes
from ..storage.keys import next_prefix
from .chain import after_commit
from .clock import moment
from .codec import BAD_VALUE, decode_plain, encode, reason
from .durations import Duration, to_due_ms, to_seconds
from .errors import InvalidActor, InvalidCron
from .repeats import MISSED, Missed, Repeat, check_cron, is_missed_policy, next_planned

if TYPE_CHECKING:
    from .actor_storage import Place

T = TypeVar("T")
MAX_ALARM_NAME_BYTES: Final = 100
MAX_PAYLOAD_BYTES: Final = 128 << 10


class AlarmRecord(msgspec.Struct, array_like=True, frozen=True):
    """An alarm on disk."""

    due_ms: int
    scheduled_ms: int  # when it was first due; due_ms moves with each retry
    payload: bytes | None = None
    every_ms: int | None = None
    retries: int = 0  # counted retries made so far
    uncounted: int = 0  # failures that were not the handler's
    cron: tuple[str, str] | None = None  # the expression and the name of its time zone
    missed: Literal["all", "skip"] | None = None  # None: one

    @property
    def repeat(self) -> Repeat | None:
        """How it repeats, if it does."""
        return self.cron if self.cron is not None else self.every_ms


class Alarm:
    """A due alarm, as `on_alarm` gets it, or one that is set."""

    __slots__ = ("_payload", "cron", "due_at", "every_seconds", "name", "retry_count", "scheduled_at", "tz")

    def __init__(self, name: str, record: AlarmRecord) -> None:
        self.name = name
        self.scheduled_at = moment(record.scheduled_ms)
        """When it was to fire (with a zone)."""
        self.due_at = moment(record.due_ms)
        """When this attempt was due; later than `scheduled_at` in a retry."""
        self.retry_count = record.retries
        """Retries made before this attempt: 0 the first time."""
        self.every_seconds = None if record.every_ms is None else record.every_ms / 1000
        self.cron = None if record.cron is None else record.cron[0]
        """The expression by which it repeats."""
        self.tz = None if record.cron is None else record.cron[1]
        """The time zone of the expression."""
        self._payload = record.payload

    def payload(self, type: type[T] | None = None) -> T | object:  # the word msgspec uses for it
        """The payload it was set with, as `type` when given.

        None without one.  Raises `InvalidValue` when it is no `type`.
        """
        if self._payload is None:
            return None
        try:
            return (
                decode_plain(self._payload)
                if type is None
                else msgspec.msgpack.decode(self._payload, type=type)
            )
        except BAD_VALUE as error:
            raise InvalidValue(f"the payload of alarm {self.name!r} is no {type}: {reason(error)}") from error

    def __repr__(self) -> str:
        return f"<Alarm {self.name!r} due {self.due_at.isoformat()}, retry {self.retry_count}>"


class Alarms:
    """One actor's alarms."""

    __slots__ = ("_place",)

    def __init__(self, place: Place) -> None:
        self._place = place

    def set(
        self,
        when: Duration | datetime | None = None,
        name: str = "",
        *,
        payload: object = None,
        every: Duration | None = None,
        cron: str | None = None,
        tz: str | None = None,
        missed: Missed = "one",
    ) -> None:
        """Set (or move) the alarm `name`.

        when     a datetime with a zone, or so long from now; a time that passed means now
        every    repeats it at that interval, counted from `when`
        cron     repeats it when the expression comes, from `when` on if that is given (see cron.py, and
                 cron_times.py for days on which clocks are set)
        tz       the time zone of `cron` by its IANA name; UTC by default
        missed   what becomes of fires that passed while the process was down: one is made up ("one"), each of
                 them ("all"), or none that is more than a minute late ("skip")

        Raises `InvalidDuration`, `InvalidCron`, `InvalidKey`, `InvalidValue` or `CallerError`.
        """
        place = self._place
        if not place.type.has_on_alarm:
            raise InvalidActor(
                f"{place.type.name} has no on_alarm, so {place.ref} can't set an alarm; write one"
            )
        now_ms = place.system.clock.now_ms()
        every_ms = None if every is None else _interval_ms(place, every)
        stored_cron = None if cron is None else check_cron(cron, tz or "UTC")
        _check_repeating(place, every, cron, tz, missed)
        if when is not None:
            due_ms = to_due_ms(when, now_ms, what="the time of an alarm")
        elif cron is not None:
            due_ms = now_ms + 1  # the present moment isn't one of the next
        else:
            raise CallerError(f"{place.ref}: an alarm needs a time: give `when` or `cron`")
        if stored_cron is not None:
            first_ms = next_planned(stored_cron, 0, due_ms - 1)
            if first_ms is None:
                raise InvalidCron(f"{place.ref}: cron {cron!r} doesn't come from {when} on")
            due_ms = first_ms
        encoded = None if payload is None else encode(payload, f"{place.ref}: the payload of alarm {name!r}")
        if encoded is not None and len(encoded) > MAX_PAYLOAD_BYTES:
            raise InvalidValue(
                f"{place.ref}: the payload of alarm {name!r} takes {len(encoded)} bytes, at most "
                f"{MAX_PAYLOAD_BYTES}"
            )
        name_bytes = alarm_name_bytes(name)
        turn = place.current_turn()
        kept = None if missed == "one" else missed
        self._write(name_bytes, AlarmRecord(due_ms, due_ms, encoded, every_ms, 0, 0, stored_cron, kept))
        scheduler = place.system.scheduler
        after_commit(turn, lambda _: scheduler.notice(due_ms))

    def get(self, name: str = "") -> Alarm | None:
        """The alarm `name` if it is set."""
        record = read_alarm(self._place, alarm_name_bytes(name))
        return None if record is None else Alarm(name, record)

    def list(self) -> list[Alarm]:
        """All alarms that are set, by name."""
        prefix = self._place.prefix(layout.ALARM)
        rows = self._place.scan(prefix, next_prefix(prefix), False, None)
        return [Alarm(key[len(prefix) :].decode(), decode_alarm(stored)) for key, stored in rows]

    def cancel(self, name: str = "") -> bool:
        """Take the alarm back; False when it wasn't set."""
        name_bytes = alarm_name_bytes(name)
        if read_alarm(self._place, name_bytes) is None:
            return False
        self._write(name_bytes, None)
        return True

    def clear(self) -> None:
        """Take all alarms back."""
        for alarm in self.list():
            self.cancel(alarm.name)

    def _write(self, name: bytes, record: AlarmRecord | None) -> None:
        for key, value in alarm_writes(self._place, name, record).items():
            self._place.write(key, value)


def _interval_ms(place: Place, every: Duration) -> int:
    every_ms = round(to_seconds(every, what="every") * 1000)
    if every_ms < 1:
        raise CallerError(f"{place.ref}: an alarm can repeat every millisecond at most; got every={every!r}")
    return every_ms


def _check_repeating(
    place: Place, every: Duration | None, cron: str | None, tz: str | None, missed: Missed
) -> None:
    if every is not None and cron is not None:
        raise CallerError(f"{place.ref}: an alarm repeats by `every` or by `cron`; got both")
    if tz is not None and cron is None:
        raise CallerError(f"{place.ref}: tz={tz!r} is the time zone of `cron`, which wasn't given")
    if not is_missed_policy(missed):
        raise CallerError(f"{place.ref}: missed must be one of {', '.join(MISSED)}; got {missed!r}")
    if missed != "one" and every is None and cron is None:
        raise CallerError(
            f"{place.ref}: missed={missed!r} is for alarms that repeat; give `every` or `cron`, or leave it "
            "out"
        )


def alarm_name_bytes(name: str) -> bytes:
    """The name as it stands in keys; raises `InvalidKey` when it is too long or no text."""
    try:
        encoded = name.encode()
    except (UnicodeEncodeError, AttributeError) as error:
        raise InvalidKey(f"the name of an alarm must be Unicode text; got {name!r}") from error
    if len(encoded) > MAX_ALARM_NAME_BYTES:
        raise InvalidKey(
            f"the name of an alarm takes {len(encoded)} bytes; at most {MAX_ALARM_NAME_BYTES} are allowed"
        )
    return encoded


def read_alarm(place: Place, name: bytes) -> AlarmRecord | None:
    """The stored alarm of an actor."""
    stored = place.read(place.prefix(layout.ALARM) + name)
    return None if stored is None else decode_alarm(stored)


def alarm_writes(place: Place, name: bytes, record: AlarmRecord | None) -> Writes:
    """What sets the alarm `name` to `record` (None: takes it back), in place of what is set now."""
    writes: Writes = {}
    number = owner_number(place)
    old = read_alarm(place, name)
    if old is not None:
        writes[layout.due_key(old.due_ms, number, name)] = None
    if record is None:
        writes[place.prefix(layout.ALARM) + name] = None
    else:
        writes[place.prefix(layout.ALARM) + name] = _encode(record)
        writes[layout.due_key(record.due_ms, number, name)] = place.type.number_bytes + place.ref.key_bytes
    return writes


def owner_number(place: Place) -> int:
    """The number of the actor."""
    return int.from_bytes(place.owner()[1:], "big")


_encode = msgspec.msgpack.Encoder().encode
decode_alarm = msgspec.msgpack.Decoder(AlarmRecord).decode
