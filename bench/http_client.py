"""The client of the http scenario, a process of its own: keep-alive connections, one request at a time each.

It knows just enough of HTTP for the server's answers, so that the processor's other core is enough for it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from typing import Any


def request_bytes(task: dict[str, Any], n: int) -> bytes:
    """Request number `n`; `%d` of the path or the body is that."""
    path, body = (text.replace("%d", str(n)) for text in (task["path"], task["body"]))
    head = (
        f"{task['method']} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {task['secret']}\r\n"
    )
    if body:
        head += f"content-type: application/json\r\ncontent-length: {len(body)}\r\n"
    return f"{head}\r\n{body}".encode()


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes) -> int:
    """Send one request and read its answer; the status."""
    writer.write(request)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    at = head.index(b"content-length: ") + len(b"content-length: ")
    await reader.readexactly(int(head[at : head.index(b"\r\n", at)]))
    return int(head[9:12])


async def load(task: dict[str, Any]) -> dict[str, Any]:
    """All requests, over so many connections."""
    took: list[float] = []
    statuses: Counter[int] = Counter()
    numbers = iter(range(task["requests"]))
    streams = [await asyncio.open_connection("127.0.0.1", task["port"]) for _ in range(task["connections"])]

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for n in numbers:
            began = time.perf_counter()
            statuses[await ask(reader, writer, request_bytes(task, n))] += 1
            took.append(time.perf_counter() - began)

    began = time.perf_counter()
    await asyncio.gather(*[connection(*one) for one in streams])
    seconds = time.perf_counter() - began
    for _, writer in streams:
        writer.close()
    took.sort()
    at = [took[int(len(took) * part)] * 1000 for part in (0.5, 0.99)]
    return {"per_second": len(took) / seconds, "ms": at, "statuses": statuses}


def main() -> None:
    """`python -m bench.http_client TASK`, the task as JSON; what was found as JSON in a line."""
    task = json.loads(sys.argv[1])
    if task["loop"] == "uvloop":
        import uvloop

        found = uvloop.run(load(task))
    else:
        found = asyncio.run(load(task))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
