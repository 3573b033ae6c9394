"""Calls that take effect exactly once, however deep: their ids, the replies that are kept, calls of calls.

    attempt of a step -> call -> turn -> call -> turn ...
    call of run()     -> turn -> call -> turn ...

A call's id is derived from its caller's: the callee, the method, the arguments, and the how-manyth such call
of that caller it is.  The callee's commit keeps the reply under that id, in a REPLY row of the run.  When the
caller is tried again, it makes the same calls, and gets what is kept in place of a second effect.

A call may come back to an actor of its own chain.  Then it joins the turn that runs there, its target: its
effect is part of that turn, and is lost with it, while the turns between the two are kept or lost by
themselves.  So those note it with their replies: when such a reply is taken in place of a call, what it notes
is made again if the target runs again and lacks it.  The target remembers what is part of it.

    A calls B, B calls A.j        A.j is part of A's turn; B's reply notes it
    A is lost, B is not           A runs again, takes B's reply, and A.j is made again

The target's commit keeps the reply, too, where the target itself answers a turn: who made the call may be
repeated later than the target.  It may also be repeated when the target failed and that was caught; the turn
that caught it keeps the replies then (`TurnCalls.settled`), since in the end they had no effect.

A row is deleted in the commit that makes it needless: that of the turn that made the call, since that turn is
not repeated any more; at the latest that of the step's or the call's outcome.

Promises
  * P6: a call made by a workflow takes effect exactly once; so does a call made by the turn that answers it,
    and so on down, whatever crashes and retries come in between.
  * Turns that answer nobody's workflow know nothing of this.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final, Literal, Protocol

import msgspec

from ...runtime.call import run as run_turn
from ...runtime.chain import after_commit, after_rollback
from ...runtime.codec import encode_unchecked
from ...runtime.errors import InvalidResult, UnknownMethod
from ..errors import StepOver
from .step_plan import MAX_RESULT_BYTES

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from ...runtime.call import Reply
    from ...runtime.chain import Turn
    from ...runtime.methods import MethodPlan
    from ...runtime.ref import Ref
    from .ops import Op

_CALL_DIGEST_BYTES: Final = 16
_CALL_NUMBER_BYTES: Final = 4
_ID_BYTES: Final = _CALL_DIGEST_BYTES + _CALL_NUMBER_BYTES
# What a row begins with that holds more than a reply; no MessagePack begins with it.
_WITH_NOTES: Final = b"\xc1"


class JoinedCall(msgspec.Struct, frozen=True, array_like=True):
    """A call that joined a turn further up: its effect is part of that turn, so it is made again with it."""

    actor: bytes
    method: str
    arguments: msgspec.Raw
    row: bytes
    # The id of the turn that it joined.
    target: bytes


class ReplyWithNotes(msgspec.Struct, frozen=True, array_like=True):
    """A reply, and the calls made on the way to it that joined a turn further up than the call itself."""

    reply: msgspec.Raw
    notes: list[JoinedCall]


_decode_with_notes = msgspec.msgpack.Decoder(ReplyWithNotes).decode


class Attempt(Protocol):
    """An attempt of a step, or of a call of run(): what all calls below it belong to."""

    @property
    def op(self) -> Op:
        """The step or call; it remembers the replies over its attempts."""
        ...

    @property
    def over(self) -> bool:
        """Nothing of it is kept any more."""
        ...


def call_identity(ref: Ref, plan: MethodPlan, encoded: bytes) -> bytes:
    """What makes calls the same call: the actor, the method, the arguments."""
    actor = ref.directory_key
    # The two bytes of the length end the name, which has no such characters.
    return plan.name.encode() + len(actor).to_bytes(2, "big") + actor + encoded


def op_id(op: Op) -> bytes:
    """What the ids of a step's calls, and of those below a call of run(), are derived from."""
    return b"%d %b\0" % (op.nth, op.name.encode())


def encode_reply(turn: Turn, reply: object) -> bytes:
    """A reply as it is kept with its call's id; raises `InvalidResult` when it is too large for that."""
    encoded = encode_unchecked(reply)
    if len(encoded) > MAX_RESULT_BYTES:
        raise InvalidResult(
            f"{turn} returned {len(encoded)} bytes to a workflow, which keeps at most {MAX_RESULT_BYTES}: "
            f"store them elsewhere"
        )
    return encoded


class ExactCaller:
    """Who makes such calls: the attempt of a step, or a turn that answers one.

    It counts them, so that each has a row, the same one when the caller is tried again.  A call that raised
    took no effect and isn't counted: when it is made again and succeeds, that reply is what the same call of
    a later attempt gets.
    """

    __slots__ = ("_unused", "_uses", "op")

    def __init__(self, op: Op) -> None:
        # The step, or the call of run(), that all of it belongs to.
        self.op = op
        self._uses: dict[bytes, int] | None = None
        # Rows of calls that raised, by the digest of the call: for the next calls of that kind.
        self._unused: dict[bytes, list[bytes]] | None = None

    def attempt_of(self) -> Attempt:
        """The attempt that the calls belong to."""
        raise AssertionError("each kind has its own")

    def id(self) -> bytes:
        """What the ids of the calls are derived from."""
        raise AssertionError("each kind has its own")

    def turn_calls(self) -> TurnCalls | None:
        """Itself, when it is a turn."""
        return None

    def row_of(self, identity: bytes) -> bytes:
        """The row of the next call like this."""
        digest = blake2b(self.id() + identity, digest_size=_CALL_DIGEST_BYTES).digest()
        uses = self._uses
        if uses is None:
            uses = self._uses = {}
        if self._unused is not None and (unused := self._unused.get(digest)):
            unused.sort()
            return unused.pop(0)
        nth = uses[digest] = uses.get(digest, 0) + 1
        return self.op.run.reply_prefix + digest + nth.to_bytes(_CALL_NUMBER_BYTES, "big")

    def take_back(self, row: bytes) -> None:
        """The call of this row raised: the next one of its kind has the number."""
        if self._unused is None:
            self._unused = {}
        self._unused.setdefault(row[-_ID_BYTES:-_CALL_NUMBER_BYTES], []).append(row)

    def keep(self, turn: Turn, reply: object) -> None:
        """See `ExactCall`: only @shared methods are answered in the caller's own name, and keep nothing."""

    def check_left_behind(self, turn: Turn) -> None:
        """See `ExactCall`; raises `StepOver`: nothing keeps a @shared method from being repeated."""
        raise StepOver(f"{turn} is over, so what it left behind calls nobody and starts nothing")

    async def call_within(
        self, turn: Turn, ref: Ref, plan: MethodPlan, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> Reply:
        """A call of the turn's.  Raises `StepOver` when nothing of it would be kept."""
        attempt, calls = self.attempt_of(), self.turn_calls()
        args, kwargs, encoded = plan.encode_arguments(args, kwargs, ref)
        if calls is not None and calls.is_left_behind(turn):
            return await run_turn(ref, plan, args, kwargs, turn, None)
        if attempt.over:
            raise StepOver(f"{attempt}: the attempt is over, so {ref}.{plan.name} is not called")
        op = self.op
        row = self.row_of(call_identity(ref, plan, encoded))
        part = None if calls is None else calls.part_above(row)
        known = op.known_reply(row) if part is None else (part, turn.dep)
        kept: NestedReply | None = None
        if known is None:
            kept = NestedReply(attempt, row, calls)
            kept.request = (ref, plan, args, kwargs)
        elif calls is not None:
            calls.rows.append(row)
        try:
            if known is not None:
                dep, reply, error = await self._answer_again(turn, plan, *known)
            else:
                dep, reply, error = await run_turn(ref, plan, args, kwargs, turn, kept)
        except BaseException as raised:
            if kept is not None:
                kept.ended(raised)
            self.take_back(row)
            raise
        if kept is not None:
            kept.ended(error)
        if error is not None:
            self.take_back(row)
        elif kept is not None and kept.encoded:
            op.keep_reply(row, kept.encoded, dep)
            if calls is not None:
                calls.rows.append(row)
        return dep, reply, error

    async def _answer_again(self, turn: Turn, plan: MethodPlan, kept: bytes, number: int) -> Reply:
        """What a call got when it was made before; its turn is not run again, what it changed above is."""
        if not kept.startswith(_WITH_NOTES):
            return number, plan.decode_result(kept), None
        found = _decode_with_notes(memoryview(kept)[1:])
        calls = self.turn_calls()
        for one in found.notes:
            if calls is None or not calls.lacks(one):
                continue
            dep, _, error = await self._join_again(turn, one)
            if error is not None:
                return max(dep, number), None, error
        return number, plan.decode_result(bytes(found.reply)), None

    async def _join_again(self, turn: Turn, one: JoinedCall) -> Reply:
        ref = turn.activation.system.ref_from_bytes(one.actor[1:3], one.actor[3:])
        plan = ref.type.methods.get(one.method)
        if plan is None:
            raise UnknownMethod(f"{ref.type.name} has no method {one.method!r} any more; {turn} needs it")
        args, kwargs = plan.decode_arguments(one.arguments)
        kept = NestedReply(self.attempt_of(), one.row, self.turn_calls())
        kept.request = (ref, plan, args, kwargs)
        kept.noted = one
        try:
            dep, reply, error = await run_turn(ref, plan, args, kwargs, turn, kept)
        except BaseException as raised:
            kept.ended(raised)
            raise
        kept.ended(error)
        return dep, reply, error


class TurnCalls(ExactCaller):
    """The calls that one turn makes while it answers a call that takes effect exactly once.

    going -> kept     its commit is staged; calls that it left behind are plain ones from then on
          -> undone   calls that it left behind are undone, since the repeated turn makes them anew; so are
                      those of a @shared method that an attempt called: nothing keeps that from being repeated
          -> part     it joined, or was @shared: what it left behind belongs to the turn that called it
    """

    __slots__ = ("_attempt", "_id", "above", "is_part", "notes", "parts", "rows", "settled", "state", "turn")

    def __init__(self, attempt: Attempt, id_: bytes, turn: Turn, above: TurnCalls | None = None) -> None:
        super().__init__(attempt.op)
        self._attempt = attempt
        self._id = id_
        # The calls that this turn's own is among; None when an attempt made it.
        self.above = above
        # Until it has ended; taken away then, so that no ring of references is left.
        self.turn: Turn | None = turn
        self.state: Literal["going", "kept", "undone", "part"] = "going"
        # It has no commit of its own.
        self.is_part = turn.shared or turn.root is not turn
        # Rows of its calls, which its commit deletes.
        self.rows: list[bytes] = []
        # Calls made below it that joined a turn above it, by their rows.
        self.notes: dict[bytes, JoinedCall] = {}
        # Calls made below other turns that joined this one, by their rows, with the replies as they are kept.
        self.parts: dict[bytes, tuple[JoinedCall, bytes]] | None = None
        # Replies to calls that joined a turn which failed below this one: they have no effect, but who made
        # them decided by them, and may be repeated.  So its commit keeps them, until the outcome of the step:
        # it can't be told when the last of those is kept.
        self.settled: dict[bytes, bytes] = {}

    def attempt_of(self) -> Attempt:
        """See `ExactCaller`."""
        return self._attempt

    def id(self) -> bytes:
        """See `ExactCaller`."""
        return self._id

    def turn_calls(self) -> TurnCalls | None:
        """See `ExactCaller`."""
        return self

    def is_left_behind(self, turn: Turn) -> bool:
        """Whether a turn above ended well without this one: nobody repeats it, so it is a plain one.

        Raises `StepOver` when a turn above was undone.
        """
        calls = self.above
        return calls is not None and calls.has_left_behind(turn)

    def has_left_behind(self, turn: Turn) -> bool:
        """The same for a turn that was called by this one, or by one further up."""
        calls: TurnCalls | None = self
        while calls is not None:
            if calls.state == "kept":
                return True
            if calls.state == "undone":
                raise StepOver(
                    f"{self._attempt}: the turn that called {turn} was undone, so this one is, too"
                )
            calls = calls.above
        return False

    def note(self, one: JoinedCall, target: TurnCalls) -> TurnCalls:
        """A call made below this turn joined one above: those between go their own ways, so they note it.

        Returns the first that is part of the target.
        """
        calls = self
        while calls.turn is None or calls.turn.root is not target.turn:
            calls.notes[one.row] = one
            assert calls.above is not None, "the target is one of those above"
            calls = calls.above
        return calls

    def of_turn(self, turn: Turn) -> TurnCalls:
        """Those of a turn that this one's was called by, however deep."""
        calls = self
        while calls.turn is not turn:
            assert calls.above is not None, "the target is one of those above"
            calls = calls.above
        return calls

    def of_id(self, id_: bytes) -> TurnCalls | None:
        """Those of the turn with this id, among this one and those above."""
        calls: TurnCalls | None = self
        while calls is not None and calls.id() != id_:
            calls = calls.above
        return calls

    def take_part(self, one: JoinedCall, encoded: bytes) -> None:
        """A call is part of this turn now."""
        assert self.turn is not None, "only a turn that runs can be joined"
        parts, settled = self.parts, self.settled
        if parts is None:
            parts = self.parts = {}
        parts[one.row] = one, encoded
        settled.pop(one.row, None)

        def rolled_back() -> None:
            if parts.pop(one.row, None) is not None:
                settled[one.row] = encoded

        after_rollback(self.turn, rolled_back)

    def part_above(self, row: bytes) -> bytes | None:
        """The reply to a call that this turn makes again, when it is part of a turn above by now."""
        target: TurnCalls | None = self
        while target is not None:
            if target.parts is not None and row in target.parts:
                one, encoded = target.parts[row]
                self.note(one, target)
                return encoded
            target = target.above
        return None

    def lacks(self, one: JoinedCall) -> bool:
        """Whether the target of a noted call runs (again) and doesn't have it; notes it, too, if it does."""
        target = self.of_id(one.target)
        if target is None or target.turn is None:
            return False  # it is kept by now, and the call's effect with it
        if target.parts is None or one.row not in target.parts:
            return True
        self.note(one, target)
        return False

    def ended(self, error: BaseException | None) -> None:
        """The turn has ended."""
        turn, self.turn = self.turn, None
        assert turn is not None, "it ends once"
        above = self.above
        if error is not None or (self.is_part and above is None):
            self.state = "undone"
        else:
            self.state = "part" if self.is_part else "kept"
        if above is None:
            return
        if self.state != "kept":
            above.rows += self.rows  # no commit of its own deletes them
            above.settled.update(self.settled)


class AnsweredCall:
    """An exactly-once call, in the hands of the turn that answers it; see `ExactCall`."""

    __slots__ = ("calls", "undone")

    # Made when the turn calls somebody.
    calls: TurnCalls | None
    # The turn has ended, and not well.
    undone: bool

    def call_within(
        self, turn: Turn, ref: Ref, plan: MethodPlan, args: tuple[object, ...], kwargs: dict[str, object]
    ) -> Awaitable[Reply]:
        """See `ExactCall`."""
        calls = self.calls
        if calls is None:
            calls = self.calls = self._make_calls(turn)
        return calls.call_within(turn, ref, plan, args, kwargs)

    def _make_calls(self, turn: Turn) -> TurnCalls:
        raise AssertionError("each kind has its own id")

    def ended(self, error: BaseException | None) -> None:
        """The turn has ended; `error` when it was undone."""
        self.undone = error is not None
        calls, self.calls = self.calls, None
        if calls is not None:
            calls.ended(error)

    def check_left_behind(self, turn: Turn) -> None:
        """See `ExactCall`; raises `StepOver`."""
        if self.undone or turn.shared:
            raise StepOver(f"{turn} was not kept, so what it left behind calls nobody and starts nothing")


class KeptReply(AnsweredCall):
    """A call that an attempt makes: the reply joins the callee's commit."""

    __slots__ = ("attempt", "encoded", "row")

    def __init__(self, attempt: Attempt, row: bytes) -> None:
        self.calls = None
        self.undone = False
        self.attempt = attempt
        self.row = row
        # What was kept; empty when nothing was.
        self.encoded = b""

    def _make_calls(self, turn: Turn) -> TurnCalls:
        # A step's id begins with a digit, so the two never meet.
        return TurnCalls(self.attempt, b"\0" + self.row[-_ID_BYTES:], turn)

    def keep(self, turn: Turn, reply: object) -> None:
        """See `ExactCall`; raises `StepOver` when the attempt is over."""
        if self.attempt.over:
            raise StepOver(f"{self.attempt}: the attempt is over, so {turn} is undone")
        writes = turn.writes
        if self.calls is not None:
            writes.update(dict.fromkeys(self.calls.rows))
        self.encoded = writes[self.row] = self._encode(turn, reply)

    def _encode(self, turn: Turn, reply: object) -> bytes:
        """The reply, with notes of calls that must perhaps be made again when it is taken."""
        encoded = encode_reply(turn, reply)
        calls = self.calls
        if calls is None or not calls.notes:
            return encoded
        noted = ReplyWithNotes(msgspec.Raw(encoded), list(calls.notes.values()))
        with_notes = _WITH_NOTES + encode_unchecked(noted)
        if len(with_notes) > MAX_RESULT_BYTES:
            raise InvalidResult(
                f"{turn} returned to a workflow, and {len(calls.notes)} calls below it came back to actors "
                f"further up with arguments of {len(with_notes) - len(encoded)} bytes: at most "
                f"{MAX_RESULT_BYTES} are kept with a reply, so store large ones elsewhere"
            )
        return with_notes


class NestedReply(KeptReply):
    """A call that a turn makes which itself answers such a call."""

    __slots__ = ("among", "is_part", "noted", "request")

    # The call itself, for the case that it joins.
    request: tuple[Ref, MethodPlan, tuple[object, ...], dict[str, object]]

    def __init__(self, attempt: Attempt, row: bytes, among: TurnCalls | None) -> None:
        super().__init__(attempt, row)
        # The calls of the turn that makes it; None for a @shared method that an attempt called.
        self.among = among
        # The note by which it is made again.
        self.noted: JoinedCall | None = None
        # Its turn joined another one.
        self.is_part = False

    def _make_calls(self, turn: Turn) -> TurnCalls:
        calls = super()._make_calls(turn)
        calls.above = self.among
        return calls

    def keep(self, turn: Turn, reply: object) -> None:
        """See `ExactCall`; raises `StepOver` when the attempt, or a turn above, is over in vain."""
        if self.among is not None and self.among.has_left_behind(turn):
            self._keep_nothing(turn)
        elif turn.root is turn:
            super().keep(turn, reply)
            if self.calls is not None:
                for row, encoded in self.calls.settled.items():
                    self._put(turn, row, encoded)
        else:
            self._keep_as_part(turn, reply)

    def check_left_behind(self, turn: Turn) -> None:
        """See `ExactCall`; what joined, or was @shared, goes the way of the turn that called it."""
        if self.undone or not (self.is_part or turn.shared):
            super().check_left_behind(turn)
        elif self.among is not None:
            self.among.has_left_behind(turn)

    def _keep_nothing(self, turn: Turn) -> None:
        """It is a plain call by now: no row that was put for it stays."""
        calls = self.calls
        if calls is not None:
            writes = turn.root.writes
            writes.update(dict.fromkeys(calls.rows))
            for row in calls.parts or ():
                writes.pop(row, None)

    def _keep_as_part(self, turn: Turn, reply: object) -> None:
        """It joined a turn above, which has its effect now and remembers its reply; those between note it."""
        self.is_part = True
        maker = self.among
        # What a @shared method calls counts as called by whoever called it.
        while maker is not None and (maker.turn is None or maker.turn.shared):
            maker = maker.above
        assert maker is not None and maker.turn is not None, "only a turn that runs can be joined"
        target = maker.of_turn(turn.root)
        # The first above that is part of the target, as this call is.
        part_of = maker
        one = self.noted
        if one is None and maker.turn.root is not turn.root:
            ref, plan, args, kwargs = self.request
            arguments = msgspec.Raw(encode_unchecked((args, kwargs)))
            one = JoinedCall(ref.directory_key, plan.name, arguments, self.row, target.id())
        if one is not None:
            # First, since it may raise: nothing is noted of a call that is undone.
            encoded = self._encode(turn, reply)
            if target.above is not None:
                # Who made the call may be repeated when the target is kept already.
                self._put(turn, self.row, encoded)
            part_of = maker.note(one, target)
            target.take_part(one, encoded)
        mine = self.calls
        if mine is not None and mine.rows:
            # Deleted with what it is part of, and not by those in between (where an earlier try that failed
            # left them): it is made again when that is repeated.
            between = self.among
            while between is not None and between is not part_of:
                between.rows = [row for row in between.rows if row not in mine.rows]
                between = between.above
            part_of.rows += mine.rows
            mine.rows = []
        if mine is not None:
            target.settled.update(mine.settled)
            mine.settled = {}

    def _put(self, turn: Turn, row: bytes, encoded: bytes) -> None:
        """Keep a reply in the commit of a turn that may go on: known only when that is staged.

        What an earlier commit keeps under the row stays: this one rests on it, and may fail alone.
        """
        op, root = self.attempt.op, turn.root
        known = op.known_reply(row)
        if known is not None:
            if root.writes.get(row, encoded) is None:
                del root.writes[row]
            root.dep = max(root.dep, known[1])
            return
        root.writes[row] = encoded
        after_commit(turn, lambda number: op.keep_reply(row, encoded, number))
