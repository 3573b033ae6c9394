"""Holdfast: durable actors for asyncio.  One process, one folder, no server.

Everything a user needs is imported from here; the folders behind it are the library's own.
"""

from holdfast.actors.correlation import CorrelationFilter, current_correlation_id
from holdfast.actors.counter import Counter
from holdfast.actors.current_step import StepInfo, current_step
from holdfast.actors.durable_queue import Queue
from holdfast.actors.errors import Fatal, RunFailed, StepError
from holdfast.actors.handle import DeadLetter, Run
from holdfast.actors.queue_batch import Batch, Message
from holdfast.actors.system import Runtime
from holdfast.actors.workflow.retry import Retry
from holdfast.actors.workflow.workflow import Workflow
from holdfast.runtime.actor import Actor
from holdfast.runtime.alarms import Alarm
from holdfast.runtime.errors import DeadlockError
from holdfast.runtime.limits import Limits
from holdfast.runtime.methods import shared
from holdfast.storage.errors import CallerError, HoldfastError, Overloaded, StorageFailed
from holdfast.storage.table import Table

__all__ = [
    "Actor",
    "Alarm",
    "Batch",
    "CallerError",
    "CorrelationFilter",
    "Counter",
    "DeadLetter",
    "DeadlockError",
    "Fatal",
    "HoldfastError",
    "Limits",
    "Message",
    "Overloaded",
    "Queue",
    "Retry",
    "Run",
    "RunFailed",
    "Runtime",
    "StepError",
    "StepInfo",
    "StorageFailed",
    "Table",
    "Workflow",
    "current_correlation_id",
    "current_step",
    "shared",
]
