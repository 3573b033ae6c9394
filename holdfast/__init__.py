"""Holdfast: durable actors for asyncio.  One process, one folder, no server.

Everything a user needs is imported from here; the folders behind it are the library's own.
"""

from holdfast.actors.counter import Counter
from holdfast.actors.durable_queue import Queue
from holdfast.actors.errors import Fatal, StepError
from holdfast.actors.system import Runtime
from holdfast.actors.workflow.retry import Retry
from holdfast.actors.workflow.workflow import Workflow
from holdfast.runtime.actor import Actor
from holdfast.runtime.alarms import Alarm
from holdfast.runtime.errors import DeadlockError
from holdfast.runtime.limits import Limits
from holdfast.runtime.methods import shared
from holdfast.storage.errors import HoldfastError, Overloaded, StorageFailed

__all__ = [
    "Actor",
    "Alarm",
    "Counter",
    "DeadlockError",
    "Fatal",
    "HoldfastError",
    "Limits",
    "Overloaded",
    "Queue",
    "Retry",
    "Runtime",
    "StepError",
    "StorageFailed",
    "Workflow",
    "shared",
]
