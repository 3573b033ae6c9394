"""The stage of a story: what its lives tell of their commits and bodies, and what goes wrong by that.

    commit handed over -> dies? refused? -> made -> clocks set, dies?, outcome unknown? -> told
    body               -> dies?          -> runs -> dies?                               -> outcome recorded

It outlives the process: what was counted and what is still to come goes on in the next life.  The commits
(loop_writer.py) and the bodies (bodies.py) ask it; sim_faults.py sets what is to go wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from ..runtime.error_text import repr_text
from ..storage.commit_log import CommitOutcome, CommitResult
from ..storage.errors import StorageFailed
from .bodies import Bodies, BodyKey
from .commit_reader import CommitReader
from .crash import CrashPlan
from .storm import ClockJump

if TYPE_CHECKING:
    from ..storage.group_commit import Batch


class Note(Protocol):
    """Adds to the story."""

    def __call__(self, what: str, text: str = "", /) -> None: ...


class Stage:
    """See `CommitStage` and `BodyStage`."""

    def __init__(
        self,
        plan: CrashPlan,
        *,
        die: Callable[[str], None],
        note: Note,
        jump_clock: Callable[[float], None],
    ) -> None:
        """`die(why)` ends the present life at this very place."""
        self.plan = plan
        self.bodies = Bodies(self)
        self.commits = 0
        # How long each commit takes, in virtual seconds.
        self.slow_seconds = 0.0
        self.jumps: tuple[ClockJump, ...] = ()
        # Commits to go until the next one that fails, with what the disk says.
        self.failing: list[tuple[int, CommitOutcome]] = []
        # A commit of this life was refused, so the process may end itself.
        self.has_refused = False
        # A commit of unknown outcome was told, so the runtime is going to close.
        self.ends_itself = False
        # Bodies that began after their outcome was recorded.
        self.reran: list[str] = []
        self._die = die
        self._note = note
        self._jump_clock = jump_clock
        self._reader = CommitReader()
        # The outcome of the commit that is being made will be unknown.
        self._unknown = False

    def commit_seconds(self) -> float:
        """See `CommitStage`."""
        return self.slow_seconds

    def before_commit(self, batch: Batch) -> CommitResult | None:
        """See `CommitStage`."""
        if self.plan.reached("commit", "before"):
            self._die(f"before commit {self.commits + 1}")
            return None
        if not self.failing:
            return None
        self.failing = [(n - 1, outcome) for n, outcome in self.failing]
        outcome = next((outcome for n, outcome in self.failing if n == 0), None)
        self.failing = [(n, outcome) for n, outcome in self.failing if n > 0]
        self._unknown = outcome is CommitOutcome.UNKNOWN
        if outcome is not None:
            self.has_refused = True
        if outcome is not CommitOutcome.NOT_HAPPENED:
            return None
        return CommitResult(
            outcome, StorageFailed(f"the disk refused commit {self.commits + 1} in the story")
        )

    def after_commit(self, batch: Batch, result: CommitResult) -> CommitResult:
        """See `CommitStage`."""
        if result.outcome is not CommitOutcome.DURABLE:
            self._note("commit failed", str(result.error))
            return result
        self.commits += 1
        for jump in self.jumps:
            if jump.commit == self.commits:
                self._jump_clock(jump.seconds)
        lines = self._reader.committed(batch.writes)
        self._note(f"commit {self.commits}", "; ".join(lines))
        if self.plan.reached("commit", "after"):
            self._die(f"after commit {self.commits}")
        elif self._unknown:
            self._unknown = False
            self.ends_itself = True
            self._note("outcome unknown")
            error = StorageFailed(f"nobody knows whether commit {self.commits} is on disk, in the story")
            return CommitResult(CommitOutcome.UNKNOWN, error)
        return result

    def body_begins(self, body: BodyKey, attempt: int) -> bool:
        """See `BodyStage`."""
        if self.plan.reached("step", "before", body.step):
            self._die(f"before the body of {shown_body(body)}")
            return True
        self._note("body", f"{shown_body(body)} begins, attempt {attempt}")
        if (body.step, body.nth) in self._reader.recorded.get(body.run, ()):
            self.reran.append(shown_body(body))
            self._note("broken promise", f"{shown_body(body)} is recorded and runs again")
        return False

    def body_ended(self, body: BodyKey, attempt: int, error: BaseException | None) -> bool:
        """See `BodyStage`."""
        came = "returned" if error is None else f"raised {repr_text(error)}"
        self._note("body", f"{shown_body(body)} {came}")
        if self.plan.reached("step", "after", body.step):
            self._die(f"after the body of {shown_body(body)}")
            return True
        return False


def shown_body(body: BodyKey) -> str:
    """For people: run, step and use."""
    return f"{body.run} step {body.step}" + ("" if body.nth == 1 else f" (use {body.nth})")
