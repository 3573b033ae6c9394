"""`current_step()`: a step's body knows where it belongs."""

from __future__ import annotations

from pathlib import Path

import msgspec

from holdfast import Retry, Runtime, StepInfo, Workflow, current_step

_seen: list[StepInfo | None] = []


class Looks(Workflow):
    """Two uses of one step; the first attempt of each fails."""

    name = "CurrentStepLooks"
    retry = Retry(1, 0)

    async def run(self) -> None:
        await self.step(look)
        await self.step(look)


async def look() -> None:
    """Fails every other time."""
    _seen.append(current_step())
    if len(_seen) % 2:
        raise ConnectionError("again")


async def test_a_body_knows_its_step(tmp_path: Path) -> None:
    """Workflow, run, name, use, attempt and correlation id; nothing outside a step."""
    _seen.clear()
    async with Runtime(tmp_path) as runtime:
        run = await runtime.start(Looks, id=("a", 1), correlation_id="c")
        await run.result()
    seen = [step for step in _seen if step is not None]
    assert [msgspec.structs.replace(step, idempotency_key="") for step in seen] == [
        StepInfo("CurrentStepLooks", "a/1", "look", nth, attempt, "c") for nth in (1, 2) for attempt in (1, 2)
    ]
    assert [step.idempotency_key[-7:] for step in seen] == ["#look#1", "#look#1", "#look#2", "#look#2"]
    assert current_step() is None
