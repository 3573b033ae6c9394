"""The command line of ``python -m bench``."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from .peers import PEERS
from .report import FLOOR, HOLDFAST
from .scenarios import DEFAULT_SCENARIOS, EXTRA_SCENARIOS, GROWTH, SCALE_SCENARIOS

EVERY_SCENARIO = (*DEFAULT_SCENARIOS, *EXTRA_SCENARIOS, GROWTH, *SCALE_SCENARIOS)

# Leaves scenarios room to be named on the command line without a list of them in each line of help.
ALL = "all"


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options, with what was not said filled in."""
    parser = argparse.ArgumentParser("python -m bench", description="Measure Holdfast beside a bare floor.")
    measured = parser.add_argument_group("what is measured")
    measured.add_argument(
        "--quick", action="store_true", help="smaller sizes, one repetition: under a minute without peers"
    )
    measured.add_argument(
        "--scenario",
        nargs="+",
        choices=(*EVERY_SCENARIO, ALL),
        metavar="NAME",
        help=f"only these; as it stands: {', '.join(DEFAULT_SCENARIOS)}; others: "
        f"{', '.join(EVERY_SCENARIO[len(DEFAULT_SCENARIOS) :])}; '{ALL}' for every one",
    )
    measured.add_argument(
        "--slow-disk", type=float, default=0.0, metavar="MS", help="added to each sync, on both sides"
    )
    measured.add_argument(
        "--repeat",
        type=int,
        metavar="N",
        help="repetitions of each case and side (3; quick: 1); short cases get up to five times as many",
    )
    measured.add_argument(
        "--events",
        type=int,
        metavar="N",
        help="how far `growth` grows (30000; quick: 3000); a million takes some minutes and GiB",
    )
    measured.add_argument(
        "--many",
        type=int,
        metavar="N",
        help="how many runs sleep in `sleepers` (100000; quick: 2000), and actors are touched in `actors` "
        "(200000; quick: 20000)",
    )
    measured.add_argument("--loop", choices=("uvloop", "asyncio"), help="event loop (uvloop where installed)")
    measured.add_argument(
        "--side", choices=(FLOOR, HOLDFAST, "both"), default="both", help="measure one side only"
    )
    measured.add_argument(
        "--peers",
        nargs="*",
        choices=tuple(PEERS),
        metavar="PEER",
        help=f"other systems too: all, or some of {', '.join(PEERS)} (pip install -e '.[peers]')",
    )
    measured.add_argument(
        "--peers-python",
        default=sys.executable,
        metavar="PYTHON",
        help="interpreter of the environment that they are installed in (this one)",
    )
    measured.add_argument(
        "--folder", type=Path, default=Path(), metavar="PATH", help="the temporary folder is made in here (.)"
    )
    measured.add_argument(
        "--from",
        dest="source",
        type=Path,
        metavar="FILE",
        help="measure nothing: take the report that --json wrote",
    )
    shown = parser.add_argument_group("what becomes of it, beside the table")
    shown.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    shown.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write tables there, or between the marks of a page"
    )
    shown.add_argument("--svg", type=Path, metavar="FILE", help="draw a chart there")
    shown.add_argument(
        "--compare",
        type=Path,
        metavar="OLD.json",
        help="say what got faster or slower since then, beyond the spread",
    )
    options = parser.parse_args(arguments)
    if options.repeat is None:
        options.repeat = 1 if options.quick else 3
    if options.repeat < 1:
        parser.error("--repeat must be at least 1")
    if options.events is None:
        options.events = 3_000 if options.quick else 30_000
    if options.events < 1_000:
        parser.error("--events must be at least 1000")
    if options.many is not None and options.many < 1_000:
        parser.error("--many must be at least 1000")
    if options.slow_disk < 0:
        parser.error("--slow-disk must not be negative")
    if options.loop is None:
        options.loop = "uvloop" if importlib.util.find_spec("uvloop") else "asyncio"
    if options.scenario is not None and ALL in options.scenario:
        options.scenario = list(EVERY_SCENARIO)
    if options.peers is not None:
        options.peers = list(dict.fromkeys(options.peers or PEERS))
    options.scenario = list(dict.fromkeys(options.scenario or DEFAULT_SCENARIOS))
    return options
