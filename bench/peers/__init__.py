"""Other systems that do the same work, each in a process of its own for each repetition.

The parent (``PeerSide``) starts ``python -m bench.peers.<module> '{"workload": ...}'`` in a fresh folder and
reads the result as one line of JSON; the child (``protocol.serve``) does the work, written as the system's
own documentation advises, with the durability that it has when used so.

A peer that cannot run here is left out, and the report says why.
"""

from __future__ import annotations

from typing import NamedTuple


class Peer(NamedTuple):
    """How a peer is measured."""

    module: str
    variant: str
    about: str


PEERS = {
    "dbos-sqlite": Peer(
        "bench.peers.dbos_peer", "sqlite", "DBOS, SQLite as shipped: rollback journal, synchronous=FULL"
    ),
    "dbos-sqlite-wal": Peer(
        "bench.peers.dbos_peer", "sqlite-wal", "DBOS, SQLite with WAL and synchronous=FULL"
    ),
    "dbos-postgresql": Peer(
        "bench.peers.dbos_peer", "postgresql", "DBOS, PostgreSQL with fsync and synchronous_commit"
    ),
    "restate": Peer("bench.peers.restate_peer", "", "Restate server with the Python SDK"),
    "huey-sqlite": Peer("bench.peers.huey_peer", "", "huey, SQLite with WAL and fsync: no memory of steps"),
    "pykka": Peer("bench.peers.pykka_peer", "", "pykka: actors in memory, NOTHING durable"),
}
