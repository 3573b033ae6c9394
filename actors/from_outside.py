"""What operators do to one actor: call a method with arguments in JSON, edit its fields; audited in the turn.

Both are turns like any other (P1): what they change, and the record of who did it, is one commit or nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from ..runtime.actor import Actor, activation_of
from ..runtime.address import GivenKey
from ..runtime.call import invoke
from ..runtime.chain import after_commit
from ..runtime.codec import BAD_VALUE
from ..runtime.error_text import clean, cut
from ..runtime.errors import ActorNotFound, InvalidActor, InvalidArgument, InvalidResult, UnknownActorType
from ..runtime.fields import declared_hints
from ..runtime.methods import MethodPlan
from ..runtime.ref import Ref
from ..storage.errors import CallerError
from .audit import checked_by, note_deed
from .method_info import arguments_from_json, decode_fields, fields_struct

if TYPE_CHECKING:
    from ..runtime.actor_type import ActorType
    from .system import Runtime

# Of arguments and values, in the audit.
MAX_SHOWN_CHARACTERS: Final = 500


def ref_of(runtime: Runtime, type_name: str, key: GivenKey) -> Ref:
    """The ref of an actor by the name of its type; raises `UnknownActorType` or `InvalidKey`."""
    kind = kind_named(runtime, type_name)
    ref: object = runtime.get(kind.actor_class, key)
    assert isinstance(ref, Ref)
    return ref


def kind_named(runtime: Runtime, type_name: str) -> ActorType:
    """The type with a name; raises `UnknownActorType`, also for a class that can have no actors."""
    try:
        return runtime.actor_types.named(type_name)
    except InvalidActor as error:  # a base class, say
        raise UnknownActorType(f"{type_name!r:.200} is no type that has actors: {error}") from error


async def call_from_outside(
    ref: Ref, method: str, arguments: bytes | msgspec.Raw, *, by: str | None = None, reason: str = ""
) -> object:
    """Call a method with arguments in JSON (see `arguments_from_json`); returns its reply once it is durable.

    The call is a deed of the audit, unless the method only reads.  Raises `UnknownMethod`, `PrivateMethod`,
    `InvalidArgument`, and what the method raises.
    """
    told = checked_by(by, reason)
    plan = ref.type.methods.get(method)
    if plan is None:
        getattr(ref, method)  # tells what is wrong with this name
        raise CallerError(f"{ref.type.name}.{method} can't be called from outside")
    args, kwargs = arguments_from_json(ref.type, plan, arguments)
    if plan.shared:
        return await invoke(ref, plan, args, kwargs)
    shown = cut(clean(bytes(arguments).decode("utf-8", "replace")), MAX_SHOWN_CHARACTERS)
    function = plan.function

    async def noted(actor: Actor, *args: object, **kwargs: object) -> object:
        reply = await function(actor, *args, **kwargs)
        note_deed(actor, "call", told, "", f"{method} {shown}")
        return reply

    return await invoke(ref, plan.with_function(noted), args, kwargs)


async def edit_fields(
    ref: Ref, fields: dict[str, msgspec.Raw], *, by: str | None = None, reason: str
) -> None:
    """Give declared fields other values, in JSON; they are checked against the annotations.

    Then the actor leaves memory, so that what it derived from them is derived anew.  Raises `ActorNotFound`
    when nothing is stored of it, `InvalidArgument` for what is no field or doesn't fit, and `CallerError` for
    an actor whose fields are the library's own: a run, a queue, a schedule.
    """
    told = checked_by(by, reason)
    kind = ref.type
    if kind.actor_class._holdfast_owned:  # pyright: ignore[reportPrivateUsage]
        raise CallerError(
            f"the fields of {ref} are the library's own; use the verbs of runs, queues and schedules"
        )
    if not fields:
        raise InvalidArgument(f"no field of {ref} is named; it has {', '.join(kind.fields.names) or 'none'}")
    struct = fields_struct(kind.name, declared_hints(kind.actor_class))
    values = decode_fields(struct, fields, f"fields of {ref}")

    async def edit(actor: Actor) -> None:
        activation = activation_of(actor)
        if not activation.stored:
            raise ActorNotFound(f"nothing is stored of {ref}, so there is nothing to edit")
        before = {name: getattr(actor, name) for name in values}
        note_deed(actor, "edit", told, _shown(before), _shown(values))
        for name, value in values.items():
            setattr(actor, name, value)
        after_commit(activation.current_turn(), lambda _: activation.system.directory.drop(activation))

    try:
        await invoke(ref, MethodPlan(kind.actor_class, "edit", edit), (), {})
    except InvalidResult as error:  # too large for a record or an index: what came is to blame
        raise InvalidArgument(f"{error}") from error


def _shown(values: dict[str, object]) -> str:
    try:
        encoded = msgspec.json.encode(values, enc_hook=repr).decode()
    except BAD_VALUE:  # keys that JSON doesn't know
        encoded = repr(values)
    return cut(clean(encoded), MAX_SHOWN_CHARACTERS)
