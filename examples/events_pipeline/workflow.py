"""`ProcessEvent`: validate, store, update metrics; then the event is delivered.

    validate-event   no effect; an invalid event is `Fatal`
    store-event      the row, pending
    update-metrics   the row is counted
    (deliver)        the row becomes delivered, and is counted so: a call of run() itself, one commit
    StepError        the row becomes failed and is counted so; the run fails and is kept as a dead letter

The run's id is the event's id and the batch's (`run_key`), so an event that is sent twice is one run.
"""

from __future__ import annotations

import logging
from datetime import datetime

from holdfast import Retry, StepError, Workflow

from .events import ProcessEventInput, ProcessEventOutput, check_event
from .logs import StepLog
from .step_watch import StepWatch, tell_watch
from .store import STORE_KEY, EventStore

_log = logging.getLogger(__name__)
MAX_RUN_SECONDS = 30.0


class ProcessEvent(Workflow):
    """One event on its way.

    Four attempts of 3 s each with waits of 0.2, 0.4 and 0.8 s (and up to a quarter more) between them are
    under 14 s, and only two steps can wait for anything: a run is over within `MAX_RUN_SECONDS`.
    """

    retry = Retry(3, "0.2s", "exponential")
    step_timeout = "3s"

    async def run(self, event: ProcessEventInput) -> ProcessEventOutput:
        """The three steps, and what follows from how they went."""
        store = self._store()
        try:
            await self.step(self.validate_event, event, name="validate-event")
            stored_at = await self.step(self.store_event, event, name="store-event")
            await self.step(self.update_metrics, event.event_id, name="update-metrics")
        except StepError:
            if event.event_id:
                await store.fail(event)
            raise
        await store.deliver(event.event_id)
        return ProcessEventOutput(event_id=event.event_id, status="success", stored_at=stored_at)

    def validate_event(self, event: ProcessEventInput) -> None:
        """Step 1: is it an event at all?"""
        with StepLog(_log, event.event_id):
            tell_watch(self.runtime.deps.find(StepWatch))
            check_event(event)

    async def store_event(self, event: ProcessEventInput) -> datetime:
        """Step 2: its row."""
        with StepLog(_log, event.event_id):
            tell_watch(self.runtime.deps.find(StepWatch))
            return await self._store().accept(event)

    async def update_metrics(self, event_id: str) -> None:
        """Step 3: it is counted."""
        with StepLog(_log, event_id):
            tell_watch(self.runtime.deps.find(StepWatch))
            await self._store().count(event_id)

    def _store(self) -> EventStore:
        return self.runtime.get(EventStore, STORE_KEY)
