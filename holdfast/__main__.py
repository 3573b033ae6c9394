"""The command line, `holdfast` or `python -m holdfast`.  It has no commands yet."""

import sys


def main() -> int:
    """Run the command line and return the exit code of the process."""
    print("holdfast: no command is implemented yet", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
