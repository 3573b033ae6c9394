"""Erasing an actor: a turn of its own removes all that is stored of it, its address too."""

from __future__ import annotations

from ..runtime.actor import Actor, activation_of
from ..runtime.chain import after_commit
from ..storage.keys import next_prefix


def erase_actor(actor: Actor) -> None:
    """Remove everything of the actor with the commit of its turn, which may not change its fields.

    Rows of tables that it shares with others stay.
    """
    activation = activation_of(actor)
    turn = activation.current_turn()
    actor.alarms.clear()
    base = activation.prefix(b"")
    for key, _ in activation.scan(base, next_prefix(base), False, None):
        turn.root.writes[key] = None
    for key in activation.index_entries:
        turn.root.writes[key] = None
    turn.root.writes[activation.ref.directory_key] = None
    directory = activation.system.directory
    after_commit(turn, lambda _: directory.drop(activation))
