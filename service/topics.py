"""What a client has of a topic already, as its request says it.

It stands in the address, or in a header:

    ?since=12                 one topic
    ?since=job:7:12           the number behind the last colon, once for each topic
    ?since=latest             the last message, then what comes
    Last-Event-ID             what `event_id` gave, which a browser sends by itself when it comes back
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Final

from starlette.requests import HTTPConnection

from ..actors.hub.web_socket_hub import WebSocketHub, check_topic, durable_storage, last_number
from ..runtime.ref import Ref
from ..storage.errors import CallerError

# 100 topics of 12 hexadecimal digits, a sign and a number; and as much again.
MAX_EVENT_ID_CHARACTERS: Final = 8_000
_DIGEST_BYTES: Final = 6
_MOST_DIGITS: Final = 18


def wanted_topics(
    connection: HTTPConnection, hub: Ref, topics: Iterable[str], *, otherwise: str | None = None
) -> dict[str, int | None]:
    """The topics that the server grants, each with the number that the client has; raises `CallerError`.

    otherwise   what is taken for `since` where the client says none
    """
    if isinstance(topics, str):
        raise CallerError(f"topics are several texts; got the text {topics!r}")
    wanted: dict[str, int | None] = dict.fromkeys(topics)
    for topic in wanted:
        check_topic(topic)
    for given in connection.query_params.getlist("since"):
        topic, _, text = given.rpartition(":")
        if not topic:
            if len(wanted) != 1:
                raise CallerError(
                    f"since={given}: with several topics it is since=TOPIC:NUMBER, once for each"
                )
            (topic,) = wanted
        if topic not in wanted:
            raise CallerError(f"since={given}: {topic!r} is none of the topics of this address")
        wanted[topic] = _number(hub, topic, text)
    if otherwise is not None:
        for topic, since in wanted.items():
            if since is None:
                wanted[topic] = _number(hub, topic, otherwise)
    told = _last_event_id(connection.headers)
    return {topic: told.get(_digest(topic), since) for topic, since in wanted.items()}


def _number(hub: Ref, topic: str, text: str) -> int | None:
    if text == "latest":
        last = last_number(durable_storage(hub), topic)
        return last - 1 if last else None
    if not _is_number(text):
        raise CallerError(f"since: expected the number of a message, or latest; got {text!r}")
    return int(text)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS


def event_id(numbers: Mapping[str, int]) -> str:
    """What a client has of each topic, short and in ASCII, however the topics are called."""
    return ",".join(f"{_digest(topic)}={number}" for topic, number in numbers.items())


def _digest(topic: str) -> str:
    return blake2b(topic.encode(), digest_size=_DIGEST_BYTES).hexdigest()


def _last_event_id(headers: Mapping[str, str]) -> dict[str, int]:
    given = headers.get("last-event-id", "")
    if not given:
        return {}
    found: dict[str, int] = {}
    for one in given.split(",") if len(given) <= MAX_EVENT_ID_CHARACTERS else [""]:
        digest, _, number = one.partition("=")
        if not digest or not _is_number(number):
            raise CallerError(f"Last-Event-ID is none that this server gave: {given[:100]!r}")
        found[digest] = int(number)
    return found


def hub_ref(hub: WebSocketHub) -> Ref:
    """The ref that `rt.get` gives, by its own name; raises `CallerError` for anything else."""
    given: object = hub
    if not isinstance(given, Ref):
        raise CallerError(f"expected a hub, rt.get(WebSocketHub, key); got {given!r}")
    return given
