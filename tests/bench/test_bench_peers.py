"""Peers: a process a repetition, its figures as they were; one that fails costs nothing else."""

import dataclasses
import importlib.util
import sys
from pathlib import Path

import pytest

from bench import measure
from bench.measure import measure_in_turn
from bench.options import parse_options
from bench.peers import PEERS, Peer
from bench.peers import side as peer_side
from bench.peers.protocol import Unavailable, drive_threads
from bench.peers.side import PeerSide, load_peers
from bench.report import FLOOR
from bench.scenarios import DEFAULT_SCENARIOS, EXTRA_SCENARIOS, Case, Sizes, make_cases
from bench.sides import SideFailed, load_sides, loop_factory

FAKE = "tests.bench.fake_peer"


def fake(place: Path, variant: str = "") -> PeerSide:
    """The side of the fake peer."""
    return PeerSide("fake", Peer(FAKE, variant, ""), sys.executable, place)


def counter_case(calls: int) -> Case:
    """Increments that a peer answers too."""
    case = make_cases("counter", Sizes(True, 0.0))[0]
    return dataclasses.replace(case, arguments=(1, 1, 5), peers=(2, 3, calls))


def test_a_peers_sample_comes_back_from_its_process(tmp_path: Path) -> None:
    """Whatever else it prints; the folder is the one that was given."""
    side = fake(tmp_path)

    sample = side.measure(counter_case(20), tmp_path, 0.0)

    assert (sample.units, len(sample.latencies)) == (40, 20)
    assert (tmp_path / "note").exists()
    assert side.versions == {"fake": "1.0"}


def test_a_peer_answers_what_it_has_and_what_is_for_peers(tmp_path: Path) -> None:
    """Cases without arguments for peers are not theirs."""
    side = fake(tmp_path)

    assert side.answers(counter_case(1))
    assert not side.answers(dataclasses.replace(counter_case(1), peers=None))
    assert not side.answers(make_cases("steps", Sizes(True, 0.0))[0])
    assert side.answers(make_cases("recovery", Sizes(True, 0.0))[0])


def test_a_peer_is_killed_and_resumed(tmp_path: Path) -> None:
    """The same two processes as Holdfast's."""
    case = dataclasses.replace(make_cases("recovery", Sizes(True, 0.0))[0], peers=(7,))

    assert fake(tmp_path).measure(case, tmp_path, 0.0).units == 7


def test_peers_that_cannot_run_are_skipped_with_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing, what is not installed, what broke."""
    variants = ("", "missing", "not-installed", "broken")
    monkeypatch.setattr(peer_side, "PEERS", {name: Peer(FAKE, name, "") for name in variants})

    sides, versions, skipped = load_peers(list(variants), sys.executable, tmp_path)

    assert list(sides) == [""]
    assert versions == {"fake": "1.0"}
    assert skipped == {
        "missing": "its server is not here",
        "not-installed": "a_package_that_nobody_has is not installed (pip install -e '.[peers]')",
        "broken": "check ended with status 1: it does not work",
    }


def test_a_peer_that_fails_leaves_the_others_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its samples are not among those of the case, and it is said why."""
    monkeypatch.setattr(measure, "SHORT_FACTOR", 1)
    sides = {**load_sides(FLOOR, loop_factory("asyncio")), "fake": fake(tmp_path)}

    result, failed = measure_in_turn(counter_case(-1), sides, tmp_path, 0.0, 2, lambda text: None)

    assert [len(samples) for samples in result.samples.values()] == [2]
    assert failed == {"fake": "counter ended with status 1: ValueError: calls must not be negative"}


def test_a_slow_disk_is_not_a_peers(tmp_path: Path) -> None:
    """Their syncs cannot be delayed from outside."""
    with pytest.raises(SideFailed, match="slow"):
        fake(tmp_path).measure(counter_case(1), tmp_path, 0.002)


def test_threads_take_each_item_once_and_stop_at_a_failure() -> None:
    """The first failure is raised."""
    taken: list[int] = []
    assert drive_threads(range(25), 4, taken.append).units == 25
    assert sorted(taken) == list(range(25))

    with pytest.raises(ZeroDivisionError):
        drive_threads(range(25), 4, lambda number: 1 // 0)


def test_some_peers_or_all() -> None:
    """None unless asked for."""
    assert parse_options([]).peers is None
    assert parse_options(["--peers"]).peers == list(PEERS)
    assert parse_options(["--peers", "pykka", "pykka"]).peers == ["pykka"]


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_is_a_module_with_a_line_about_it(name: str) -> None:
    """And has cases."""
    peer = PEERS[name]
    assert importlib.util.find_spec(peer.module) is not None
    assert peer.about
    assert any(
        case.peers is not None
        for scenario in (*DEFAULT_SCENARIOS, *EXTRA_SCENARIOS)
        for case in make_cases(scenario, Sizes(True, 0.0))
    )


def test_a_peer_that_is_here_does_its_work(tmp_path: Path) -> None:
    """The lightest one, in its own process."""
    try:
        side = PeerSide("pykka", PEERS["pykka"], sys.executable, tmp_path)
    except Unavailable as why:
        pytest.skip(str(why))

    assert side.measure(counter_case(50), tmp_path, 0.0).units == 50
