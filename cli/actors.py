"""Commands about what is stored beside runs: queues, actors with their keys and fields, schedules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

import click
import msgspec

from ..client.errors import NotThere
from ..client.request import path_of
from .output import json_option, one_line, print_json, print_table, seconds_text, short, value_text, when
from .source import Row, Source, in_source, key_path

_QUEUE_VERBS = ("show", "messages", "pause", "resume", "drain", "purge", "remove")
# Keys that one query reads: each is a look at one actor.
MAX_QUERIED = 10_000


@click.command("queues")
@in_source()
@json_option
def queues(source: Source, as_json: bool) -> None:
    """List queues and how they stand.

    How many messages wait, are retried, are dead, and how old the next one is.  Consumers, and what
    they have in hand, are known to the process that has the folder open: ask it by --url.

    Example: holdfast queues data
    """
    found = list(source.rows("/queues", "queues"))
    if as_json:
        print_json({"queues": found})
        return
    print_table(
        ("queue", "status", "waiting", "retrying", "dead", "next is", "consumers"),
        [queue_row(source, one) for one in found],
    )


def queue_row(source: Source, queue: Row) -> tuple[str, ...]:
    """A queue as a row."""
    known = source.folder is None
    consumers = sum(group["consumers"] for group in queue["groups"])
    return (
        queue_name(queue),
        queue["status"],
        str(queue["depth"]),
        str(queue["retrying"]),
        str(queue["dead"]),
        seconds_text(queue["front_age_seconds"]) + " old" if queue["front_age_seconds"] is not None else "-",
        str(consumers) if known else "?",
    )


def queue_name(queue: Row) -> str:
    """A queue as it is named on the command line."""
    return one_line(f"{queue['type']}/{queue['name']}")


@click.command("queue")
@in_source("|".join(_QUEUE_VERBS), "NAME")
@click.option("--type", "kind", default="Queue", metavar="CLASS", help="a subclass of Queue")
@click.option("--reason", default="", metavar="TEXT", help="why, for the audit; purge and remove need it")
@click.option("--limit", type=click.IntRange(1), default=100, metavar="N", help="of messages (100)")
@json_option
def queue(source: Source, verb: str, name: str, *, kind: str, reason: str, limit: int, as_json: bool) -> None:
    """Look at one queue, or steer it.

    `drain` lets nothing more in, while what is there is delivered.  All but `show` and `messages`
    write: the folder must not be in use, or its owner is asked with --url.

    \b
    Examples:
      holdfast queue data messages orders
      holdfast queue --url http://127.0.0.1:8470 drain orders --reason "moving away"
    """
    if verb not in _QUEUE_VERBS:
        raise click.UsageError(f"expected one of {', '.join(_QUEUE_VERBS)}; got {verb!r}")
    name = name.removeprefix(f"{kind}/")
    query = None if kind == "Queue" else {"type": kind}
    if verb == "messages":
        messages = list(source.rows("/queues/messages" + key_path(name), "messages", query, limit=limit))
        if as_json:
            print_json({"messages": messages})
            return
        print_table(
            ("sent", "id", "attempt", "from", "body"),
            [
                (
                    when(one["sent_at"]),
                    one_line(one["id"]),
                    str(one["attempts"]),
                    when(one["available_at"]),
                    short(value_text(one["body"])),
                )
                for one in messages
            ],
        )
        return
    if verb == "show":
        told = source.get("/queues" + key_path(name), query)
    else:
        path = path_of("queues", "control", verb) + key_path(name)
        told = source.send(path, {"reason": reason}, reply=verb != "remove")
    if as_json:
        print_json(told if told is not None else {"removed": name})
    elif told is None:
        print(f"queue {one_line(name)} is removed")
    else:
        purged = f", {told['purged']} messages deleted" if "purged" in told else ""
        print(
            f"{queue_name(told)}: {told['status']}, {told['depth']} waiting, {told['retrying']} retrying, "
            f"{told['dead']} dead{purged}"
        )


@click.command("actors")
@in_source()
@json_option
def actors(source: Source, as_json: bool) -> None:
    """List the types of stored actors.

    With the number of their keys.

    Example: holdfast actors data
    """
    found = source.get("/actors")
    if as_json:
        print_json(found)
        return
    print_table(
        ("type", "keys", "about"),
        [
            (one_line(one["type"]), f"{one['keys']}{'+' if one['more'] else ''}", short(one["about"]))
            for one in found["types"]
        ],
    )


@click.command("keys")
@in_source("TYPE")
@click.option("--prefix", metavar="TEXT", help="keys that begin so")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="so many; all by default")
@json_option
def keys(source: Source, kind: str, *, prefix: str | None, limit: int | None, as_json: bool) -> None:
    """List the keys of a type of actors.

    In their order, and as `get` takes them.

    Example: holdfast keys data Cart --prefix a
    """
    found = list(source.rows(path_of("actors", kind), "actors", {"prefix": prefix}, limit=limit))
    if as_json:
        print_json({"keys": [one["key"] for one in found]})
        return
    for one in found:
        print(one_line(one["name"]))


@click.command("get")
@in_source("TYPE", "KEY")
@json_option
def get(source: Source, kind: str, key: str, *, as_json: bool) -> None:
    """Show one actor as it lies on disk.

    Its fields, its size, its alarms.  A key that is no text is given as JSON behind a tilde: ~7, ~["a",1].

    Example: holdfast get data Cart ann
    """
    found = source.at("actors", f"{kind}/{key}")
    if as_json:
        print_json(found)
        return
    for name, value in found["fields"].items() if isinstance(found["fields"], dict) else ():
        print(f"{one_line(name)} = {value_text(value)}")
    more = "+" if found["more"] else ""
    print(f"{found['rows']}{more} rows, {found['stored_bytes']}{more} bytes")
    for alarm in found["alarms"]:
        print(f"alarm {one_line(alarm['name']) or '(unnamed)'} due {when(alarm['due_at'])}")
    for alarm in found["dead_alarms"]:
        print(f"dead alarm {one_line(alarm['name']) or '(unnamed)'}: {short(alarm['error'])}")


@click.command("query")
@in_source("TYPE", "FIELD=VALUE...", at_least=1)
@click.option("--limit", type=click.IntRange(1), default=100, metavar="N", help="so many actors (100)")
@json_option
def query(source: Source, kind: str, *conditions: str, limit: int, as_json: bool) -> None:
    """Find actors by the values of fields.

    They are shown as they lie on disk.  A VALUE is JSON, or else a text.  Every key is looked at, at
    most 10 000.

    Example: holdfast query data Order status=open cents=1250
    """
    wanted = [_condition(one) for one in conditions]
    found: list[Row] = []
    for looked, one in enumerate(source.rows(path_of("actors", kind), "actors"), 1):
        if looked > MAX_QUERIED:
            click.echo(f"only the first {MAX_QUERIED} keys were looked at", err=True)
            break
        try:
            look = source.get(path_of("actors", kind) + key_path(one["name"]))
        except NotThere:  # deleted meanwhile
            continue
        given: object = look["fields"]
        fields = cast("Row", given) if isinstance(given, dict) else {}
        if all(name in fields and fields[name] == value for name, value in wanted):
            found.append({"key": one["key"], "name": one["name"], "fields": fields})
            if len(found) == limit:
                break
    if as_json:
        print_json({"actors": found})
        return
    for one in found:
        print(f"{one_line(one['name'])}  {short(value_text(one['fields']))}")


def _condition(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        raise click.UsageError(f"expected FIELD=VALUE; got {text!r}")
    try:
        return name, msgspec.json.decode(value)
    except msgspec.DecodeError:
        return name, value


@click.command("schedules")
@in_source()
@click.option("--workflow", metavar="NAME", help="schedules of one workflow")
@json_option
def schedules(source: Source, *, workflow: str | None, as_json: bool) -> None:
    """List schedules.

    What they start, when next, when last, how many times they missed.

    Example: holdfast schedules data
    """
    found = list(source.rows("/schedules", "schedules", {"workflow": workflow}))
    if as_json:
        print_json({"schedules": found})
        return
    print_table(
        ("schedule", "status", "workflow", "next", "last start", "missed"), list(_schedule_rows(found))
    )


def _schedule_rows(found: list[Row]) -> Iterator[tuple[str, ...]]:
    for one in found:
        yield (
            one_line(one["name"]),
            one["status"],
            one_line(one["workflow"]),
            when(one["next_at"]),
            when(one["recent"][-1]["started_at"] if one["recent"] else None),
            str(one["times_missed"]),
        )


COMMANDS = [actors, get, keys, query, queue, queues, schedules]
