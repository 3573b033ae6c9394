"""docs/observability.md, the dashboard and the rules tell the metrics that there are."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.metrics_core import Metric

from holdfast import Runtime
from holdfast.service.prometheus import families

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "observability.md").read_text(encoding="utf-8")
DASHBOARD = json.loads((DOCS / "observability" / "grafana-dashboard.json").read_text(encoding="utf-8"))
RULES = yaml.safe_load((DOCS / "observability" / "prometheus-rules.yml").read_text(encoding="utf-8"))
# What PromQL has beside metrics and labels, as far as it is used here.
_WORD = re.compile(r"\bholdfast_\w+")


@pytest.fixture
async def found(folder: Path) -> list[Metric]:
    """The families of a runtime that has done nothing."""
    async with Runtime(folder) as rt:
        return families(rt.metrics())


def row(family: Metric) -> tuple[str, str, str, str]:
    """A family as the page tells it."""
    name = f"{family.name}_total" if family.type == "counter" else family.name
    labels: tuple[str, ...] = getattr(family, "_labelnames", ())
    return name, family.type, ", ".join(f"`{label}`" for label in labels), family.documentation


def series(found: list[Metric]) -> dict[str, set[str]]:
    """The labels of each series, by its name."""
    told: dict[str, set[str]] = {}
    for family in found:
        labels: set[str] = set(getattr(family, "_labelnames", ()))
        if family.type == "counter":
            told[f"{family.name}_total"] = labels
        elif family.type == "histogram":
            told[f"{family.name}_bucket"] = labels | {"le"}
            told |= dict.fromkeys((f"{family.name}_sum", f"{family.name}_count"), labels)
        else:
            told[family.name] = labels
    return told


def expressions() -> list[str]:
    """All that is asked of Prometheus."""
    panels: list[dict[str, Any]] = DASHBOARD["panels"]
    asked = [target["expr"] for panel in panels for target in panel.get("targets", ())]
    asked += [one["query"]["query"] for one in DASHBOARD["templating"]["list"] if one["type"] == "query"]
    return asked + [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]


async def test_table(found: list[Metric]) -> None:
    """The page's table is the code's list, in its order."""
    rows = re.findall(r"^\| `(holdfast_\w+)` \| (\w+) \| ([^|]*) \| ([^|]+) \|$", PAGE, re.MULTILINE)
    assert [(name, kind, labels.strip(), text) for name, kind, labels, text in rows] == [
        row(family) for family in found
    ]


@pytest.mark.parametrize("expression", expressions())
async def test_expression(found: list[Metric], expression: str) -> None:
    """Each metric, with each label that is asked of it, exists; brackets close."""
    told = series(found)
    names = _WORD.findall(expression)
    assert names
    for name in names:
        assert name in told, name
    for name, selector in re.findall(r"\b(holdfast_\w+)\{([^}]*)\}", expression):
        labels = set(re.findall(r"(\w+)\s*(?:=~|!=|!~|=)", selector))
        assert labels <= told[name] | {"instance"}, name
    for opened, closed in ("()", "[]", "{}"):
        assert expression.count(opened) == expression.count(closed)


def test_rules() -> None:
    """Each rule has what Prometheus wants of it, and a name of its own."""
    rules = [rule for group in RULES["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules)
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in ("page", "warn")
        assert rule["annotations"]["summary"]
        assert re.fullmatch(r"\d+[smh]", rule.get("for", "5m"))


def test_dashboard() -> None:
    """Panels have numbers of their own, lie within the grid and on no other."""
    panels: list[dict[str, Any]] = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
