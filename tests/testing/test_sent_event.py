"""testing/sent_event.py: events in replay_property and check_replay, and what their stories find."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import strategies as st

from holdfast import CallerError, Workflow
from holdfast.actors.errors import InvalidEvent
from holdfast.testing import Crash, ReplayViolation, SentEvent, Storm, check_replay, replay_property
from tests.testing.support import run_pasted


class Approve(msgspec.Struct, frozen=True):
    """An event."""

    by: str


class Reject(msgspec.Struct, frozen=True):
    """Another."""

    why: str = ""


class TwoDayApproval(Workflow):
    """The first word within two days counts."""

    async def run(self, order: str) -> str:
        try:
            word = await self.wait(Approve | Reject, timeout="2d")
        except TimeoutError:
            return "timed out"
        return f"approved by {word.by}" if isinstance(word, Approve) else "rejected"


class ForgetsWords(Workflow):
    """Waits for two events, and keeps the first in a place that a crash takes."""

    async def run(self) -> list[object]:
        SEEN.append((await self.wait("word")).payload)
        SEEN.append((await self.wait("word")).payload)
        return list(SEEN)


SEEN: list[object] = []
WORDS = st.builds(Approve, st.sampled_from(["ann", "bob"])) | st.just(Reject())
# Also in the very second in which the time is up.
MOMENTS = st.integers(0, 3 * 86_400) | st.just(2 * 86_400)


def test_a_race_of_events_and_a_timeout_passes() -> None:
    """Sent at any moment, twice: the first word counts, whatever crashes and fails."""
    replay_property(
        TwoDayApproval,
        inputs=st.just("o-1"),
        events=WORDS,
        event_times=MOMENTS,
        crashes=3,
        duplicates=2,
        runs=2,
        examples=60,
    )


def test_the_order_of_events_is_a_storm() -> None:
    """A workflow whose result depends on which of two words is first is told so by name of the storm."""
    with pytest.raises(ReplayViolation) as caught:
        replay_property(
            TwoDayApproval, inputs=st.just("o-1"), events=WORDS, reorder=True, crashes=0, examples=300
        )
    storm = caught.value.storm
    assert storm is not None
    assert storm == Storm(event_order=storm.event_order)
    assert len(caught.value.events) >= 2


def forget() -> list[object]:
    """A new story begins."""
    SEEN.clear()
    return []


def test_the_smallest_story_with_events_is_a_test_to_paste(tmp_path: Path) -> None:
    """Events stand in the script, and the script finds the same."""
    with pytest.raises(ReplayViolation) as caught:
        replay_property(
            ForgetsWords, events=st.tuples(st.just("word"), st.integers(0, 9)), deps=forget, examples=200
        )
    message = str(caught.value)
    assert "events=[SentEvent('word', at=" in message
    assert message.count("Crash(") <= 1
    told = run_pasted(message, tmp_path)
    assert "run-1 ended otherwise" in told


def test_runs_that_still_wait_are_compared_as_they_wait() -> None:
    """Nothing that is sent ends them, and that is no violation."""
    check_replay(
        ForgetsWords, [()], Storm(crashes=(Crash("commit", 2),)), events=[SentEvent("other", 5.0, payload=1)]
    )


def test_nonsense_is_refused() -> None:
    """What is wrong with an event is told before a story is played."""
    for events, match in (
        (["word"], "expected a SentEvent"),
        ([SentEvent("word", at=-1.0)], "within ten years"),
        ([SentEvent("word", run=2)], "for run 2, and the story has 1"),
    ):
        with pytest.raises(CallerError, match=match):
            check_replay(ForgetsWords, [()], Storm(), events=events)  # type: ignore[arg-type]
    with pytest.raises(InvalidEvent):
        check_replay(ForgetsWords, [()], Storm(), events=[SentEvent("")])
    with pytest.raises(CallerError, match="not for those that a queue starts"):
        check_replay(TwoDayApproval, ["a"], Storm(), events=[SentEvent(Reject())], queue="q")
    with pytest.raises(CallerError, match="order of events"):
        check_replay(TwoDayApproval, ["a"], Storm(event_order=(1,)), events=[SentEvent(Reject())])
