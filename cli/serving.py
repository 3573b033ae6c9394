"""`holdfast serve`: a runtime over HTTP until a signal comes."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click


@click.command("serve")
@click.argument("target", metavar="FOLDER|MODULE:RUNTIME")
@click.option(
    "--import", "modules", multiple=True, metavar="MODULE",
    help="module that defines workflows; may be given several times",
)  # fmt: skip
@click.option(
    "--set-up", metavar="MODULE:FUNCTION",
    help="function that is called with the open runtime: consumers, bindings, schedules",
)  # fmt: skip
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", type=int, default=8470, show_default=True, help="0 takes a free one")
@click.option(
    "--tokens", type=click.Path(path_type=Path), metavar="FILE",
    help="who may ask, NAME:ROLE=SECRET (or NAME:ROLE@TENANT=SECRET) on each line, with the role viewer or "
    "operator; HOLDFAST_TOKENS by default; on loopback one is made when there is none",
)  # fmt: skip
@click.option("--pages/--no-pages", default=True, show_default=True, help="pages for people, at /ui/")
@click.option("--open-metrics", is_flag=True, help="/metrics needs no token, for a Prometheus without one")
def serve(
    target: str,
    modules: tuple[str, ...],
    set_up: str | None,
    host: str,
    port: int,
    tokens: Path | None,
    pages: bool,
    open_metrics: bool,
) -> None:
    """Serve a folder or a program over HTTP.

    A folder, or the Runtime that a module makes, until a signal comes.

    \b
    Examples:
      holdfast serve data --import app.orders
      holdfast serve app:rt --set-up app:set_up --tokens tokens.txt
    """
    from ..actors.code_target import function_target, import_target, runtime_or_folder
    from ..service.serve import run_server
    from ..service.token_text import find_tokens

    sys.path.insert(0, "")
    for module in modules:
        import_target(module)
    run_server(
        runtime_or_folder(target),
        host=host,
        port=port,
        tokens=find_tokens(tokens, os.environ),
        set_up=None if set_up is None else function_target(set_up),
        pages=pages,
        open_metrics=open_metrics,
        say=lambda line: print(line, flush=True),
    )


COMMANDS = [serve]
