"""All commands, and what becomes of an error: one sentence on the error output, and an exit code.

0    done, or shown
1    not found; or the command found something wrong (`check`, `lint`, `replay`, `doctor --release`)
2    it can't be done: a wrong argument, a folder or a service that refuses
130  stopped by Ctrl-C
"""

from __future__ import annotations

import os
import sys

import click

from ..actors.errors import LetterNotFound, RunNotFound
from ..client.errors import NotThere, ServiceRefused
from ..runtime.errors import ActorNotFound
from ..storage.errors import HoldfastError
from . import actors, copies, dead, demo, dev, doctor, modules, runs, serving, top

COMPLETION_VARIABLE = "_HOLDFAST_COMPLETE"
_NOT_FOUND = (NotThere, RunNotFound, LetterNotFound, ActorNotFound)


@click.group(
    "holdfast",
    no_args_is_help=False,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="FOLDER is looked into without disturbing the process that has it open.  "
    "--url asks that process instead, where it serves HTTP (`holdfast serve`).",
)
@click.version_option(package_name="holdfast", prog_name="holdfast")
@click.pass_context
def holdfast(context: click.Context) -> None:
    """Durable actors and workflows in one folder.

    Begin with `holdfast demo`, or `holdfast init`, which writes a program to begin from.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(2)


for group in (demo, modules, serving, dev, runs, dead, actors, copies, doctor, top):
    for command in group.COMMANDS:
        holdfast.add_command(command)


def run(arguments: list[str] | None) -> int:
    """Run a command; the exit code."""
    if COMPLETION_VARIABLE in os.environ:
        holdfast.main(arguments, prog_name="holdfast")
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        # Not `main`, which ends the process itself when a pipe is closed.
        with holdfast.make_context("holdfast", given) as context:
            code = holdfast.invoke(context)
        sys.stdout.flush()  # so that a closed pipe is told here
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as ended:
        return ended.exit_code
    except click.ClickException as error:
        _tell(error.format_message(), error)
        return 2
    except _NOT_FOUND as error:
        _tell(error.detail if isinstance(error, ServiceRefused) else str(error))
        return 1
    except HoldfastError as error:
        _tell(error.detail if isinstance(error, ServiceRefused) else str(error))
        return 2
    except (click.Abort, KeyboardInterrupt):
        _tell("stopped")
        return 130
    except BrokenPipeError:  # whoever reads had enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _tell(text: str, error: click.ClickException | None = None) -> None:
    context = error.ctx if isinstance(error, click.UsageError) else None
    more = f" (see {context.command_path} --help)" if context is not None else ""
    print(f"holdfast: {' '.join(text.split())}{more}", file=sys.stderr)
