"""`rt.deps`: user objects by type."""

from __future__ import annotations

import pytest

from holdfast.runtime.actor import Actor
from holdfast.runtime.deps import Deps
from holdfast.runtime.methods import shared
from holdfast.runtime.system import ActorSystem
from holdfast.storage.errors import CallerError


class Mailer:
    def send(self) -> str:
        return "sent"


class FakeMailer(Mailer):
    def send(self) -> str:
        return "kept"


class Clerk(Actor):
    async def mail(self) -> str:
        return self.runtime.deps.get(Mailer).send()

    @shared
    async def mail_shared(self) -> str:
        return self.runtime.deps.get(Mailer).send()


async def test_actors_find_what_was_given(system: ActorSystem) -> None:
    """An actor gets the object by its type, and whatever replaced it since."""
    system.deps.put(Mailer())
    assert await system.get(Clerk, 1).mail() == "sent"
    system.deps.put(FakeMailer(), as_type=Mailer)
    assert await system.get(Clerk, 1).mail() == "kept"
    assert await system.get(Clerk, 1).mail_shared() == "kept"


def test_found_by_base_class() -> None:
    """An object is found by each class that it is an instance of; its own type comes first."""
    fake, real = FakeMailer(), Mailer()
    assert Deps((fake,)).get(Mailer) is fake
    deps = Deps((fake, real))
    assert deps.get(Mailer) is real
    assert deps.get(FakeMailer) is fake


def test_missing() -> None:
    """What isn't there is told with what is, and how to give it."""
    with pytest.raises(CallerError, match=r"no Mailer \(it holds str\).*deps="):
        Deps(("text",)).get(Mailer)
    with pytest.raises(CallerError, match="nothing"):
        Deps().get(Mailer)
    assert Deps().find(Mailer) is None
