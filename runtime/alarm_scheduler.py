"""The alarm scheduler: finds what is due on disk and fires it, each as a turn.

Nothing of it is kept in memory but the next time to look and what fires right now, so a million alarms cost
disk and no RAM.  It looks at the order of due times, wakes at the first one, and at least every second, since
the wall clock may be set.

Promises
  * An alarm fires at or after its time by the wall clock, never before; not lost and not doubled by a clock
    that jumps.
  * Its removal commits together with what the handler wrote.  If the handler raises, the turn rolls back and
    the alarm is tried again: after 2 s, doubling, up to 25 % later by chance, six times; then it is kept as a
    dead alarm.
  * Failures that are not the handler's (disk, overload) don't count, and are tried again as slowly.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from ..storage import layout
from ..storage.errors import CallerError, HoldfastError, Overloaded, StorageClosed, StorageError
from ..storage.group_commit import Writes
from ..storage.keys import decode_key, decode_number, encode_number, next_prefix
from .actor import Actor, activation_of
from .address import ActorKey
from .alarms import Alarm, AlarmRecord, alarm_name_bytes, alarm_writes, decode_alarm, read_alarm
from .call import run, wait_gate
from .chain import Turn, after_commit
from .clock import TimerHandle
from .codec import encode_unchecked
from .error_text import error_text
from .errors import InvalidActor, InvalidCron
from .repeats import LATE_MS, newest_planned, next_planned

if TYPE_CHECKING:
    from .activation import Activation
    from .actor_type import ActorType
    from .ref import Ref
    from .system import ActorSystem

_log = logging.getLogger("holdfast.alarms")

MAX_RETRIES: Final = 6
_FIRST_DELAY_SECONDS: Final = 2.0
_MAX_EXPONENT: Final = 9  # 1 024 s between tries that don't count
_READ_AGAIN_SECONDS: Final = 1.0
_PAGE: Final = 256


class DeadAlarm(NamedTuple):
    """An alarm whose retries are spent, kept until it is redriven."""

    type: str
    key: ActorKey
    name: str
    error: str
    alarm: Alarm


class DeadAlarmRecord(msgspec.Struct, array_like=True, frozen=True):
    """A dead alarm on disk."""

    type: bytes
    key: bytes
    error: str
    died_ms: int
    alarm: AlarmRecord


decode_dead_alarm = msgspec.msgpack.Decoder(DeadAlarmRecord).decode


class AlarmScheduler:
    """Fires the alarms of all actors of a runtime."""

    def __init__(self, system: ActorSystem) -> None:
        self._system = system
        self._timer: TimerHandle | None = None
        # Never later than the earliest alarm that isn't firing; may be earlier (then it wakes, looks, and
        # sleeps again).
        self._wakes_ms: int | None = None
        self._firing: set[bytes] = set()
        # Alarms of types that this process doesn't know; they stay on disk until their class is used.
        self._unknown: dict[bytes, bytes] = {}
        # How often in a row the disk refused to take the outcome of an alarm.
        self._refused: dict[bytes, int] = {}
        self._stopped = False

    def start(self) -> None:
        """Look for the first time."""
        self._look()

    def stop(self) -> None:
        """Fire nothing more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    @property
    def firing(self) -> int:
        """Alarms that are being handled."""
        return len(self._firing)

    def notice(self, due_ms: int) -> None:
        """An alarm was set for `due_ms`."""
        if self._wakes_ms is None or due_ms < self._wakes_ms:
            self._sleep_until(due_ms)

    def meet(self, kind: ActorType) -> None:
        """A class is known from now on; alarms that waited for it can fire."""
        waited = [key for key, number in self._unknown.items() if number == kind.number_bytes]
        for key in waited:
            del self._unknown[key]
        if waited:
            self.notice(self._system.clock.now_ms())

    def _sleep_until(self, due_ms: int) -> None:
        if self._stopped:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._wakes_ms = due_ms
        seconds = max(0.0, (due_ms - self._system.clock.now_ms()) / 1000)
        clock = self._system.clock
        self._timer = clock.call_later(min(seconds, clock.look_seconds), self._look)

    def _look(self) -> None:
        if self._stopped:
            return
        self._timer = None
        now_ms = self._system.clock.now_ms()
        wakes_ms = self._wakes_ms
        if wakes_ms is not None and now_ms < wakes_ms:  # the wall clock was not set: nothing is due
            self._sleep_until(wakes_ms)
            return
        self._wakes_ms = None
        limit = self._system.limits.max_firing
        start, end = layout.DUE, next_prefix(layout.DUE)
        next_due: int | None = None
        try:
            while next_due is None and len(self._firing) < limit:
                rows = self._system.store.scan(start, end, limit=_PAGE)
                for key, address in rows:
                    due_ms, _, name = layout.split_due_key(key)
                    if due_ms > now_ms:
                        next_due = due_ms
                        break
                    if key in self._firing or key in self._unknown:
                        continue
                    if len(self._firing) >= limit:
                        break
                    self._fire(key, address, name)
                if len(rows) < _PAGE:
                    break
                start = rows[-1][0] + b"\x00"
        except StorageError as error:
            _log.error("alarms can't be read: %s", error)
            next_due = now_ms + round(_READ_AGAIN_SECONDS * 1000)
        if next_due is not None:
            self._sleep_until(next_due)

    def _fire(self, key: bytes, address: bytes, name: bytes) -> None:
        system = self._system
        try:
            ref = system.ref_from_bytes(address[:2], address[2:])
        except HoldfastError as error:
            self._unknown[key] = address[:2]
            system.limited_log.log(
                _log,
                logging.ERROR,
                "alarms that can't fire",
                "an alarm can't fire and stays on disk: %s",
                error,
            )
            return
        self._firing.add(key)
        system.spawn(self._run(key, ref, name), f"alarm {name.decode(errors='replace')!r} of {ref}")

    async def _run(self, key: bytes, ref: Ref, name: bytes) -> None:
        try:
            dep = await self._handle(key, ref, name)
            await self._system.store.wait_durable(dep)
        except StorageClosed:
            self._firing.discard(key)  # the runtime closes; the alarm is on disk
        except StorageError as error:
            self._try_later(key, ref, name, error)
        except BaseException:
            self._firing.discard(key)
            raise
        else:
            self._refused.pop(key, None)
            self._free(key)

    def _free(self, key: bytes) -> None:
        self._firing.discard(key)
        self.notice(self._system.clock.now_ms())

    def _try_later(self, key: bytes, ref: Ref, name: bytes, error: StorageError) -> None:
        """The disk took neither the handler's turn nor its failure: the alarm lies there as before.

        It keeps its place among those that fire until it is tried again, since the disk would refuse others
        too.
        """
        tries = self._refused.get(key, 0)
        self._refused[key] = tries + 1
        delay = self._delay(tries)
        self._system.limited_log.log(
            _log,
            logging.WARNING,
            f"alarms of {ref.type.name}",
            "alarm %r of %s could not be recorded, next try in %.1f s: %s",
            name.decode(),
            ref,
            delay,
            error,
        )
        self._system.clock.call_later(delay, lambda: self._free(key))

    async def _handle(self, key: bytes, ref: Ref, name: bytes) -> int:
        """Fire an alarm and return the commit that its outcome rests on."""
        record: AlarmRecord | None = None
        due_ms, number, _ = layout.split_due_key(key)

        async def handler(actor: Actor) -> None:
            nonlocal record
            activation = activation_of(actor)
            turn = activation.current_turn()
            stored = read_alarm(activation, name)
            if stored is None or stored.due_ms != due_ms:
                # It was set anew or taken back since it was found, and its place is gone with that; if it is
                # still there, nothing belongs to it.
                if activation.read(key) is not None:
                    turn.writes[key] = None
                return
            if stored.missed == "skip" and stored.due_ms == stored.scheduled_ms:  # no retry, not redriven
                newest = self._not_too_late(stored)
                if newest is None:
                    self._go_on(turn, activation, name, stored)
                    return
                stored = newest
            record = stored
            if not ref.type.has_on_alarm:
                raise InvalidActor(
                    f"{ref.type.name} has no on_alarm (any more), so {Alarm(name.decode(), stored)} can't "
                    "fire"
                )
            counts = self._system.counts
            counts.alarms_fired += 1
            counts.alarm_lateness.observe(max(0, self._system.clock.now_ms() - due_ms) / 1000)
            self._go_on(turn, activation, name, stored)
            alarm, tracing = Alarm(name.decode(), stored), self._system.tracing
            if tracing is None:
                await activation.instance.on_alarm(alarm)
            else:
                with tracing.alarm(ref, alarm.name):
                    await activation.instance.on_alarm(alarm)

        error: BaseException | None
        try:
            dep, _, error = await run(ref, ref.type.on_alarm.with_function(handler), (), {}, None, None)
        except StorageError:
            raise
        except Exception as failure:  # the actor could not be loaded, or its mailbox is full
            dep, error = 0, failure
        except asyncio.CancelledError as failure:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            dep, error = 0, failure  # the handler awaited something that was cancelled
        if error is None:
            return dep
        if record is None:
            record = self._stored(number, name, due_ms)
        try:
            return dep if record is None else self._failed(key, ref, number, name, record, error)
        finally:
            del error  # it may hold this frame in its trace: both would stay until the collector looks

    def _stored(self, number: int, name: bytes, due_ms: int) -> AlarmRecord | None:
        stored = self._system.store.get(layout.data_prefix(number) + layout.ALARM + name)
        record = None if stored is None else decode_alarm(stored)
        return record if record is not None and record.due_ms == due_ms else None

    def _go_on(self, turn: Turn, activation: Activation, name: bytes, record: AlarmRecord) -> None:
        """Take a due alarm away, or set it for the next time if it repeats."""
        following = self._following(record)
        turn.writes.update(alarm_writes(activation, name, following))
        if following is not None:
            _notice_after(turn, self, following.due_ms)

    def _following(self, record: AlarmRecord) -> AlarmRecord | None:
        if record.repeat is None:
            return None
        after_ms = record.scheduled_ms
        if record.missed != "all":
            after_ms = max(after_ms, self._system.clock.now_ms())
        next_ms = next_planned(record.repeat, record.scheduled_ms, after_ms)
        if next_ms is None:
            return None
        return msgspec.structs.replace(record, due_ms=next_ms, scheduled_ms=next_ms, retries=0, uncounted=0)

    def _not_too_late(self, record: AlarmRecord) -> AlarmRecord | None:
        """A due alarm as the newest of its times that passed; None when that is too late, too."""
        assert record.repeat is not None
        now_ms = self._system.clock.now_ms()
        newest_ms = newest_planned(record.repeat, record.scheduled_ms, now_ms, record.scheduled_ms)
        if newest_ms is None or now_ms - newest_ms > LATE_MS:
            return None
        return msgspec.structs.replace(record, scheduled_ms=newest_ms)

    def _delay(self, tries: int) -> float:
        """Seconds until the next try: 2, doubling, and up to a quarter more by chance."""
        doubled: float = _FIRST_DELAY_SECONDS * 2 ** min(tries, _MAX_EXPONENT)
        return doubled * (1 + 0.25 * self._system.random.random())

    def _failed(
        self, key: bytes, ref: Ref, number: int, name: bytes, record: AlarmRecord, error: BaseException
    ) -> int:
        """Stage the next try, or bury the alarm.

        Not a turn: an actor that can't be loaded has none, and nothing has run on it since the turn that
        failed.
        """
        system = self._system
        counted = not isinstance(error, (StorageError, Overloaded))
        spent = counted and record.retries >= MAX_RETRIES
        system.counts.alarms_failed += 1
        system.counts.alarms_dead += spent
        now_ms = system.clock.now_ms()
        following: AlarmRecord | None
        shown, about = name.decode(), f"alarms of {ref.type.name}"
        writes: Writes = {key: None}
        if spent:
            system.limited_log.log(
                _log,
                logging.ERROR,
                about,
                "alarm %r of %s failed %d times and is kept as dead",
                shown,
                ref,
                MAX_RETRIES + 1,
                error=error,
            )
            try:
                following = self._following(record)
            except InvalidCron:  # its zone is gone; the dead alarm keeps what is needed to go on
                following = None
            buried = DeadAlarmRecord(ref.type.number_bytes, ref.key_bytes, error_text(error), now_ms, record)
            writes[layout.DEAD_ALARM + encode_number(number) + name] = encode_unchecked(buried)
        else:
            delay = self._delay(record.retries if counted else record.uncounted)
            system.limited_log.log(
                _log,
                logging.WARNING,
                about,
                "alarm %r of %s failed, next try in %.1f s",
                shown,
                ref,
                delay,
                error=error,
            )
            following = msgspec.structs.replace(
                record,
                due_ms=now_ms + math.ceil(delay * 1000),
                retries=record.retries + counted,
                uncounted=0 if counted else record.uncounted + 1,
            )
        own_key = layout.data_prefix(number) + layout.ALARM + name
        writes[own_key] = None
        if following is not None:
            writes[own_key] = encode_unchecked(following)
            writes[layout.due_key(following.due_ms, number, name)] = ref.type.number_bytes + ref.key_bytes
        commit = system.store.stage(writes, reserve=True)
        activation = system.directory.find(ref.directory_key)
        if activation is not None:
            activation.dep = max(activation.dep, commit)  # it may read what was staged
        if following is not None:
            self.notice(following.due_ms)
        return commit

    # -- dead alarms ----------------------------------------------------------------------------------------

    def dead(self, limit: int = 1000) -> list[DeadAlarm]:
        """Dead alarms, at most `limit`."""
        found: list[DeadAlarm] = []
        end = next_prefix(layout.DEAD_ALARM)
        for key, stored in self._system.reader.scan(layout.DEAD_ALARM, end, False, limit):
            record = decode_dead_alarm(stored)
            name = _dead_name(key)
            type_name, actor_key = self._system.actor_types.name_of(record.type), decode_key(record.key)
            assert not isinstance(actor_key, bytes)
            found.append(DeadAlarm(type_name, actor_key, name, record.error, Alarm(name, record.alarm)))
        return found

    async def redrive(self, ref: Ref, name: str, also: Callable[[Actor], None] | None = None) -> None:
        """Fire a dead alarm again now, with all its retries; `also` belongs to the same commit.

        Raises `CallerError` when there is none, or when another alarm was set under its name since.
        """
        name_bytes = alarm_name_bytes(name)

        async def revive(actor: Actor) -> None:
            activation = activation_of(actor)
            key = layout.DEAD_ALARM + activation.owner() + name_bytes
            stored = activation.read(key)
            if stored is None:
                raise CallerError(f"{ref} has no dead alarm {name!r}")
            record = decode_dead_alarm(stored).alarm
            pending = read_alarm(activation, name_bytes)
            # A repeating alarm goes on after it died; only then the pending one is the dead one's own.
            if pending is not None and (record.repeat is None or pending.repeat != record.repeat):
                raise CallerError(
                    f"{ref} has set alarm {name!r} again since it died, for {Alarm(name, pending).due_at}; "
                    f"redriving the dead one would take that back"
                )
            now_ms = self._system.clock.now_ms()
            turn = activation.current_turn()
            turn.writes[key] = None
            again = msgspec.structs.replace(record, due_ms=now_ms, retries=0, uncounted=0)
            turn.writes.update(alarm_writes(activation, name_bytes, again))
            _notice_after(turn, self, now_ms)
            if also is not None:
                also(actor)

        dep, _, error = await run(ref, ref.type.on_alarm.with_function(revive), (), {}, None, None)
        await wait_gate(self._system, dep, error)
        if error is not None:
            raise error


def _dead_name(key: bytes) -> str:
    _, end = decode_number(key, 1)
    return key[end:].decode()


def _notice_after(turn: Turn, scheduler: AlarmScheduler, due_ms: int) -> None:
    after_commit(turn, lambda _: scheduler.notice(due_ms))
