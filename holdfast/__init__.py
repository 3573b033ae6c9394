"""Holdfast: durable actors for asyncio.  One process, one folder, no server.

What programs use is imported from here, from `holdfast.testing`, `holdfast.actions`, `holdfast.sql` and
`holdfast.telemetry`; docs/names.md has all of it.  The finer errors are in the modules that docs/errors.md
names.  The folders behind them are the library's own.
"""

from holdfast import asgi as _asgi
from holdfast.actors.actions.action import Action, action
from holdfast.actors.actions.context import ActionContext
from holdfast.actors.actions.executor import run_graph
from holdfast.actors.actions.graph import Node, Outcome, ResultOf
from holdfast.actors.audit import Deed
from holdfast.actors.blobs.blobs import BlobInfo, Blobs
from holdfast.actors.blobs.object_blobs import ObjectBlobs
from holdfast.actors.bulk import BulkResult
from holdfast.actors.correlation import CorrelationFilter, current_correlation_id
from holdfast.actors.counter import Counter
from holdfast.actors.current_step import StepInfo, current_step, heartbeat, last_heartbeat
from holdfast.actors.dead_letter import DeadLetter
from holdfast.actors.durable_queue import DeadMessage, Queue, QueueStats
from holdfast.actors.errors import (
    DeadlinePassed,
    ErrorRecord,
    Fatal,
    RetryAfter,
    RunEnded,
    RunFailed,
    StepError,
)
from holdfast.actors.handle import Run
from holdfast.actors.hub.frames import HubMessage
from holdfast.actors.hub.hub_socket import HubSocket
from holdfast.actors.hub.web_socket_hub import TopicInfo, WebSocketHub
from holdfast.actors.jobs.job_manager import JobManager
from holdfast.actors.jobs.records import Job, JobFigure, RolloutChange, WayFigures
from holdfast.actors.jobs.rollout import rollout
from holdfast.actors.jobs.ways import JobLook, JobWay
from holdfast.actors.json_log import JsonLogFormatter
from holdfast.actors.metrics.alert_rules import AlertLimits
from holdfast.actors.metrics.alerts import Alert
from holdfast.actors.metrics.course import Course, CoursePoint
from holdfast.actors.metrics.metrics import Metrics
from holdfast.actors.queue_batch import Batch, Message
from holdfast.actors.queue_consumer import Consumer
from holdfast.actors.rate_limiter import Allowance, RateLimiter
from holdfast.actors.run_info import RunInfo, RunPage
from holdfast.actors.schedule import Schedule
from holdfast.actors.schedule_records import ScheduleInfo
from holdfast.actors.scheduled_at import scheduled_at
from holdfast.actors.system import Runtime
from holdfast.actors.tenant import Tenant
from holdfast.actors.workflow.about import About
from holdfast.actors.workflow.debugging import DebugView
from holdfast.actors.workflow.events import Event
from holdfast.actors.workflow.function import WorkflowContext, workflow
from holdfast.actors.workflow.head import RunStatus
from holdfast.actors.workflow.listing import WorkflowInfo
from holdfast.actors.workflow.ops import StepOutcome
from holdfast.actors.workflow.progress import ProgressEvent
from holdfast.actors.workflow.retry import Retry
from holdfast.actors.workflow.run_index import RunFilter
from holdfast.actors.workflow.updates import query, update
from holdfast.actors.workflow.workflow import Workflow
from holdfast.actors.workflow_graph import workflow_graph
from holdfast.runtime.actor import Actor
from holdfast.runtime.alarm_scheduler import DeadAlarm
from holdfast.runtime.alarms import Alarm
from holdfast.runtime.errors import DeadlockError
from holdfast.runtime.limits import Limits
from holdfast.runtime.methods import shared
from holdfast.storage.errors import CallerError, HoldfastError, Overloaded, StorageFailed
from holdfast.storage.histogram import Histogram
from holdfast.storage.table import Table

_asgi.plug_in()

__all__ = [
    "About",
    "Action",
    "ActionContext",
    "Actor",
    "Alarm",
    "Alert",
    "AlertLimits",
    "Allowance",
    "Batch",
    "BlobInfo",
    "Blobs",
    "BulkResult",
    "CallerError",
    "Consumer",
    "CorrelationFilter",
    "Counter",
    "Course",
    "CoursePoint",
    "DeadAlarm",
    "DeadLetter",
    "DeadMessage",
    "DeadlinePassed",
    "DeadlockError",
    "DebugView",
    "Deed",
    "ErrorRecord",
    "Event",
    "Fatal",
    "Histogram",
    "HoldfastError",
    "HubMessage",
    "HubSocket",
    "Job",
    "JobFigure",
    "JobLook",
    "JobManager",
    "JobWay",
    "JsonLogFormatter",
    "Limits",
    "Message",
    "Metrics",
    "Node",
    "ObjectBlobs",
    "Outcome",
    "Overloaded",
    "ProgressEvent",
    "Queue",
    "QueueStats",
    "RateLimiter",
    "ResultOf",
    "Retry",
    "RetryAfter",
    "RolloutChange",
    "Run",
    "RunEnded",
    "RunFailed",
    "RunFilter",
    "RunInfo",
    "RunPage",
    "RunStatus",
    "Runtime",
    "Schedule",
    "ScheduleInfo",
    "StepError",
    "StepInfo",
    "StepOutcome",
    "StorageFailed",
    "Table",
    "Tenant",
    "TopicInfo",
    "WayFigures",
    "WebSocketHub",
    "Workflow",
    "WorkflowContext",
    "WorkflowInfo",
    "action",
    "current_correlation_id",
    "current_step",
    "heartbeat",
    "last_heartbeat",
    "query",
    "rollout",
    "run_graph",
    "scheduled_at",
    "shared",
    "update",
    "workflow",
    "workflow_graph",
]
