"""A job manager: jobs by id, done by a workflow; while that is introduced, some of them in the old way.

    start -> which way (rollout.py) -> begun in that way (ways.py) -> row     a workflow's is one commit
    alarm -> look at those that go on -> row, figure of the ended; rows that are too old are deleted

Promises
  * An id is one job: who starts it again gets the one that is there, in the way that it was begun in.
  * A key keeps its way as long as the percentage does.
  * Each ended job is in the figures once, over crashes; they are kept for `keep_figures`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, cast

import msgspec

from ...runtime.actor import Actor
from ...runtime.alarms import Alarm
from ...runtime.clock import moment
from ...runtime.durations import Duration, to_seconds
from ...runtime.errors import InvalidActor
from ...runtime.methods import shared
from ...storage.errors import CallerError
from ..audit import checked_by
from ..errors import JobNotFound
from ..ids import new_id
from ..workflow.run_id import check_run_id
from ..workflow.workflow import Workflow
from .records import Job, JobFigure, JobRow, RolloutChange, WayFigures, figures_of
from .rollout import rollout, steps_of
from .ways import JobLook, JobWay, WorkflowWay

if TYPE_CHECKING:
    from ...storage.table import Table
    from ..system import Runtime

MAX_LISTED: Final = 1_000
MAX_COMPARED: Final = 10_000  # jobs of each way, the last ones
MAX_LOOKED_AT: Final = 200  # jobs in one turn
MAX_ROLLOUT_CHANGES: Final = 50  # that are told
MAX_LOOK_SECONDS: Final = 300.0
_MOST_DOUBLINGS: Final = 20

_LOOK: Final = "look"
_FIGURE: Final = "figure"
NEW: Final = "new"
OLD: Final = "old"


class JobManager(Actor):
    """Jobs of one kind.  Subclass it, and say which workflow does them:

        class BookImports(JobManager):
            new = BookImport
            old = LegacyImport()   # while it is being introduced: a `JobWay`, or a workflow

        job = await rt.get(BookImports, "all").start(order, key=order.isbn)

    Class options
      new, old        the ways; without `old` all jobs go the new way
      look_seconds    how soon the jobs that go on are looked at; twice as long after each look in vain, up
                      to 5 minutes
      keep_jobs       how long an ended job is listed
      keep_figures    how long it is compared
    """

    new: ClassVar[type[Workflow] | JobWay | None] = None
    old: ClassVar[type[Workflow] | JobWay | None] = None
    look_seconds: ClassVar[float] = 5.0
    keep_jobs: ClassVar[Duration] = "30d"
    keep_figures: ClassVar[Duration] = "7d"

    percent: float = 100.0
    changes: list[RolloutChange] = []
    # Up to where the jobs that go on were looked at in this round: when it was started, and its id.
    looked_at: tuple[int, str] = (0, "")
    # Rounds in which no job had ended, one after the other: the next one is the later for it.
    in_vain: int = 0

    # -- jobs ------------------------------------------------------------------------------------------------

    async def start(
        self, input: object = msgspec.UNSET, *, key: str | None = None, id: str | None = None
    ) -> Job:
        """Begin a job, or return the one that has this id.

        input   what the way takes: for a workflow the input of `run()`, which is checked
        key     chooses the way, when there are two: the same key goes the same way; the id by default
        id      a new one by default; a run id (`InvalidRunId`)

        Raises what the way raises; then there is no job.
        """
        if id is not None:
            check_run_id(id)
            there = self._rows().get(id)
            if there is not None:
                return there.shown()
        job_id = id if id is not None else new_id()
        key = key if key is not None else job_id
        way = self._way_for(key)
        await self._way(way).start(self._runtime(), job_id, input)
        row = JobRow(job_id, way, key, "running", self._now_ms())
        self._rows().put(row)
        self.in_vain = 0
        look = self.alarms.get(_LOOK)
        soon = moment(self._now_ms() + round(self.look_seconds * 1000))
        if look is None or look.due_at > soon:  # it isn't put off by each start
            self.alarms.set(soon, _LOOK)
        return row.shown()

    async def status(self, id: str) -> Job:
        """How a job stands now; raises `JobNotFound`."""
        return (await self._look_at(self._row(id))).shown()

    async def cancel(self, id: str, *, by: str | None = None, reason: str = "") -> Job:
        """Ask a job to end, and tell how it stands: it may have to clean up first.

        Raises `JobNotFound`; one that has ended is left as it is.
        """
        row = await self._look_at(self._row(id))
        if row.is_open:
            await self._way(row.way).cancel(self._runtime(), id, by=by, reason=reason)
            row = await self._look_at(row)
        return row.shown()

    @shared
    async def jobs(
        self, *, limit: int = 100, before: str | None = None, open: bool | None = None
    ) -> list[Job]:
        """The jobs, the newest first, as they were when they were last looked at.

        before   the id of the last one of the page before; one that is gone is `JobNotFound`
        open     only those that go on, or only those that have ended
        """
        if not 1 <= limit <= MAX_LISTED:
            raise CallerError(f"{self._activation.ref}: limit is from 1 to {MAX_LISTED}; got {limit}")
        after = None if before is None else self._row(before)
        jobs = self._rows()
        if open is None:
            rows = jobs.select(order_by="started_ms", reverse=True, limit=limit, after=after)
        else:
            rows = jobs.select(is_open=open, order_by="started_ms", reverse=True, limit=limit, after=after)
        return [row.shown() for row in rows]

    # -- the rollout -----------------------------------------------------------------------------------------

    async def set_rollout(self, percent: float, *, by: str | None = None, reason: str = "") -> None:
        """Let so many percent of the keys go the new way; jobs that were begun keep theirs."""
        steps_of(percent)
        who = checked_by(by, reason)
        change = RolloutChange(moment(self._now_ms()), percent, who.who, who.reason)
        self.percent = float(percent)
        self.changes = [*self.changes, change][-MAX_ROLLOUT_CHANGES:]

    @shared
    async def rollout_changes(self) -> list[RolloutChange]:
        """The percentages that were set, the newest last."""
        return self.changes

    async def compare(self) -> dict[str, WayFigures]:
        """How the jobs that ended did, by way: at most the last 10 000 of each within `keep_figures`."""
        await self._look_round()
        return {way: figures_of(self._figures(way, MAX_COMPARED)) for way in (NEW, OLD) if self._has(way)}

    @shared
    async def figures(self, way: str, *, limit: int = 100) -> list[JobFigure]:
        """The jobs behind that, one by one, the last first."""
        if not 1 <= limit <= MAX_COMPARED:
            raise CallerError(f"{self._activation.ref}: limit is from 1 to {MAX_COMPARED}; got {limit}")
        self._way(way)
        return self._figures(way, limit)

    # -- looking ---------------------------------------------------------------------------------------------

    async def on_alarm(self, alarm: Alarm) -> None:
        """Look at jobs that go on, and delete those that ended long ago."""
        if not self.looked_at[1]:  # a round begins
            self.in_vain += 1
        more, ended = await self._look_round()
        oldest_ms = self._forget_old()
        if ended:
            self.in_vain = 0
        if more:
            self.alarms.set(0, _LOOK)
        elif self._rows().select(is_open=True, order_by="started_ms", limit=1):
            doubled: float = self.look_seconds * 2 ** min(max(0, self.in_vain - 1), _MOST_DOUBLINGS)
            self.alarms.set(max(self.look_seconds, min(doubled, MAX_LOOK_SECONDS)), _LOOK)
        elif oldest_ms is not None:
            self.alarms.set(moment(oldest_ms + self._keep_ms()), _LOOK)

    async def _look_round(self) -> tuple[bool, int]:
        """Look at a page of the jobs that go on: whether there is another, and how many had ended."""
        started_ms, id_ = self.looked_at
        after = JobRow(id_, NEW, "", "running", started_ms) if id_ else None
        page = self._rows().select(is_open=True, order_by="started_ms", limit=MAX_LOOKED_AT, after=after)
        ended = 0
        for row in page:
            ended += not (await self._look_at(row)).is_open
        is_full = len(page) == MAX_LOOKED_AT
        self.looked_at = (page[-1].started_ms, page[-1].id) if is_full else (0, "")
        return is_full, ended

    async def _look_at(self, row: JobRow) -> JobRow:
        """The row as its way has it now; stored when that is news."""
        if not row.is_open:
            return row
        try:
            look = await self._way(row.way).look(self._runtime(), row.id)
        except LookupError as error:  # erased, or never begun: it never comes back
            look = JobLook("failed", moment(self._now_ms()), f"nothing is known of it any more: {error}")
        if look.ended_at is None:
            if look.status == row.status:
                return row
            row = msgspec.structs.replace(row, status=look.status)
        else:
            ended_ms = round(look.ended_at.timestamp() * 1000)
            row = msgspec.structs.replace(
                row, status=look.status, is_open=False, ended_ms=ended_ms, error=look.error
            )
            seconds = max(0, ended_ms - row.started_ms) / 1000
            figure = JobFigure(row.way, row.id, row.key, look.ended_at, seconds, look.status == "complete")
            self.storage.put((_FIGURE, row.way, ended_ms, row.id), figure, ttl=self.keep_figures)
        self._rows().put(row)
        return row

    def _forget_old(self) -> int | None:
        """Delete what ended too long ago, a page at a time; when the oldest that stays ended."""
        before_ms = self._now_ms() - self._keep_ms()
        for row in self._rows().select(is_open=False, order_by="ended_ms", limit=MAX_LOOKED_AT):
            if row.ended_ms is not None and row.ended_ms > before_ms:
                return row.ended_ms
            self._rows().delete(row.id)
        oldest = self._rows().select(is_open=False, order_by="ended_ms", limit=1)
        return oldest[0].ended_ms if oldest else None

    # -- within ----------------------------------------------------------------------------------------------

    def _rows(self) -> Table[JobRow]:
        indexes = ("started_ms", ("is_open", "started_ms"), ("is_open", "ended_ms"))
        return self.storage.table(JobRow, key="id", indexes=indexes)

    def _row(self, id: str) -> JobRow:
        row = self._rows().get(id)
        if row is None:
            raise JobNotFound(f"{self._activation.ref} has no job {id!r:.250}")
        return row

    def _figures(self, way: str, limit: int) -> list[JobFigure]:
        return [*self.storage.list((_FIGURE, way), type=JobFigure, reverse=True, limit=limit).values()]

    def _way_for(self, key: str) -> str:
        if not self._has(OLD):
            return NEW
        return NEW if rollout(str(self._activation.ref), key, self.percent) else OLD

    def _has(self, way: str) -> bool:
        return (self.new if way == NEW else self.old) is not None

    def _way(self, name: str) -> JobWay:
        way = {NEW: self.new, OLD: self.old}.get(name)
        if way is None:
            raise InvalidActor(
                f"{self._activation.ref} has no way {name!r:.100}: set `{name} = YourWorkflow` in its class"
            )
        if not isinstance(way, type):
            return way
        return WorkflowWay(way, name)

    def _keep_ms(self) -> int:
        return round(to_seconds(self.keep_jobs, what="keep_jobs") * 1000)

    def _now_ms(self) -> int:
        return self._activation.system.clock.now_ms()

    def _runtime(self) -> Runtime:
        return cast("Runtime", self._activation.system)
