"""`holdfast new`: a template becomes a file of the user's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from holdfast import CallerError

# Each is a file beside this one, with underscores.
TEMPLATES: Final = ("saga", "approval", "pipeline", "cron", "fan-out")


def new_file(template: str, out: Path | None = None) -> Path:
    """Write a template to `out`, or to a file of its own name in the current folder; the path written.

    Raises `CallerError` when there is a file already (nothing is overwritten), and when it can't be written.
    """
    if template not in TEMPLATES:
        raise CallerError(f"there is no template {template!r}; choose one of {', '.join(TEMPLATES)}")
    name = f"{template.replace('-', '_')}.py"
    path = Path(name) if out is None else out
    if path.suffix != ".py":
        raise CallerError(f"{path}: a template is a Python file; give it a name that ends with .py")
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    if re.fullmatch(r"[\w.-]+", path.name):  # what to type stands in the file
        text = text.replace(name, path.name)
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise CallerError(f"{path} is there already, and is left as it is; choose another --out") from None
    except OSError as error:
        raise CallerError(f"{path} can't be written: {error}") from error
    return path
