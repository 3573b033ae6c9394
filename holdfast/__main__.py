"""`holdfast`, or `python -m holdfast`: the command line of cli/, where its libraries are installed."""

from __future__ import annotations

import sys


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return the exit code of the process."""
    try:
        from holdfast.cli.root import run
    except ModuleNotFoundError as error:
        missing = (error.name or "click").partition(".")[0]
        if missing == "holdfast":  # a mistake of ours
            raise
        print(f"holdfast needs {missing}; install it with: pip install 'holdfast[cli]'", file=sys.stderr)
        return 2
    return run(arguments)


if __name__ == "__main__":
    sys.exit(main())
