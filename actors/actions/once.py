"""An action once for a key: what is recorded of it, and who runs it meanwhile.

Outside of runs a key and a result are all that ties attempts together; an actor keeps them, one for each
action.

    free -> (begun) -> done -> free (after its time)
              -> free        the handler raised: it ended, and may be tried again
              -> interrupted the process died, or the attempt was cancelled; only with on_interrupted="fail"

Promises
  * The same key at the same time runs the handler once; all get the result, or the error.
  * A recorded result is given again for as long as it is kept; the handler doesn't run.
  * With "retry" nothing is written before the handler: an attempt that was cut off is repeated (at least
    once).
  * With "fail" `begun` is on disk before the handler begins, so an attempt that was cut off is never repeated
    (at most once); that it was begun is kept for good.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Coroutine, Mapping
from contextvars import Context
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, TypeVar

import msgspec

from ...runtime.actor import Actor
from ...runtime.chain import CALLER
from ...runtime.codec import BAD_VALUE, ENCODER, reason
from ...runtime.methods import shared
from ...storage.errors import CallerError
from ..correlation import CORRELATION_ID
from ..errors import ActionInterrupted, ActionKeyReused, Fatal, InvalidParameters, TransactionConflict
from ..workflow.live_run import LiveRun
from ..workflow.retry import Retry
from ..workflow.step_key import short_key
from ..workflow.step_plan import MAX_RESULT_BYTES
from .action import Action
from .context import ActionContext, plain_context
from .parameters import digest_of
from .registry import find_action

if TYPE_CHECKING:
    from ..system import Runtime

T = TypeVar("T")
_DIGEST_BYTES: Final = 16
# Where a step has the key, its own record ends the need for this one: long enough for any stay on disk.
KEEP_IN_RUNS_SECONDS: Final = 30 * 86_400.0
# Conflicts of transactions end within milliseconds: ten tries, up to two seconds apart, outlast busy times.
_CONFLICTS: Final = Retry(10, "20ms", cap="2s", jitter=1.0)
State = Literal["begun", "done", "other", "interrupted"]


class Kept(msgspec.Struct, array_like=True, frozen=True):
    """What is stored for a key."""

    parameters: bytes
    """Digest of the parameters."""
    result: bytes | None = None
    """None while an attempt is begun."""


class Found(msgspec.Struct, frozen=True):
    """What there was for a key."""

    state: State | None = None
    result: bytes = b""


class ActionResults(Actor):
    """Results of one action by key; the actor's key is the action's name."""

    _holdfast_owned: ClassVar[bool] = True

    @shared
    async def find(self, key: bytes, parameters: bytes) -> Found:
        """What is recorded for a key."""
        return self._look(key, parameters)

    async def begin(self, key: bytes, parameters: bytes) -> Found:
        """Note that an attempt begins, unless there is something for the key."""
        found = self._look(key, parameters)
        if found.state is None:
            self.storage.put(key, Kept(parameters))
        return found

    async def finish(self, key: bytes, parameters: bytes, result: bytes, keep_seconds: float) -> None:
        """Keep the result."""
        self.storage.put(key, Kept(parameters, result), ttl=keep_seconds)

    async def take_back(self, key: bytes) -> None:
        """The attempt ended without a result; the key is free."""
        self.storage.delete(key)

    def _look(self, key: bytes, parameters: bytes) -> Found:
        kept = self.storage.get(key, Kept)
        if kept is None:
            return Found()
        if kept.parameters != parameters:
            return Found("other")
        return Found("interrupted") if kept.result is None else Found("done", kept.result)


class ActionHub:
    """`rt.actions`: actions outside of runs, by name or as objects."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        # Attempts in progress, by action and key.
        self._running: dict[tuple[str, str], tuple[bytes, asyncio.Task[object]]] = {}

    async def execute(
        self,
        name: str,
        parameters: Mapping[str, object] | None = None,
        *,
        key: str | None = None,
        tenant: str | None = None,
        event_id: str | None = None,
    ) -> object:
        """Run an action by name, outside of a run; with a key it is `Action.once`.

        Raises `UnknownAction` and `InvalidParameters`, and what the action raises.
        """
        action = find_action(name).with_options(tenant=tenant, event_id=event_id)
        if parameters is not None and not isinstance(parameters, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidParameters(f"action {name}: expected parameters by name; got {parameters!r}")
        values = action.handler.plan.check((), parameters or {})
        if key is not None:
            return await self.once(action, key, values)
        self._check_caller(action)
        return await action.call_handler(self._context(action, None), values)

    async def once(self, action: Action[..., Any], key: str, values: tuple[object, ...]) -> object:
        """See `Action.once`; the parameters are checked already."""
        self._check_caller(action)
        if not key or not isinstance(key, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise CallerError(f"action {action.name}: expected a key, a text that isn't empty; got {key!r}")
        context = self._context(action, key)
        digest = digest_of(values)
        place = (action.name, context.idempotency_key)
        running = self._running.get(place)
        if running is None:
            # In a context of its own: it belongs to no turn and no step, and goes on when who asked has left.
            own = Context()
            own.run(CORRELATION_ID.set, context.correlation_id)
            work = self._perform(action, context, values, digest)
            task = self._runtime.loop.create_task(work, name=f"action {action.name}", context=own)
            running = self._running[place] = (digest, task)
            task.add_done_callback(lambda task: self._ended(place, task))
        elif running[0] != digest:
            raise _reused(action, context.idempotency_key)
        return await asyncio.shield(running[1])

    async def release(self, name: str, key: str) -> None:
        """Free a key, as `ActionInterrupted` tells it: somebody looked, and the action may run again.

        A run that failed by that can be redriven then.  Raises `UnknownAction`.
        """
        await self._results(find_action(name)).take_back(_digest_of_key(key))

    async def perform_guarded(
        self, action: Action[..., Any], context: ActionContext, values: tuple[object, ...]
    ) -> object:
        """An attempt of a step whose action has `on_interrupted="fail"`; the step's key is the record's."""
        return await self._at_most_once(action, context, values, digest_of(values), KEEP_IN_RUNS_SECONDS)

    def _ended(self, place: tuple[str, str], task: asyncio.Task[object]) -> None:
        del self._running[place]
        if not task.cancelled():
            task.exception()  # seen, also when all who waited for it have left

    def abandon(self) -> None:
        """Cancel what is in progress."""
        for _, task in self._running.values():
            task.cancel()

    async def stop(self) -> None:
        """Cancel what is in progress, and wait until it has let go."""
        tasks = [task for _, task in self._running.values()]
        self.abandon()
        if tasks:
            await asyncio.wait(tasks)

    def _context(self, action: Action[..., Any], key: str | None) -> ActionContext:
        context = plain_context(action.name, tenant=action.tenant, event_id=action.event_id)
        if key is not None:
            key = short_key(f"{action.name}/{key}")
            context = dataclasses.replace(context, idempotency_key=key, is_keyed=True)
        return dataclasses.replace(context, runtime=self._runtime)

    def _check_caller(self, action: Action[..., Any]) -> None:
        self._runtime.check_open()
        if isinstance(CALLER.get(), LiveRun):
            raise CallerError(
                f"run() ran action {action.name} outside of a step, so it would run again on each replay; "
                "use self.run_action(...)"
            )

    async def _perform(
        self, action: Action[..., Any], context: ActionContext, values: tuple[object, ...], digest: bytes
    ) -> object:
        if action.on_interrupted == "fail":
            return await self._at_most_once(action, context, values, digest, action.keep_seconds)
        results, key = self._results(action), _record_key(context)
        found = await results.find(key, digest)
        if found.state is not None:
            return _answer(action, context, found)
        result = await self._with_retries(action, context, values)
        encoded = _encode(action, result)
        await results.finish(key, digest, encoded, action.keep_seconds)
        return _decode(action, encoded)

    async def _with_retries(
        self, action: Action[..., Any], context: ActionContext, values: tuple[object, ...]
    ) -> object:
        """Attempts of one call: what waits between them is the call, in memory."""
        while True:
            try:
                return await action.call_handler(context, values)
            except Exception as error:
                retry = action.retry or (_CONFLICTS if isinstance(error, TransactionConflict) else None)
                if retry is None or context.attempt > retry.limit or isinstance(error, Fatal):
                    raise
            await asyncio.sleep(retry.wait_seconds(context.attempt, self._runtime.random))
            context = dataclasses.replace(context, attempt=context.attempt + 1)

    async def _at_most_once(
        self,
        action: Action[..., Any],
        context: ActionContext,
        values: tuple[object, ...],
        digest: bytes,
        keep_seconds: float,
    ) -> object:
        results, key = self._results(action), _record_key(context)
        found = await self._outside(results.begin(key, digest))
        if found.state is not None:
            return _answer(action, context, found)
        try:
            result = await action.call_handler(context, values)
        except Exception:
            await self._outside(results.take_back(key))
            raise
        # A result that can't be stored leaves it begun: it took effect, so it must not run again.
        encoded = _encode(action, result)
        await self._outside(results.finish(key, digest, encoded, keep_seconds))
        return _decode(action, encoded)

    async def _outside(self, call: Coroutine[Any, Any, T]) -> T:
        """Make a call as code outside of actors does: what it wrote is durable when it returns.

        In a step it would otherwise be a call that a later attempt gets the kept reply of; here each attempt
        has to be told what the others left.
        """
        task = self._runtime.loop.create_task(call, context=Context())
        return await asyncio.shield(task)

    def _results(self, action: Action[..., Any]) -> ActionResults:
        return self._runtime.get(ActionResults, action.name)


def _record_key(context: ActionContext) -> bytes:
    return _digest_of_key(context.idempotency_key)


def _digest_of_key(key: str) -> bytes:
    return blake2b(key.encode(), digest_size=_DIGEST_BYTES).digest()


def _answer(action: Action[..., Any], context: ActionContext, found: Found) -> object:
    """What a record means for who comes later."""
    if found.state == "done":
        return _decode(action, found.result)
    if found.state == "other":
        raise _reused(action, context.idempotency_key)
    raise ActionInterrupted(
        f"an attempt of action {action.name} with key {context.idempotency_key!r} was cut off: nobody knows "
        f"whether it took effect, and it is not repeated (on_interrupted='fail'); look at what it changes, "
        f"then use another key, or free this one: rt.actions.release({action.name!r}, key)"
    )


def _reused(action: Action[..., Any], key: str) -> ActionKeyReused:
    return ActionKeyReused(
        f"action {action.name}: the key {key!r} was used with other parameters; "
        "each effect needs a key of its own"
    )


def _encode(action: Action[..., Any], result: object) -> bytes:
    try:
        encoded = ENCODER.encode(result)
        _decode(action, encoded)
    except BAD_VALUE as error:
        raise Fatal(
            f"action {action.name} returned a {type(result).__qualname__} that can't be stored as annotated: "
            f"{reason(error)}"
        ) from error
    if len(encoded) > MAX_RESULT_BYTES:
        raise Fatal(
            f"action {action.name} returned {len(encoded)} bytes; at most {MAX_RESULT_BYTES} are allowed: "
            "store them elsewhere"
        )
    return encoded


def _decode(action: Action[..., Any], encoded: bytes) -> object:
    return msgspec.msgpack.decode(encoded, type=action.handler.result_hint)
