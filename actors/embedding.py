"""A runtime inside a web application: it is opened when the application starts, and closed when it ends.

    FastAPI(lifespan=rt.lifespan)                    start -> open ... serving ... -> close -> end
    FastAPI(lifespan=rt.lifespan_with(own))          start -> open -> own ... own -> close -> end
    app.mount("/_holdfast", rt.asgi(tokens=...))     the pages and addresses of service/

No framework is known here: a lifespan is a context manager, and an ASGI app a function of three parameters.
The app behind `asgi` is made a layer above this one; the front door plugs it in (holdfast/asgi.py).
"""

from __future__ import annotations

from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    MutableMapping,
)
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, ClassVar, Final, Protocol, Required, TypeAlias, TypedDict, TypeVar

from ..storage.errors import FolderInUse
from .schedule_calls import ScheduleCalls

if TYPE_CHECKING:
    from typing import Unpack

AppT = TypeVar("AppT")
AsgiMessage: TypeAlias = MutableMapping[str, object]
AsgiApp: TypeAlias = Callable[
    [AsgiMessage, Callable[[], Awaitable[AsgiMessage]], Callable[[AsgiMessage], Awaitable[None]]],
    Awaitable[None],
]
# What the runtime is called in the state of an application and of its requests.
STATE_NAME: Final = "holdfast"
_SEVERAL_WORKERS: Final = (
    "A server whose application has a runtime runs with one worker (uvicorn --workers 1, gunicorn --workers "
    "1).  Other processes get a folder each, by ranges of keys, or ask this one over HTTP.  While an old "
    "process is still closing, Runtime(wait_for_folder_seconds=30) waits for its folder"
)


class AccessToken(Protocol):
    """A `holdfast.service.Token`."""

    @property
    def secret(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def role(self) -> str: ...
    @property
    def tenant(self) -> str | None: ...


class AsgiOptions(TypedDict, total=False):
    """The options of `holdfast.service.http_app`, which says what they mean."""

    tokens: Required[Iterable[AccessToken]]
    origins: Collection[str]
    event_queue: str
    max_body_bytes: int
    max_in_progress: int
    pages: bool
    frame_ancestors: Collection[str]
    open_metrics: bool


class MakeAsgiApp(Protocol):
    """What makes the app of `asgi`."""

    def __call__(self, runtime: EmbeddingCalls, options: AsgiOptions, /) -> AsgiApp: ...


class EmbeddingCalls(ScheduleCalls):
    """What a web application asks of its runtime; a base of `Runtime`."""

    make_asgi_app: ClassVar[MakeAsgiApp]

    @asynccontextmanager
    async def lifespan(self, app: object) -> AsyncGenerator[dict[str, object]]:
        """The lifespan of a FastAPI or Starlette application: the runtime is open as long as it lasts.

            app = FastAPI(lifespan=rt.lifespan)

        The runtime may be made anywhere, also where no loop runs yet.  What it yields is for the state of
        requests, so that `holdfast.service.runtime_of` finds it there.

        Raises what `open` raises; `FolderInUse` says what a server with several workers can do.
        """
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self)
            except FolderInUse as error:
                raise FolderInUse(f"{error}.  {_SEVERAL_WORKERS}") from None
            state: object = getattr(app, "state", None)
            if state is not None:
                setattr(state, STATE_NAME, self)
            yield {STATE_NAME: self}

    def lifespan_with(
        self, own: Callable[[AppT], AbstractAsyncContextManager[Mapping[str, object] | None]]
    ) -> Callable[[AppT], AbstractAsyncContextManager[dict[str, object]]]:
        """A lifespan with one of the application's own inside, which begins when the runtime is open and ends
        before that closes.  The place to set up consumers, bindings and schedules.

            @asynccontextmanager
            async def own(app: FastAPI) -> AsyncIterator[None]:
                rt.bind("orders", FulfilOrder)
                yield

            app = FastAPI(lifespan=rt.lifespan_with(own))
        """

        @asynccontextmanager
        async def both(app: AppT) -> AsyncGenerator[dict[str, object]]:
            async with self.lifespan(app) as state, own(app) as more:
                yield {**state, **(more or {})}

        return both

    def asgi(self, **options: Unpack[AsgiOptions]) -> AsgiApp:
        """The HTTP service as an ASGI app, to be mounted in another one (docs/http.md).

            app.mount("/_holdfast", rt.asgi(tokens=[Token(secret, "ann", "operator")]))

        The runtime may be opened later.  The options are those of `holdfast.service.http_app`.

        Raises `MissingPackage` without Starlette, and `CallerError`.
        """
        return type(self).make_asgi_app(self, options)
