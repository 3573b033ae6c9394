"""What a client has of a topic already, as its request says it.

?since=12                 one topic
?since=job:7:12           the number behind the last colon, once for each topic
?since=latest             the last message, then what comes
Last-Event-ID: {"job:7":12}       what a browser sends by itself when it connects to a stream again
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec
from starlette.requests import HTTPConnection

from ..actors.hub.web_socket_hub import WebSocketHub, check_topic, durable_storage, last_number
from ..runtime.ref import Ref
from ..storage.errors import CallerError

MAX_HEADER_CHARACTERS: Final = 8_000
_decode_last_id = msgspec.json.Decoder(dict[str, int]).decode


def wanted_topics(connection: HTTPConnection, hub: Ref, topics: Iterable[str]) -> dict[str, int | None]:
    """The topics that the server grants, each with the number that the client has; raises `CallerError`."""
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
    for topic, number in _last_event_id(connection.headers).items():
        if topic in wanted:
            wanted[topic] = number
    return wanted


def _number(hub: Ref, topic: str, text: str) -> int:
    if text == "latest":
        return max(0, last_number(durable_storage(hub), topic) - 1)
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise CallerError(f"since: expected the number of a message, or latest; got {text!r}")
    return int(text)


def _last_event_id(headers: Mapping[str, str]) -> dict[str, int]:
    given = headers.get("last-event-id", "")
    if not given or len(given) > MAX_HEADER_CHARACTERS:
        return {}
    try:
        numbers = _decode_last_id(given)
    except msgspec.MsgspecError as error:
        raise CallerError(f"Last-Event-ID is none that this server gave: {error}") from error
    return {topic: number for topic, number in numbers.items() if number >= 0}


def hub_ref(hub: WebSocketHub) -> Ref:
    """The ref that `rt.get` gives, by its own name; raises `CallerError` for anything else."""
    given: object = hub
    if not isinstance(given, Ref):
        raise CallerError(f"expected a hub, rt.get(WebSocketHub, key); got {given!r}")
    return given
