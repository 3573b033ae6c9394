"""What goes wrong in a story, set by the test: crashes to come, commits and steps that fail or are slow.

What is set is counted from that moment on, also over further lives; the stage (stage.py) acts on it.
"""

from __future__ import annotations

from collections.abc import Callable

from ..runtime.durations import Duration, to_seconds
from ..storage.commit_log import CommitOutcome
from ..storage.errors import CallerError
from .checks import check_callable, check_count, check_step_name
from .crash import WHENS, Crash, Place, When
from .sim_process import SimProcess
from .storm import Storm, check_storm


class SimFaults(SimProcess):
    """Part of `Simulation`."""

    # -- crashes to come -----------------------------------------------------------------------------------

    def crash_at(
        self, at: Place | Crash = "commit", n: int = 1, when: When = "after", *, step: str | None = None
    ) -> None:
        """Let the process die at a place, counted from now; then the folder is opened again by itself.

        at, n, when, step   see `Crash`; a `Crash` may be given whole.  With `step`, `at` is "step".

        Raises `CallerError` when there is no such place.
        """
        if isinstance(at, Crash):
            crash = at
        else:
            crash = Crash("step" if step is not None else at, n, when, step)
        self._stage.plan.add([crash])
        self._watch_callbacks()

    def crash_at_random(self, probability: float = 0.1, *, most: int = 3) -> None:
        """From now on let the process die at places chosen by the seed, at most `most` times."""
        self._stage.plan.at_random(probability, most)

    def no_more_crashes(self) -> None:
        """Take back crashes that were not reached yet."""
        self._stage.plan.clear()
        self._watch_callbacks()

    @property
    def crashes_to_come(self) -> list[Crash]:
        """Crashes that were set and not reached yet."""
        return self._stage.plan.waiting

    @property
    def places(self) -> list[Crash]:
        """Where the process could have died since the story began: before and after each commit and body.

        Set one of them in another story of the same kind to see what becomes of it.
        """
        return self._stage.plan.places()

    @property
    def callbacks(self) -> int:
        """Callbacks of the event loop in this life: between any two the process can die, too."""
        return self._loop.callbacks

    # -- faults --------------------------------------------------------------------------------------------

    def fail_commit(self, n: int = 1, *, unknown: bool = False) -> None:
        """Let the disk refuse the n-th commit from now: everything that rests on it fails (`StorageFailed`).

        With `unknown` nobody can know whether it is on disk (here it is), and the process ends itself.
        """
        check_count(n, "the number of a commit that fails")
        self._stage.failing.append((n, CommitOutcome.UNKNOWN if unknown else CommitOutcome.NOT_HAPPENED))

    def delay_commits(self, duration: Duration) -> None:
        """Let each commit take so long from now on, in virtual time."""
        self._stage.slow_seconds = to_seconds(duration, what="the time of a commit")

    def fail_step(
        self,
        step: str,
        times: int = 1,
        *,
        error: Callable[[], Exception] | None = None,
        when: When = "before",
    ) -> None:
        """Let the next attempts of a step fail.

        error   makes what they raise; a `ConnectionError` by default
        when    "before": the body does not run.  "after": it ran, and its answer is lost
        """
        check_step_name(step)
        check_count(times, "how often a step fails")
        if when not in WHENS:
            raise CallerError(f"a step fails before or after its body; got when={when!r}")
        if error is not None:
            check_callable(error, "error, which makes what a step raises,")
        self._stage.bodies.fail(
            step, times, error or (lambda: ConnectionError(f"step {step} fails in the story")), when
        )

    def delay_step(self, step: str, duration: Duration) -> None:
        """Let each body of a step begin so much later, in virtual time."""
        check_step_name(step)
        self._stage.bodies.delay(step, to_seconds(duration, what=f"the delay of step {step}"))

    def mock_step(self, step: str, function: Callable[..., object]) -> None:
        """Run another function in place of a step's own, with the same arguments, from now on."""
        check_step_name(step)
        check_callable(function, f"what stands in for step {step}")
        self._stage.bodies.replaced[step] = function

    def face(self, storm: Storm) -> None:
        """Let a storm come, counted from now; its seed, duplicates and order are the test's business."""
        check_storm(storm)
        self._stage.plan.add(storm.crashes)
        self._stage.bodies.fail_some(storm.failing_bodies, storm.lost_answers)
        for n in storm.failing_commits:
            self.fail_commit(n)
        for n in storm.unknown_commits:
            self.fail_commit(n, unknown=True)
        self._stage.slow_seconds = storm.slow_commits_ms / 1000
        self._stage.jumps = storm.clock_jumps
