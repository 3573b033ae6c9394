"""The colours of the pages: each text is readable on what it stands on, in both schemes (WCAG 2, AA)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from holdfast.actors.workflow.head import ALL_STATUSES
from holdfast.service.pages import shell

CSS = (Path(shell.__file__).parent / "static" / "pages.css").read_text(encoding="utf-8")
GROUNDS = ("page", "surface", "sunken")
STATUSES = ("running", "complete", "waiting", "retrying", "stuck", "failed")
# (text, what it stands on)
PAIRS = [
    *((text, ground) for text in ("text", "muted", "accent", "failed") for ground in GROUNDS),
    *((status, f"{status}-soft") for status in STATUSES),
    *((status, "surface") for status in STATUSES),
    ("accent-text", "accent"),
    ("accent", "accent-soft"),
    ("surface", "failed"),
]


def palettes() -> dict[str, dict[str, str]]:
    """The custom properties of each block that sets them all, by its selector."""
    found: dict[str, dict[str, str]] = {}
    for selector, block in re.findall(r"(:root[^{]*)\{([^}]*)\}", CSS):
        colours = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", block))
        if colours:
            found[selector.strip()] = colours
    return found


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def test_there_are_a_light_and_a_dark_palette_and_the_dark_one_is_one() -> None:
    """What the system asks for and what the switch asks for is the same dark."""
    light, by_system, by_switch = palettes().values()
    assert by_system == by_switch
    assert light.keys() == by_switch.keys()
    assert not set(light.values()) & set(by_switch.values())


@pytest.mark.parametrize("scheme", [0, 2])
@pytest.mark.parametrize(("text", "ground"), PAIRS)
def test_contrast(scheme: int, text: str, ground: str) -> None:
    """At least 4.5 to 1."""
    colours = list(palettes().values())[scheme]
    assert contrast(colours[text], colours[ground]) >= 4.5


@pytest.mark.parametrize("scheme", [0, 2])
def test_edges_of_fields_are_seen(scheme: int) -> None:
    """At least 3 to 1 beside what they stand on."""
    colours = list(palettes().values())[scheme]
    for ground in ("page", "surface"):
        assert contrast(colours["line-strong"], colours[ground]) >= 3


def test_every_status_has_a_sign_of_its_own() -> None:
    """No status is told by its colour alone."""
    parts = (Path(shell.__file__).parent / "templates" / "parts.html").read_text(encoding="utf-8")
    signs = dict(re.findall(r'"([a-z ]+)": "(M[^"]+)"', parts))
    assert set(ALL_STATUSES) <= signs.keys()
