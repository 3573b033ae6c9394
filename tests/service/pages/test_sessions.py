"""service/pages/sessions.py: who is signed in."""

from __future__ import annotations

from holdfast.service.access import Caller
from holdfast.service.pages.sessions import MAX_SESSIONS, SESSION_SECONDS, Sessions

ANN = Caller("ann", "operator")


def test_a_session_ends_with_its_time() -> None:
    """After twelve hours it is not found any more."""
    now = 100.0
    sessions = Sessions(lambda: now)
    session_id = sessions.open(ANN)
    found = sessions.find(session_id)
    assert found is not None
    assert found.caller == ANN
    now += SESSION_SECONDS
    assert sessions.find(session_id) is None


def test_who_signed_in_first_makes_room() -> None:
    """There are never more than MAX_SESSIONS."""
    sessions = Sessions()
    first, second = sessions.open(ANN), sessions.open(ANN)
    for _ in range(MAX_SESSIONS - 1):
        sessions.open(ANN)
    assert sessions.find(first) is None
    assert sessions.find(second) is not None


def test_no_session_is_found_by_another_text() -> None:
    """Not by an empty one, nor by one that is no ASCII."""
    sessions = Sessions()
    sessions.open(ANN)
    for text in ("", "x", "\udc80", "é"):
        assert sessions.find(text) is None
    found = sessions.find(sessions.open(ANN))
    assert found is not None
    assert not found.knows("")
    assert not found.knows("é\udc80")
    assert found.knows(found.form_token)


def test_what_is_to_be_told_is_told_once() -> None:
    """The page after the next one has nothing to tell."""
    sessions = Sessions()
    session = sessions.find(sessions.open(ANN))
    assert session is not None
    session.tell("done", bad=True)
    assert session.take_notice() == ("done", True)
    assert session.take_notice()[0] == ""
