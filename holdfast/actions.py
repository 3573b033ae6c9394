"""`holdfast.actions`: the actions that are there, and what lists them.

SQL actions are in `holdfast.sql`, since they need the extra `sql`.
"""

from holdfast.actors.actions.action import ActionInfo
from holdfast.actors.actions.built_in import (
    Approval,
    Notification,
    Notifier,
    approve,
    emit,
    http,
    log_event,
    notify,
    sleep,
)
from holdfast.actors.actions.http_action import HttpAnswer
from holdfast.actors.actions.parameters import Parameter
from holdfast.actors.actions.registry import find_action, registered_actions

__all__ = [
    "Approval",
    "ActionInfo",
    "HttpAnswer",
    "Notification",
    "Notifier",
    "Parameter",
    "approve",
    "emit",
    "find_action",
    "http",
    "log_event",
    "notify",
    "registered_actions",
    "sleep",
]
