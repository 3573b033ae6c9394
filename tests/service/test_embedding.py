"""actors/embedding.py, service/runtime_of.py and service/fastapi.py: a runtime in somebody's application."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx2 as httpx
import pytest
from fastapi import Depends, FastAPI, Header, WebSocket
from fastapi.testclient import TestClient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from holdfast import Actor, CallerError, Counter, HoldfastError, Runtime
from holdfast.actors.embedding import AsgiOptions
from holdfast.actors.errors import MissingPackage
from holdfast.runtime.errors import NotRunning
from holdfast.service import Token, error_handler, http_app, runtime_of
from holdfast.service.fastapi import actor, runtime
from holdfast.storage.errors import FolderInUse

SECRET = "embedding-embedding-1"
HEADERS = {"Authorization": f"Bearer {SECRET}"}
TOKEN = Token(SECRET, "ann", "operator")


class EmbeddedCart(Actor):
    items: dict[str, int] = {}

    async def add(self, sku: str, n: int = 1) -> int:
        self.items[sku] = self.items.get(sku, 0) + n
        return sum(self.items.values())


async def user(x_user: Annotated[str, Header()]) -> str:
    """Who asks, as an application of one's own finds it."""
    return x_user


def cart_app(rt: Runtime) -> FastAPI:
    app = FastAPI(lifespan=rt.lifespan)
    app.add_exception_handler(HoldfastError, error_handler)
    app.mount("/_holdfast", rt.asgi(tokens=[TOKEN]))

    @app.post("/carts/{user}/{sku}")
    async def add(sku: str, cart: Annotated[EmbeddedCart, Depends(actor(EmbeddedCart, "user"))]) -> int:
        return await cart.add(sku)

    @app.post("/mine/{sku}")
    async def add_mine(sku: str, cart: Annotated[EmbeddedCart, Depends(actor(EmbeddedCart, user))]) -> int:
        return await cart.add(sku)

    @app.post("/counters/{number}")
    async def count(counter: Annotated[Counter, Depends(actor(Counter, "number", key_type=int))]) -> int:
        return await counter.increment()

    @app.get("/keys")
    async def keys(rt: Annotated[Runtime, Depends(runtime)]) -> list[Any]:
        return list(rt.keys(EmbeddedCart))

    @app.websocket("/carts/{user}")
    async def fill(
        websocket: WebSocket, cart: Annotated[EmbeddedCart, Depends(actor(EmbeddedCart, "user"))]
    ) -> None:
        await websocket.accept()
        await websocket.send_json(await cart.add(await websocket.receive_text()))
        await websocket.close()

    return app


def test_fastapi_calls_actors_through_dependencies(folder: Path) -> None:
    """Path parameters, a dependency of one's own, another type of key, and a WebSocket reach their actors."""
    with TestClient(cart_app(Runtime(folder))) as client:
        assert client.post("/carts/ann/pear").json() == 1
        assert client.post("/mine/pear", headers={"x-user": "ann"}).json() == 2
        assert client.post("/counters/7").json() == 1
        assert client.post("/counters/seven").status_code == 422
        with client.websocket_connect("/carts/bo") as websocket:
            websocket.send_text("tea")
            assert websocket.receive_json() == 1
        assert client.get("/keys").json() == ["ann", "bo"]
        parameters = client.get("/openapi.json").json()["paths"]["/counters/{number}"]["post"]["parameters"]
        assert [(one["name"], one["in"], one["schema"]["type"]) for one in parameters] == [
            ("number", "path", "integer")
        ]


def test_an_error_of_holdfast_is_a_problem(folder: Path) -> None:
    """With `error_handler`, an impossible key is the client's fault and not the server's."""
    with TestClient(cart_app(Runtime(folder))) as client:
        response = client.post(f"/carts/{'x' * 2_000}/pear")
        assert response.status_code == 400
        assert response.headers["content-type"] == "application/problem+json"


def test_the_service_is_mounted(folder: Path) -> None:
    """`rt.asgi` is the service, and knows the runtime before it is open."""
    rt = Runtime(folder)
    app = cart_app(rt)
    with TestClient(app) as client:
        assert client.get("/_holdfast/ready").json() == {"status": "ready"}
        assert client.get("/_holdfast/runs").status_code == 401
        assert client.get("/_holdfast/runs", headers=HEADERS).json()["runs"] == []
    assert rt.is_closed


def test_asgi_knows_all_options_of_the_service() -> None:
    """What `http_app` takes, `rt.asgi` takes by the same name."""
    wanted = set(inspect.signature(http_app).parameters) - {"runtime"}
    assert AsgiOptions.__required_keys__ | AsgiOptions.__optional_keys__ == wanted


def test_asgi_refuses_what_is_no_token(folder: Path) -> None:
    """At once, and not with the first request."""
    with pytest.raises(CallerError, match="at least one Token"):
        Runtime(folder).asgi(tokens=[])


async def test_a_lifespan_inside(folder: Path) -> None:
    """The application's own begins in an open runtime and ends before that closes; states are joined."""
    rt = Runtime(folder)
    seen: list[object] = []

    @asynccontextmanager
    async def own(app: Starlette) -> AsyncIterator[dict[str, object]]:
        seen.append(await rt.get(Counter, "starts").increment())
        yield {"colour": "green"}
        seen.append(await rt.get(Counter, "starts").increment())

    app = Starlette(lifespan=rt.lifespan_with(own))
    async with app.router.lifespan_context(app) as state:
        assert state == {"holdfast": rt, "colour": "green"}
    assert seen == [1, 2]
    assert rt.is_closed


def test_a_lifespan_of_ones_own_around(folder: Path) -> None:
    """`async with rt.lifespan(app)` in a lifespan that yields nothing: `runtime_of` finds it all the same."""
    rt = Runtime(folder)

    @asynccontextmanager
    async def own(app: Starlette) -> AsyncIterator[None]:
        async with rt.lifespan(app):
            yield

    async def count(request: Request) -> JSONResponse:
        assert runtime_of(request.app) is rt
        return JSONResponse(await runtime_of(request).get(Counter, "x").increment())

    with TestClient(Starlette(routes=[Route("/", count)], lifespan=own)) as client:
        assert client.get("/").json() == 1


def test_in_a_mounted_application(folder: Path) -> None:
    """The runtime is the whole application's, also where another one is mounted in it."""
    rt = Runtime(folder)

    async def count(request: Request) -> JSONResponse:
        return JSONResponse(await runtime_of(request).get(Counter, "x").increment())

    inner = Starlette(routes=[Route("/", count)])
    with TestClient(Starlette(routes=[Mount("/in", inner)], lifespan=rt.lifespan)) as client:
        assert client.get("/in/").json() == 1


def test_an_application_without_a_runtime() -> None:
    """The error says what to do."""
    app = FastAPI()

    @app.get("/")
    async def look(rt: Annotated[Runtime, Depends(runtime)]) -> None: ...

    with TestClient(app) as client, pytest.raises(NotRunning, match=r"lifespan=rt\.lifespan"):
        client.get("/")
    with pytest.raises(NotRunning, match="has no runtime"):
        runtime_of(Starlette())


async def test_a_folder_in_use(folder: Path) -> None:
    """A second worker is refused by a sentence that says what to do instead."""
    app = Starlette(lifespan=Runtime(folder).lifespan)
    async with Runtime(folder):
        with pytest.raises(
            FolderInUse, match=r"one worker .*a folder each.*over HTTP.*wait_for_folder_seconds"
        ):
            async with app.router.lifespan_context(app):
                pass


async def test_a_lifespan_that_fails_gives_the_folder_back(folder: Path) -> None:
    """What fails behind the opening closes the runtime."""
    rt = Runtime(folder)

    @asynccontextmanager
    async def own(app: object) -> AsyncIterator[None]:
        raise OSError("no database")
        yield

    with pytest.raises(OSError, match="no database"):
        async with rt.lifespan_with(own)(None):
            pass
    assert rt.is_closed


def test_without_starlette(folder: Path) -> None:
    """The error names the command."""
    code = (
        "import sys\n"
        "sys.modules['starlette'] = None\n"
        "from holdfast import Runtime\n"
        "Runtime('x').asgi(tokens=[])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{MissingPackage.__name__}: " in done.stderr
    assert "pip install 'holdfast[service]'" in done.stderr


async def test_through_an_asgi_transport(folder: Path) -> None:
    """Without a server: the lifespan is begun by hand, and `app.state` has the runtime."""
    rt = Runtime(folder)
    app = cart_app(rt)
    async with (
        rt.lifespan(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client,
    ):
        assert (await client.post("/carts/ann/pear")).json() == 1


# -- waiting for the folder ---------------------------------------------------------------------------------


async def test_waits_for_the_folder(folder: Path) -> None:
    """A runtime opens as soon as the one before has closed."""
    first = Runtime(folder)
    await first.open()
    second = Runtime(folder, wait_for_folder_seconds=60)
    tried = asyncio.Event()
    asyncio.get_running_loop().call_later(0, tried.set)
    opening = asyncio.create_task(second.open())
    await tried.wait()
    with pytest.raises(NotRunning, match="not open yet"):
        second.check_open()
    assert not opening.done()
    await first.get(Counter, "x").increment()
    await first.close()
    await opening
    assert await second.get(Counter, "x").increment() == 2
    await second.close()


async def test_waits_no_longer_than_told(folder: Path) -> None:
    """Then it is refused, and may be opened later."""
    second = Runtime(folder, wait_for_folder_seconds=0.01)
    async with Runtime(folder):
        with pytest.raises(FolderInUse):
            await second.open()
    async with second:
        second.check_open()


async def test_waiting_is_cancelled(folder: Path) -> None:
    """Nothing is held by who gave up."""
    second = Runtime(folder, wait_for_folder_seconds=60)
    async with Runtime(folder):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await second.open()
        await second.close()
    async with second:
        second.check_open()
