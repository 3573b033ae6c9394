"""An event pipeline on Holdfast: validate, store, update metrics; one run for each event.

    queue `event-queue` -> ProcessEvent: validate-event -> store-event -> update-metrics -> delivered
            |                   |                                                  (StepError) -> failed
            +-- undecodable ----+-- failed runs ---> dead letters, shown as `event-dlq`

events.py      what is sent, what comes out
store.py       the actor that owns the table `events` and, in the same commits, the counters
metrics.py     the counters
workflow.py    the three steps
pipeline.py    wires queue, workflow and dead letters on a runtime
logs.py        one JSON object for each log line
step_watch.py  who may look on (or make trouble) when a step begins: for tests
source.py, intake.py, progress.py, demo.py    `holdfast demo`
"""
