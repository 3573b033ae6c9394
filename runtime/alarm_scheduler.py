"""The alarm scheduler: finds what is due on disk and fires it, each as a turn.

Nothing of it is kept in memory but the next time to look and what fires right now, so a million alarms cost disk and no RAM.  It
looks at the order of due times, wakes at the first one, and at least every second, since the wall clock may be set.

Promises
  * An alarm fires at or after its time by the wall clock, never before; not lost and not doubled by a clock that jumps.
  * Its removal commits together with what the handler wrote.  If the handler raises, the turn rolls back and the alarm is tried
    again: after 2 s, doubling, up to 25 % later by chance, six times; then it is kept as a dead alarm.
  * Failures that are not the handler's (disk, overload) don't count.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from ..storage import layout
from ..storage.errors import CallerError, Damaged, HoldfastError, Overloaded, StorageClosed, StorageError
from ..storage.keys import decode_key, next_prefix
from .alarms import Alarm, AlarmRecord, after_commit, alarm_writes, read_alarm
from .call import run
from .chain import Turn
from .clock import TimerHandle
from .codec import encode_unchecked

if TYPE_CHECKING:
    from .ref import Ref
    from .system import ActorSystem

_log = logging.getLogger("holdfast.alarms")

MAX_RETRIES: Final = 6
_FIRST_DELAY_SECONDS: Final = 2.0
_MAX_EXPONENT: Final = 9  # 1 024 s between tries that don't count
_LOOK_SECONDS: Final = 1.0  # a wall clock that was set is noticed after so long
_PAGE: Final = 256


class DeadAlarm(NamedTuple):
    """An alarm whose retries are spent, kept until it is redriven."""

    type: str
    key: object
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


_decode_dead = msgspec.msgpack.Decoder(DeadAlarmRecord).decode


class AlarmScheduler:
    """Fires the alarms of all actors of a runtime."""

    def __init__(self, system: ActorSystem) -> None:
        self._system = system
        self._timer: TimerHandle | None = None
        # Never later than the earliest alarm that isn't firing; may be earlier (then it wakes, looks, and sleeps again).
        self._wakes_ms: int | None = None
        self._firing: set[bytes] = set()
        # Alarms of types that this process doesn't know; they stay on disk.
        self._unknown: set[bytes] = set()
        self._stopped = False

    def start(self) -> None:
        """Look for the first time."""
        self._look()

    def stop(self) -> None:
        """Fire nothing more."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()

    def notice(self, due_ms: int) -> None:
        """An alarm was set for `due_ms`."""
        if self._wakes_ms is None or due_ms < self._wakes_ms:
            self._sleep_until(due_ms)

    def _sleep_until(self, due_ms: int) -> None:
        if self._stopped:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._wakes_ms = due_ms
        seconds = max(0.0, (due_ms - self._system.clock.now_ms()) / 1000)
        self._timer = self._system.clock.call_later(min(seconds, _LOOK_SECONDS), self._look)

    def _look(self) -> None:
        if self._stopped:
            return
        self._timer = None
        self._wakes_ms = None
        now_ms = self._system.clock.now_ms()
        limit = self._system.limits.max_firing
        start, end = layout.DUE, next_prefix(layout.DUE)
        next_due: int | None = None
        try:
            while next_due is None and len(self._firing) < limit:
                rows = self._system.store.scan(start, end, limit=_PAGE)
                for key, address in rows:
                    due_ms, number, name = layout.split_due_key(key)
                    if due_ms > now_ms:
                        next_due = due_ms
                        break
                    if key in self._firing or key in self._unknown:
                        continue
                    if len(self._firing) >= limit:
                        break
                    self._fire(key, address, number, name, due_ms)
                if len(rows) < _PAGE:
                    break
                start = rows[-1][0] + b"\x00"
        except StorageError as error:
            _log.error("alarms can't be read: %s", error)
            next_due = now_ms + round(_LOOK_SECONDS * 1000)
        if next_due is not None:
            self._sleep_until(next_due)

    def _fire(self, key: bytes, address: bytes, number: int, name: bytes, due_ms: int) -> None:
        try:
            ref = self._system.ref_from_bytes(address[:2], address[2:])
        except HoldfastError as error:
            self._unknown.add(key)
            _log.error("an alarm can't fire and stays on disk: %s", error)
            return
        self._firing.add(key)
        self._system.spawn(self._run(key, ref, name, due_ms), f"alarm {name.decode(errors='replace')!r} of {ref}")

    async def _run(self, key: bytes, ref: Ref, name: bytes, due_ms: int) -> None:
        try:
            await self._handle(ref, name, due_ms)
        except StorageClosed:
            pass  # the runtime closes; the alarm is on disk
        except StorageError as error:
            _log.warning("alarm %r of %s could not be recorded: %s", name.decode(), ref, error)
        finally:
            self._firing.discard(key)
            self.notice(self._system.clock.now_ms())

    async def _handle(self, ref: Ref, name: bytes, due_ms: int) -> None:
        system = self._system
        record: AlarmRecord | None = None

        async def handler(actor: object) -> None:
            nonlocal record
            activation = ref.activation
            assert activation is not None
            stored = read_alarm(activation, name)
            if stored is None or stored.due_ms != due_ms:
                return  # it was set anew or taken back since it was found
            record = stored
            turn = activation.current_turn()
            following = self._following(stored)
            turn.writes.update(alarm_writes(activation, name, following))
            await activation.instance.on_alarm(Alarm(name.decode(), stored))
            if following is not None:
                _notice_after(turn, self, following.due_ms)

        dep, _, error = await run(ref, ref.type.on_alarm.with_function(handler), (), {}, None, None)
        if error is not None and record is not None:
            dep = await self._failed(ref, name, record, error)
        elif error is not None:
            raise error
        await system.store.wait_durable(dep)

    def _following(self, record: AlarmRecord) -> AlarmRecord | None:
        if record.every_ms is None:
            return None
        now_ms = self._system.clock.now_ms()
        missed = max(0, (now_ms - record.scheduled_ms) // record.every_ms)
        next_ms = record.scheduled_ms + (missed + 1) * record.every_ms
        return AlarmRecord(next_ms, next_ms, record.payload, record.every_ms)

    async def _failed(self, ref: Ref, name: bytes, record: AlarmRecord, error: Exception) -> int:
        """Set the next try, or bury the alarm; a turn of its own."""
        counted = not isinstance(error, (StorageError, Overloaded))
        spent = counted and record.retries >= MAX_RETRIES
        tries = record.retries if counted else record.uncounted
        delay = _FIRST_DELAY_SECONDS * 2 ** min(tries, _MAX_EXPONENT)
        delay *= 1 + 0.25 * self._system.random.random()
        due_ms = self._system.clock.now_ms() + round(delay * 1000)
        shown = name.decode()
        if spent:
            _log.error("alarm %r of %s failed %d times and is kept as dead", shown, ref, MAX_RETRIES + 1, exc_info=error)
        else:
            _log.warning("alarm %r of %s failed, next try in %.1f s", shown, ref, delay, exc_info=error)

        async def note(actor: object) -> None:
            activation = ref.activation
            assert activation is not None
            stored = read_alarm(activation, name)
            if stored is None or stored.due_ms != record.due_ms:
                return
            turn = activation.current_turn()
            if spent:
                following = self._following(record)
                buried = DeadAlarmRecord(
                    ref.type.number_bytes, ref.key_bytes, f"{type(error).__name__}: {error}", self._system.clock.now_ms(), record
                )
                turn.writes[layout.DEAD_ALARM + activation.owner() + name] = encode_unchecked(buried)
            else:
                following = msgspec.structs.replace(
                    record, due_ms=due_ms, retries=record.retries + counted, uncounted=0 if counted else record.uncounted + 1
                )
            turn.writes.update(alarm_writes(activation, name, following))
            if following is not None:
                _notice_after(turn, self, following.due_ms)

        dep, _, failure = await run(ref, ref.type.on_alarm.with_function(note), (), {}, None, None)
        if failure is not None:
            raise failure
        return dep

    # -- dead alarms -----------------------------------------------------------------------------------------------

    def dead(self, limit: int = 1000) -> list[DeadAlarm]:
        """Dead alarms, at most `limit`."""
        found: list[DeadAlarm] = []
        for key, stored in self._system.store.scan_prefix(layout.DEAD_ALARM, limit=limit):
            record = _decode_dead(stored)
            _, name = _split_dead(key)
            found.append(
                DeadAlarm(
                    self._system.type_name(record.type), decode_key(record.key), name.decode(), record.error,
                    Alarm(name.decode(), record.alarm),
                )
            )  # fmt: skip
        return found

    async def redrive(self, ref: Ref, name: str) -> None:
        """Fire a dead alarm again now, with all its retries; raises `CallerError` when there is none."""

        async def revive(actor: object) -> None:
            activation = ref.activation
            assert activation is not None
            key = layout.DEAD_ALARM + activation.owner() + name.encode()
            stored = activation.read(key)
            if stored is None:
                raise CallerError(f"{ref} has no dead alarm {name!r}")
            record = _decode_dead(stored).alarm
            now_ms = self._system.clock.now_ms()
            turn = activation.current_turn()
            turn.writes[key] = None
            again = AlarmRecord(now_ms, record.scheduled_ms, record.payload, record.every_ms)
            turn.writes.update(alarm_writes(activation, name.encode(), again))
            _notice_after(turn, self, now_ms)

        dep, _, error = await run(ref, ref.type.on_alarm.with_function(revive), (), {}, None, None)
        if error is not None:
            raise error
        await self._system.store.wait_durable(dep)


def _split_dead(key: bytes) -> tuple[int, bytes]:
    end = 2 + key[1]
    if end > len(key):
        raise Damaged(f"key {key.hex()} is no dead alarm's")
    return int.from_bytes(key[2:end], "big"), key[end:]


def _notice_after(turn: Turn, scheduler: AlarmScheduler, due_ms: int) -> None:
    after_commit(turn, lambda _: scheduler.notice(due_ms))
