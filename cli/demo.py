"""`holdfast demo` and `holdfast new`: a first look, and a program to begin from."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(
    "demo",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def demo(arguments: tuple[str, ...]) -> int:
    """See it work: events through a pipeline.

    Killed, it goes on where it was.

    Example: holdfast demo --events 5000
    """
    import argparse

    from ..examples.events_pipeline.command import add_arguments, run_command

    parser = argparse.ArgumentParser(
        "holdfast demo", description="Send events through a pipeline; killed, it goes on where it was."
    )
    add_arguments(parser)
    return run_command(parser.parse_args(arguments))


def _templates() -> tuple[str, ...]:
    from ..examples.templates.new_file import TEMPLATES

    return tuple(TEMPLATES)


@click.command("new")
@click.argument("template", type=click.Choice(_templates()))
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE.py", help="where to; TEMPLATE.py by default"
)
def new(template: str, out: Path | None) -> None:
    """Write a program to begin from.

    With a workflow and its tests.

    Example: holdfast new saga --out orders.py
    """
    from ..examples.templates.new_file import new_file

    path = new_file(template, out)
    print(f"wrote {path}; run it: python {path}; test it: pytest {path}")


@click.command("init")
@click.argument("template", required=False, type=click.Choice(_templates()))
def init(template: str | None) -> None:
    """Write a sample, and say what to do next.

    Into the current folder.

    Example: holdfast init
    """
    from ..examples.templates.new_file import new_file

    path = new_file(template or _templates()[0], None)
    module = path.stem
    print(f"wrote {path}, a workflow with its tests")
    print(f"  run it          python {path}")
    print(f"  test it         pytest {path}")
    print(f"  draw it         holdfast graph {module}")
    print(f"  what may go wrong on replay   holdfast lint {path}")
    print("  look into the folder that it writes   holdfast runs FOLDER")


COMMANDS = [demo, init, new]
