"""A saga: steps with effects elsewhere; when one fails for good, what was done before is undone in reverse.

Run it:   python saga.py [FOLDER]
Test it:  pytest saga.py
"""

from __future__ import annotations

import asyncio
import sys

import msgspec

from holdfast import Fatal, Retry, RunFailed, Runtime, Workflow
from holdfast.testing import simulate


class Trip(msgspec.Struct):
    """What is to be booked."""

    id: str
    hotel: str


class Bookings:
    """Stands in for the services elsewhere; give the runtime clients of your own in its place."""

    def __init__(self) -> None:
        self.booked: dict[str, str] = {}

    def book(self, key: str, what: str) -> str:
        """A booking by its key: the same key again is the same booking."""
        if what == "the full hotel":
            raise Fatal(f"no room in {what}")
        self.booked[key] = what
        return key

    def cancel(self, key: str) -> None:
        """Cancelled again is still cancelled."""
        self.booked.pop(key, None)


class BookTrip(Workflow):
    """Flight, car, hotel: all of them, or none."""

    retry = Retry(5, "1s")

    async def run(self, trip: Trip) -> list[str]:
        """When a step fails for good the run fails, and what those before it did is undone, the last first.

        A step may run twice, so it gives the service a key that is the same each time.  An undo is a step
        too: it gets the result of what it undoes, and is tried as often.
        """
        flight = await self.step(self.book, f"{trip.id}/flight", "a flight", name="flight", undo=self.cancel)
        car = await self.step(self.book, f"{trip.id}/car", "a car", name="car", undo=self.cancel)
        hotel = await self.step(self.book, f"{trip.id}/hotel", trip.hotel, name="hotel", undo=self.cancel)
        return [flight, car, hotel]

    async def book(self, key: str, what: str) -> str:
        """Book one thing."""
        return self.runtime.deps.get(Bookings).book(key, what)

    async def cancel(self, booking: str) -> None:
        """Undo one booking."""
        self.runtime.deps.get(Bookings).cancel(booking)


async def main(folder: str) -> None:
    """A trip that can be booked, and one that can't."""
    bookings = Bookings()
    async with Runtime(folder, deps=[bookings]) as rt:
        for trip in (Trip("t-1", "the quiet hotel"), Trip("t-2", "the full hotel")):
            run = await rt.start(BookTrip, trip, id=trip.id, on_conflict="join")
            try:
                print(trip.id, "booked:", len(await run.result()))
            except RunFailed as failure:
                print(trip.id, "failed, nothing stays booked:", failure.cause)


# -- tests: virtual time, so no retry is waited for ----------------------------------------------------------


def test_all_is_booked() -> None:
    """Three bookings stay."""
    bookings = Bookings()
    with simulate(deps=[bookings]) as sim:
        booked = sim.result(sim.start(BookTrip, Trip("t", "the quiet hotel"), id="t"))
        assert sorted(booked) == sorted(bookings.booked)
        assert len(booked) == 3


def test_what_was_booked_is_cancelled() -> None:
    """No hotel: no flight and no car either, and the run says why."""
    bookings = Bookings()
    with simulate(deps=[bookings]) as sim:
        run = sim.start(BookTrip, Trip("t", "the full hotel"), id="t")
        cause = ""
        try:
            sim.result(run)
        except RunFailed as failure:
            cause = str(failure)
        assert "no room in the full hotel" in cause
        assert bookings.booked == {}


def test_a_crash_while_it_cancels() -> None:
    """Killed behind the first cancellation it goes on with the second."""
    bookings = Bookings()
    with simulate(deps=[bookings]) as sim:
        sim.crash_at(step="undo car")
        run = sim.start(BookTrip, Trip("t", "the full hotel"), id="t")
        sim.run_until_idle()
        assert sim.status(run) == "failed"
        assert bookings.booked == {}


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "saga-data"))
