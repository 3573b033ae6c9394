"""Workflows to be played in storms: some that survive anything, and some with a mistake each."""

from __future__ import annotations

import time

import msgspec

from holdfast import Actor, Counter, Retry, Workflow, current_step


class Bank:
    """Outside of the process.  A charge with a key that it knows is the charge that was made."""

    def __init__(self) -> None:
        self.by_key: dict[str, int] = {}
        self.charges: list[int] = []

    def charge(self, cents: int, key: str | None = None) -> str:
        """Take money."""
        if key is not None and key in self.by_key:
            return f"receipt {key}"
        self.charges.append(cents)
        if key is not None:
            self.by_key[key] = cents
        return f"receipt {key}"


class Order(msgspec.Struct):
    """An input."""

    id: str
    cents: int
    gift: bool = False


BANKS: list[Bank] = []


def make_bank() -> list[object]:
    """The world of a story; bodies find the bank of the present story."""
    BANKS[:] = [Bank()]
    return list(BANKS)


def charged(bank: Bank) -> object:
    """What the bank's books say."""
    return sorted(bank.charges)


async def charge_with_key(order: Order) -> str:
    """A step whose effect can be repeated."""
    step = current_step()
    assert step is not None
    return BANKS[-1].charge(order.cents, f"{step.run}/{step.name}")


async def charge_plainly(order: Order) -> str:
    """A step whose effect happens again when it is repeated."""
    return BANKS[-1].charge(order.cents)


class Sound(Workflow):
    """Survives anything."""

    retry = Retry(3, "1s")

    async def run(self, order: Order) -> str:
        receipt = await self.step(charge_with_key, order)
        if order.gift:
            await self.sleep("1h")
        await self.runtime.get(Counter, "sold").increment(order.cents)
        return receipt


class ChargesTwice(Workflow):
    """Charges without a key."""

    async def run(self, order: Order) -> str:
        await self.sleep("1s")
        return await self.step(charge_plainly, order)


class LooksAtTheClock(Workflow):
    """Returns what the machine's clock says."""

    async def run(self, order: Order) -> float:
        await self.step(charge_with_key, order)
        return time.time()


class EffectOutsideOfAStep(Workflow):
    """Charges in run() itself, which is done again on replay."""

    async def run(self, order: Order) -> str:
        receipt = BANKS[-1].charge(order.cents)
        return await self.step(charge_with_key, order) + receipt


class Forgetful(Actor):
    """Counts in memory that is not durable."""

    async def count(self) -> int:
        """One more."""
        self.__dict__["_count"] = self.__dict__.get("_count", 0) + 1
        return int(self.__dict__["_count"])


class KeepsStateInMemory(Workflow):
    """Rests on an actor's memory, which a crash takes."""

    async def run(self, order: Order) -> int:
        await self.runtime.get(Forgetful, "one").count()
        await self.step(charge_with_key, order)
        return await self.runtime.get(Forgetful, "one").count()


TRIES: list[int] = []


class CountsItsReplays(Workflow):
    """Changes something global in run(), and asks for other steps when it is replayed."""

    async def run(self, order: Order) -> str:
        TRIES.append(1)
        name = "first" if len(TRIES) == 1 else "second"
        await self.step(charge_with_key, order, name=name)
        return await self.step(charge_with_key, order)


def make_bank_and_tries() -> list[object]:
    """The world of a story, with nothing tried."""
    TRIES.clear()
    return make_bank()
