"""A service of Holdfast (service/) from another program, over HTTP.

Needs `holdfast[client]`.

    from holdfast.client import AsyncWorkflowClient, WorkflowClient

Every call is plain data first (request.py, answer.py, tries.py); two drivers send it (http_client.py).
"""

from .errors import (
    AccessRefused,
    BadAnswer,
    Conflict,
    NotThere,
    ResultLate,
    RunUnsuccessful,
    ServiceBusy,
    ServiceError,
    ServiceFailed,
    ServiceRefused,
    ServiceUnreachable,
)
from .http_client import AsyncClient, Client
from .views import (
    GoneRun,
    HistoryRecord,
    ProgressEvent,
    RunDetails,
    RunError,
    RunState,
    RunUpdate,
    Step,
    TrackerFrame,
    WorkflowState,
)
from .workflow_client import AsyncWorkflowClient, WorkflowClient

__all__ = [
    "AsyncClient",
    "AsyncWorkflowClient",
    "Client",
    "WorkflowClient",
    # what they give
    "GoneRun",
    "HistoryRecord",
    "ProgressEvent",
    "RunDetails",
    "RunError",
    "RunState",
    "RunUpdate",
    "Step",
    "TrackerFrame",
    "WorkflowState",
    # errors
    "AccessRefused",
    "BadAnswer",
    "Conflict",
    "NotThere",
    "ResultLate",
    "RunUnsuccessful",
    "ServiceBusy",
    "ServiceError",
    "ServiceFailed",
    "ServiceRefused",
    "ServiceUnreachable",
]
