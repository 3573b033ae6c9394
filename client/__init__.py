"""A service of Holdfast (service/) from another program, over HTTP.

Needs `holdfast[client]`.

    from holdfast.client import AsyncClient, Client

Every call is plain data first (request.py, answer.py, tries.py); two drivers send it (http_client.py).
"""

from .errors import (
    AccessRefused,
    BadAnswer,
    Conflict,
    NotThere,
    ServiceBusy,
    ServiceError,
    ServiceFailed,
    ServiceRefused,
    ServiceUnreachable,
)
from .http_client import AsyncClient, Client

__all__ = [
    "AsyncClient",
    "Client",
    # errors
    "AccessRefused",
    "BadAnswer",
    "Conflict",
    "NotThere",
    "ServiceBusy",
    "ServiceError",
    "ServiceFailed",
    "ServiceRefused",
    "ServiceUnreachable",
]
