"""`holdfast.sql`: actions in transactions of a SQL database (extra `sql`)."""

from holdfast.actors.actions.sql_action import Isolation, sql_action
from holdfast.actors.actions.sql_database import SqlDatabase

__all__ = ["Isolation", "SqlDatabase", "sql_action"]
