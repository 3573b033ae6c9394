# pyright: reportPrivateUsage=false
# (Its turns start runs, which is the engine's own way.)
"""A schedule: an ordinary actor by name, whose alarm starts a run of a workflow at each planned time.

`Runtime.schedule` sets one up; `rt.get(Schedule, "nightly")` is its handle.  What it was set up with is in
schedule_definition.py, what lies on disk in schedule_records.py, what becomes of times that passed in
schedule_passed.py.

    alarm due -> planned times that passed -> missed? -> overlap? -> run started   one turn, one commit
                                                                     next alarm set

Promises
  * A planned time comes exactly once: the run, its id (made of the schedule's name and the planned time) and
    the next planned time are one commit.  Neither a crash nor a wall clock that is set loses or doubles one.
  * A schedule whose workflow isn't imported loses nothing and waits: it tells why, tries again more and more
    rarely, and at once when the class is there.
  * P8: one that waits for its time is an alarm on disk and takes no memory.
"""

from __future__ import annotations

import logging
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Literal, cast

import msgspec

from ..runtime.actor import Actor
from ..runtime.address import normal_key
from ..runtime.alarms import Alarm
from ..runtime.chain import Turn, after_commit
from ..runtime.clock import moment
from ..runtime.codec import decode_to_show
from ..runtime.error_text import error_text
from ..runtime.errors import NotRunning, UnknownActorType
from ..runtime.methods import MethodPlan, shared
from ..runtime.repeats import Missed
from ..storage import layout
from ..storage.errors import Overloaded, StorageError
from .audit import By, checked_by, note_deed
from .erase import erase_actor
from .errors import InvalidSchedule, ScheduleNotFound
from .schedule_definition import PLANNED_TAG, SCHEDULE_TAG, Definition, Overlap, moment_ms, planned_text
from .schedule_passed import planned_back, times_to_keep
from .schedule_records import (
    MAX_RECENT,
    Fire,
    Pause,
    ScheduleInfo,
    ScheduleState,
    schedule_info,
)
from .workflow.head import ENDED
from .workflow.labels import RunLabels
from .workflow.run_id import check_run_id
from .workflow.start_options import StartOptions
from .workflow.workflow_type import WorkflowType

if TYPE_CHECKING:
    from ..runtime.ref import Ref
    from .system import Runtime

_log = logging.getLogger("holdfast.schedules")

MAX_BACKFILL: Final = 1_000  # runs started, or times put into line, in one commit
MAX_NEXT_FIRES: Final = 1_000

_FIRE: Final = "fire"
_LOOK: Final = "look"
_INPUT: Final = "input"
# While planned times wait for a run to end, somebody who watches it tells; after a restart nobody does.
_LOOK_SECONDS: Final = 60.0
_FIRST_AGAIN_SECONDS: Final = 60
_LAST_AGAIN_SECONDS: Final = 3600
# Runs that may go on side by side and are known: more come only by triggers and back-fills that overlap.
_MOST_RUNNING: Final = 1_000


class Schedule(Actor):
    """A schedule by name: `rt.get(Schedule, "nightly")`.  Its methods raise `ScheduleNotFound`."""

    _holdfast_owned: ClassVar[bool] = True
    indexes: ClassVar[tuple[tuple[str, ...] | str, ...]] = (
        ("state.status",),
        ("state.definition.workflow", "state.status"),
    )

    state: ScheduleState = ScheduleState()

    # -- setting up ------------------------------------------------------------------------------------------

    async def define(self, definition: Definition, input: bytes) -> bool:
        """What `Runtime.schedule` calls.  False when it is so already; then nothing is written."""
        state, now_ms = self.state, self._now_ms()
        is_new = not state.created_ms
        if not is_new and definition == state.definition and input == self._input():
            if state.status == "stuck":
                self._work(now_ms)  # its class has just been seen
            return False
        if not is_new and state.status == "active":
            self._work(now_ms)  # what was due before it is another one
        old, new = state.definition.timing, definition.timing
        if is_new or old != new:
            if is_new or (old.repeat, old.start_ms) != (new.repeat, new.start_ms):
                state.anchor_ms = new.anchor(now_ms)
            # A planned time that came while it was stuck still comes.
            if state.status != "stuck":
                state.next_ms = new.first(state.anchor_ms, now_ms)
            state.fired = 0
        if state.status == "ended":
            state.status = "active"
        state.definition = definition
        state.created_ms = state.created_ms or now_ms
        state.updated_ms = now_ms
        self.storage.put(_INPUT, input)
        self._work(now_ms)
        return True

    async def delete(self, *, by: str | None = None, reason: str = "") -> bool:
        """Remove the schedule and all that is known of it; its runs stay.  False when there is none.

        Set up again under its name, planned times that it kept before are not kept again, as long as their
        runs exist.
        """
        told = checked_by(by, reason)
        if not self.state.created_ms:
            return False
        note_deed(self, "delete", told, self.state.status, "deleted")
        erase_actor(self)
        return True

    # -- steering --------------------------------------------------------------------------------------------

    async def pause(self, *, by: str | None = None, reason: str | None = None) -> None:
        """Let planned times pass until `resume`: they are neither kept nor counted as missed.

        `by` and `reason` are shown by `info`.  Pausing again changes them.  A single time that passes is kept
        for then.  Triggers and back-fills still work.
        """
        told = checked_by(by, reason or "")
        state = self._existing()
        if state.status == "ended":
            raise InvalidSchedule(f"schedule {self.key!r} has ended: no planned time comes that could pass")
        note_deed(self, "pause", told, state.status, "paused")
        state.status, state.error, state.tries = "paused", None, 0
        state.pause = Pause(moment(self._now_ms()), by, reason)
        self.alarms.clear()

    async def resume(self, *, missed: Missed = "skip", by: str | None = None, reason: str = "") -> None:
        """Keep planned times again; harmless when it isn't paused.

        `missed` says what becomes of times that passed meanwhile: none is made up ("skip"), the newest is, or
        all are.
        """
        told = checked_by(by, reason)
        state, now_ms = self._existing(), self._now_ms()
        if state.status != "paused":
            return
        note_deed(self, "resume", told, "paused", "active")
        state.status, state.pause = "active", None
        if missed == "skip" and state.definition.timing.repeat is not None:
            timing = state.definition.timing
            if state.next_ms is not None and timing.due_ms(self._name, state.next_ms) <= now_ms:
                state.next_ms = timing.following(state.anchor_ms, now_ms)
        self._work(now_ms, "one" if missed == "skip" else missed)

    async def trigger(
        self,
        *,
        overlap: Overlap | None = None,
        id: str | None = None,
        by: str | None = None,
        reason: str = "",
    ) -> str | None:
        """Start a run now, out of order; planned times, and how many there may be, stay as they are.

        overlap   in place of the schedule's own
        id        who asks again with it gets the same run: it is a part of the run's id

        Returns the run's id; None when it is left out or waits, since another run goes on.  Raises
        `UnknownActorType` or `InvalidInput` when no run can be started.
        """
        told = checked_by(by, reason)
        state, now_ms = self._existing(), self._now_ms()
        fire = self._fire_of(now_ms)
        if id is None:
            # An id of its own also beside a planned time, and after the schedule was deleted and made anew.
            run_id = f"{fire.run}/trigger-{state.triggers + 1}"
        else:
            run_id = f"{self._name}/trigger/{id}"
        check_run_id(run_id)
        fire = msgspec.structs.replace(fire, run=run_id)
        if id is not None:
            if self._activation.read(self._run(self._ready(), fire).directory_key) is not None:
                return fire.run
            if any(one.run == fire.run for one in state.waiting):
                return None
        state.triggers += 1
        taken = self._take(fire, now_ms, overlap or state.definition.overlap)
        note_deed(self, "trigger", told, state.status, f"run {fire.run} {taken}")
        self._set_alarms()
        return fire.run if taken == "started" else None

    async def backfill(
        self,
        start: datetime,
        end: datetime,
        *,
        overlap: Literal["allow", "queue"] | None = None,
        by: str | None = None,
        reason: str = "",
    ) -> int:
        """Start the runs of planned times from `start` to before `end`, which passed, in their order.

        overlap   "allow" starts all of them now, "queue" one after the other (behind what waits already); by
                  default the first if the schedule's own word is "allow", else the second

        Times whose runs exist are left out.  Returns how many there were beside these.  Raises
        `InvalidSchedule` for a time without zone or to come, and for more than 1 000 times at once.
        """
        told = checked_by(by, reason)
        state, now_ms = self._existing(), self._now_ms()
        where = f"schedule {self._name!r}"
        start_ms, end_ms = moment_ms(where, "start", start), moment_ms(where, "end", end)
        assert start_ms is not None and end_ms is not None
        if end_ms > now_ms:
            raise InvalidSchedule(f"{where}: a back-fill is for times that passed; got the end {end}")
        if overlap is None:
            overlap = "allow" if state.definition.overlap == "allow" else "queue"
        planned = list(planned_back(state, end_ms - 1, start_ms, MAX_BACKFILL + 1))
        if len(planned) > MAX_BACKFILL:
            raise InvalidSchedule(
                f"{where}: more than {MAX_BACKFILL} planned times lie from {start} to {end}; make up for at "
                f"most {MAX_BACKFILL} at once"
            )
        kind = self._ready()
        found, in_line = 0, {one.run for one in state.waiting}
        for planned_ms in reversed(planned):
            fire = self._fire_of(planned_ms)
            if fire.run in in_line or self._activation.read(self._run(kind, fire).directory_key) is not None:
                continue
            found += 1
            if overlap == "allow":
                self._start(kind, fire, now_ms)
            else:
                state.waiting.append(fire)
        if len(state.waiting) > MAX_BACKFILL:
            raise InvalidSchedule(
                f"{where}: {len(state.waiting)} planned times would wait, at most {MAX_BACKFILL} can; make "
                f"up for fewer at once"
            )
        if state.status != "paused":
            self._start_waiting(now_ms)
        about = f"{found} runs from {start.isoformat()} to {end.isoformat()}"
        note_deed(self, "backfill", told, state.status, about)
        self._set_alarms()
        return found

    # -- looking ---------------------------------------------------------------------------------------------

    @shared
    async def info(self) -> ScheduleInfo:
        """How it stands."""
        return schedule_info(self._name, self._existing())

    @shared
    async def input(self) -> object:
        """What its runs get, as plain values; as its bytes where it has keys that are structs or maps."""
        self._existing()
        return decode_to_show(self._input())

    @shared
    async def next_fires(
        self, count: Annotated[int, msgspec.Meta(ge=1, le=MAX_NEXT_FIRES)] = 1
    ) -> list[datetime]:
        """The next planned times (UTC), also of a paused schedule; fewer when no more come."""
        state = self._existing()
        timing, found = state.definition.timing, list[datetime]()
        planned_ms = state.next_ms
        left = count if timing.max_fires is None else min(count, timing.max_fires - state.fired)
        while planned_ms is not None and len(found) < left:
            found.append(moment(planned_ms))
            planned_ms = timing.following(state.anchor_ms, planned_ms)
        return found

    # -- at planned times ------------------------------------------------------------------------------------

    async def on_alarm(self, alarm: Alarm) -> None:
        """A planned time is due, a stuck schedule is to be tried again, or others wait for a run to end."""
        self._work(self._now_ms())

    def _work(self, now_ms: int, missed: Missed | None = None) -> None:
        """Do what is to be done now, and set the alarms of what is to be done later."""
        state = self.state
        if not state.created_ms or state.status == "paused":
            return
        try:
            self._keep_passed(now_ms, missed or state.definition.missed)
            self._start_waiting(now_ms)
        except (StorageError, Overloaded, NotRunning):
            raise  # the turn is undone, and the alarm comes again
        except Exception as error:
            # What was started before stands; the planned time that it was about is the next one still.
            state.status, state.error = "stuck", error_text(error)
            state.tries += 1
            system = self._activation.system
            about = "schedules that are stuck"
            system.limited_log.log(
                _log, logging.ERROR, about, "schedule %r is stuck and waits: %s", self._name, state.error
            )
        else:
            if state.status == "stuck":
                state.status, state.error, state.tries = "active", None, 0
        self._set_alarms()

    def _set_alarms(self) -> None:
        state = self.state
        if state.status == "stuck":
            seconds = min(_FIRST_AGAIN_SECONDS * 2 ** min(state.tries - 1, 10), _LAST_AGAIN_SECONDS)
            self.alarms.set(seconds, _FIRE)
        elif state.status != "paused":
            if state.next_ms is None:
                state.status = "ended"
                self.alarms.cancel(_FIRE)
            else:
                due_ms = state.definition.timing.due_ms(self._name, state.next_ms)
                self.alarms.set(moment(due_ms), _FIRE)
        if state.waiting and state.status != "paused":
            self.alarms.set(_LOOK_SECONDS, _LOOK)
            self._watch()
        else:
            self.alarms.cancel(_LOOK)

    def _keep_passed(self, now_ms: int, missed: Missed) -> None:
        """Keep the planned times that passed, as the schedule says."""
        state = self.state
        timing = state.definition.timing
        for planned_ms in times_to_keep(state, self._name, now_ms, missed):
            taken = self._take(self._fire_of(planned_ms), now_ms, state.definition.overlap)
            state.fired += taken != "left out"
            state.next_ms = timing.following(state.anchor_ms, planned_ms)
            if timing.max_fires is not None and state.fired >= timing.max_fires:
                state.next_ms = None
                break

    def _fire_of(self, planned_ms: int) -> Fire:
        return Fire(planned_ms, self.state.definition.workflow, f"{self._name}/{planned_text(planned_ms)}")

    # -- overlap ---------------------------------------------------------------------------------------------

    def _take(self, fire: Fire, now_ms: int, overlap: Overlap) -> Literal["started", "waits", "left out"]:
        """Start a run, put it into line, or leave it out."""
        state = self.state
        kind = self._ready()
        if overlap != "allow":
            busy = self._busy()
            if overlap == "skip" and busy:
                state.skipped += 1
                return "left out"
            if overlap == "queue" and (busy or state.waiting):
                if len(state.waiting) >= state.definition.max_queued:
                    state.skipped += 1
                    return "left out"
                state.waiting.append(fire)
                return "waits"
            if overlap == "cancel":
                for one in busy:
                    by = By(f"schedule {self._name}", f"run {fire.run} takes its place")
                    self._runtime.engine.control.terminate(one, by, undo=False)
                state.running.clear()
        self._start(kind, fire, now_ms)
        return "started"

    def _start_waiting(self, now_ms: int) -> None:
        """Start the first of those in line, if no run goes on."""
        state = self.state
        while state.waiting and not self._busy():
            self._start(self._ready(), state.waiting[0], now_ms)
            del state.waiting[0]

    def _busy(self) -> list[Ref]:
        """The runs that the schedule started and that go on; the others are forgotten."""
        going: list[Fire] = []
        refs: list[Ref] = []
        for fire in self.state.running:
            try:
                kind = self._activation.system.actor_types.named(fire.workflow)
            except UnknownActorType:
                continue  # nobody drives it, so it is in nobody's way
            assert isinstance(kind, WorkflowType)
            ref = self._run(kind, fire)
            number = self._activation.read(ref.directory_key)
            record = None if number is None else self._activation.read(layout.DATA + number + layout.FIELDS)
            if record is not None and kind.decode_head(record, ref).status not in ENDED:
                going.append(fire)
                refs.append(ref)
        if len(going) < len(self.state.running):
            self.state.running = going
        return refs

    def _watch(self) -> None:
        """Let this process tell when the run that others wait for has ended."""
        busy = self._busy()
        if busy:
            watch, me = self._runtime.schedule_watch, self._activation.ref
            after_commit(self._activation.current_turn(), lambda _: watch.watch(me, busy[-1]))

    # -- starting --------------------------------------------------------------------------------------------

    def _ready(self) -> WorkflowType:
        """The workflow; raises `UnknownActorType` when it isn't imported, `InvalidInput` when it refuses."""
        kind = self._activation.system.actor_types.named(self.state.definition.workflow)
        if not isinstance(kind, WorkflowType):
            raise UnknownActorType(f"{kind.name} is an actor here, not a workflow")
        kind.decode_input(self._input())
        return kind

    def _start(self, kind: WorkflowType, fire: Fire, now_ms: int) -> None:
        """Start a run in this turn's commit; if there is one with its id, leave that one alone."""
        state = self.state
        definition = state.definition
        turn: Turn = self._activation.current_turn()
        encoded = self._input()
        tags = {
            **definition.tags,
            SCHEDULE_TAG: self._name,
            PLANNED_TAG: planned_text(fire.planned_ms),
        }
        labels = RunLabels(definition.ref, definition.tenant, tags)
        options = StartOptions("join", fire.run, labels, kind.deadline_seconds)
        normal, key_bytes = normal_key(check_run_id(fire.run), kind.name)
        # Decoded for each run: two must not share an object.
        _, number, started = self._runtime.engine.starts.start_in(
            turn, kind, normal, key_bytes, encoded, kind.decode_input(encoded), options
        )
        if number > turn.root.dep:
            turn.root.dep = number
        fire = msgspec.structs.replace(fire, workflow=kind.name, at_ms=now_ms)
        if definition.overlap == "allow" and not state.waiting:
            state.running.clear()
        state.running.append(fire)
        del state.running[:-_MOST_RUNNING]
        if started:
            state.runs += 1
            state.recent.append(fire)
            del state.recent[:-MAX_RECENT]

    def _run(self, kind: WorkflowType, fire: Fire) -> Ref:
        normal, key_bytes = normal_key(fire.run, kind.name)
        return self._activation.system.make_ref(kind, normal, key_bytes)

    def _input(self) -> bytes:
        stored = self.storage.get(_INPUT, bytes)
        assert stored is not None
        return stored

    def _existing(self) -> ScheduleState:
        if not self.state.created_ms:
            raise ScheduleNotFound(f"there is no schedule {self.key!r}; Runtime.schedule sets one up")
        return self.state

    @property
    def _name(self) -> str:
        return str(self.key)

    @property
    def _runtime(self) -> Runtime:
        return cast("Runtime", self._activation.system)

    def _now_ms(self) -> int:
        return self._activation.system.clock.now_ms()


async def _look(schedule: Actor) -> None:
    """A run that a schedule waited for has ended, or its class is there."""
    assert isinstance(schedule, Schedule)
    schedule._work(schedule._now_ms())


LOOK_PLAN: Final = MethodPlan(Schedule, "look", _look)
