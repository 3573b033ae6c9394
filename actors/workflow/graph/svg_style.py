"""The colours of a picture, for light pages and for dark ones."""

from __future__ import annotations

from typing import Final, NamedTuple, TypeAlias

from .model import BlockKind, NodeKind


class _Colours(NamedTuple):
    fill: str
    stroke: str
    text: str


_Palette: TypeAlias = dict[str, _Colours]

CLASSES: Final[dict[NodeKind, str]] = {
    "start": "edge", "end": "edge", "return": "edge", "continue": "edge", "raise": "fail",
    "step": "step", "actor": "actor", "child": "send", "send": "send", "emit": "send", "status": "send",
    "sleep": "time", "wait": "time", "until": "time",
    "branch": "choice", "match": "choice", "loop": "loop", "each": "loop", "call": "call", "await": "await",
    "fork": "bar", "join": "bar",
    "try": "guard", "except": "guard", "finally": "guard", "timeout": "guard",
}  # fmt: skip

_LIGHT: Final[_Palette] = {
    "page": _Colours("#ffffff", "#6b7280", "#1b1f24"),
    "step": _Colours("#e7effd", "#3b6fd4", "#14233f"),
    "actor": _Colours("#e3f5ea", "#2f8f55", "#0f2d1b"),
    "send": _Colours("#e2f4f6", "#2a8a96", "#0d2d31"),
    "time": _Colours("#fdf2d4", "#a97a08", "#3a2a04"),
    "choice": _Colours("#f3f4f6", "#6b7280", "#1b1f24"),
    "loop": _Colours("#eee9fd", "#7a5bd0", "#271a4d"),
    "guard": _Colours("#fdeae8", "#c2554d", "#431512"),
    "call": _Colours("#f8f9fb", "#6b7280", "#1b1f24"),
    "await": _Colours("#ffffff", "#6b7280", "#1b1f24"),
    "edge": _Colours("#2b323b", "#2b323b", "#ffffff"),
    "fail": _Colours("#b3403a", "#b3403a", "#ffffff"),
    "bar": _Colours("#5a6472", "#5a6472", "#ffffff"),
    "warning": _Colours("#f59e0b", "#ffffff", "#3a2600"),
}
_DARK: Final[_Palette] = {
    "page": _Colours("#0f1318", "#8b949e", "#e6e9ee"),
    "step": _Colours("#17273f", "#5b8def", "#dbe7ff"),
    "actor": _Colours("#12301f", "#4cc07d", "#d5f5e2"),
    "send": _Colours("#0f2b30", "#46b4c2", "#d3f1f5"),
    "time": _Colours("#332a0f", "#d6a92f", "#fbeec8"),
    "choice": _Colours("#1d232b", "#8b949e", "#e6e9ee"),
    "loop": _Colours("#251e3d", "#a48bf0", "#e6defd"),
    "guard": _Colours("#331917", "#e27d74", "#fbdcd9"),
    "call": _Colours("#171c22", "#8b949e", "#e6e9ee"),
    "await": _Colours("#0f1318", "#8b949e", "#e6e9ee"),
    "edge": _Colours("#dfe3e8", "#dfe3e8", "#0f1318"),
    "fail": _Colours("#e27d74", "#e27d74", "#1f0a08"),
    "bar": _Colours("#8b949e", "#8b949e", "#0f1318"),
    "warning": _Colours("#f59e0b", "#0f1318", "#3a2600"),
}
FRAMES: Final[dict[BlockKind, str]] = {
    "loop": "loop", "try": "guard", "timeout": "guard", "parallel": "choice", "call": "choice",
}  # fmt: skip

_SHAPES: Final = """\
.hf text{font-family:ui-monospace,Menlo,Consolas,"DejaVu Sans Mono",monospace;font-size:12px}
.hf .small,.hf .caption{font-size:10px}
.hf .caption{opacity:.7}
.hf .title{font-weight:bold;font-size:14px}
.hf .middle{text-anchor:middle}
.hf .line{fill:none;stroke-width:1.4}
.hf .error{stroke-dasharray:5 4}
.hf .frame{fill-opacity:.35;stroke-opacity:.45}
.hf .unreachable{opacity:.55}
.hf .unreachable .shape,.hf .await .shape{stroke-dasharray:4 3}
"""


def style() -> str:
    """The style sheet; its rules are for what lies below the class `hf` alone."""
    dark = "".join(_rules(_DARK))
    return f"{_SHAPES}{''.join(_rules(_LIGHT))}@media (prefers-color-scheme:dark){{\n{dark}}}\n"


def _rules(palette: _Palette) -> list[str]:
    page = palette["page"]
    rules = [
        f".hf .page{{fill:{page.fill}}}\n",
        f".hf text{{fill:{page.text}}}\n",
        f".hf .line{{stroke:{page.stroke}}}\n",
        f".hf .head{{fill:{page.stroke}}}\n",
        f".hf .line.error{{stroke:{palette['guard'].stroke}}}\n",
        f".hf .head.error{{fill:{palette['guard'].stroke}}}\n",
    ]
    for name, colours in palette.items():
        if name != "page":
            rules.append(f".hf .{name} .shape{{fill:{colours.fill};stroke:{colours.stroke}}}\n")
            rules.append(f".hf .{name} text{{fill:{colours.text}}}\n")
    for name in dict.fromkeys(FRAMES.values()):
        rules.append(f".hf .frame.{name}{{fill:{palette[name].fill};stroke:{palette[name].stroke}}}\n")
    return rules
