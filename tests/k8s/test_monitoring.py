"""Alerts and dashboard ask for metrics that exist, by labels that they have; every alert says what to do."""

import json
import re
from collections.abc import Iterator

import pytest
import yaml
from prometheus_client import REGISTRY, Metric

import growth.serving  # noqa: F401 - importing it brings every metric of api and worker
from growth.plumbing.watch.telemetry import RequestMetrics
from tests.k8s.render import K8S

MONITORING = K8S / "components" / "monitoring"
ADDED = {"pod", "le"}
"""Labels that Prometheus adds, or a histogram has."""


def metrics() -> dict[str, set[str]]:
    """Return the names of all samples there are, each with its labels."""
    found: dict[str, set[str]] = {}
    http = RequestMetrics()
    http.observe("GET", "/", 200, 0.1)
    families = [(family, labels_of(name)) for name, family in declared()]
    families += [(family, {"method", "route", "status"}) for family in http.collect()]
    for family, labels in families:
        endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(family.type, [""])
        found |= {family.name + ending: labels | ADDED for ending in endings}
    return found


def declared() -> Iterator[tuple[str, Metric]]:
    for family in REGISTRY.collect():
        if family.name.startswith("growth_"):
            yield family.name, family


def labels_of(name: str) -> set[str]:
    collector = REGISTRY._names_to_collectors.get(name) or REGISTRY._names_to_collectors[f"{name}_total"]
    return set(getattr(collector, "_labelnames", ()))


def rules() -> list[dict[str, object]]:
    said = yaml.safe_load((MONITORING / "alerts.yaml").read_text(encoding="utf-8"))
    return [rule for group in said["spec"]["groups"] for rule in group["rules"]]


def queries() -> list[str]:
    panels = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))["panels"]
    shown = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    (scaled,) = yaml.safe_load_all((K8S / "components" / "keda" / "worker.yaml").read_text(encoding="utf-8"))
    return [*shown, *(str(rule["expr"]) for rule in rules()), scaled["spec"]["triggers"][0]["metadata"]["query"]]


def unknown(query: str) -> list[str]:
    """Return metrics that do not exist, and labels that they do not have."""
    known, faults = metrics(), []
    named = re.findall(r"\b(growth_\w+)(?:\{([^}]*)\})?", query)
    for name, selector in named:
        if name not in known:
            faults.append(name)
        else:
            asked = set(re.findall(r"(\w+)\s*[=!]", selector))
            faults += [f"{name}{{{label}}}" for label in sorted(asked - known[name])]
    grouped = {label for labels in re.findall(r"\bby \(([^)]*)\)", query) for label in re.split(r"[\s,]+", labels)}
    of_all = set().union(*(known.get(name, set()) for name, _ in named))
    return faults + sorted(grouped - of_all)


def test_every_query_asks_for_what_exists() -> None:
    assert len(queries()) > 30
    assert {query: unknown(query) for query in queries() if unknown(query)} == {}


@pytest.mark.parametrize(
    "query",
    ["rate(growth_tea_total[1m])", "growth_outbox_lag_seconds{tea='x'}", "sum by (tea) (growth_outbox_lag_seconds)"],
)
def test_a_query_for_what_does_not_exist_is_seen(query: str) -> None:
    assert unknown(query)


def test_brackets_close() -> None:
    for query in queries():
        for opening, closing in ("()", "{}", "[]"):
            assert query.count(opening) == query.count(closing), query


def test_every_alert_has_a_section_that_says_what_to_do() -> None:
    text = (K8S / "README.md").read_text(encoding="utf-8")
    sections = {line.removeprefix("### ").strip().lower() for line in text.splitlines() if line.startswith("### ")}
    for rule in rules():
        name = str(rule["alert"])
        notes = rule["annotations"]
        assert isinstance(notes, dict)
        assert notes["runbook"] == f"k8s/README.md#{name.lower()}"
        assert name.lower() in sections, name


def test_panels_do_not_lie_over_each_other() -> None:
    panels = json.loads((MONITORING / "dashboard.json").read_text(encoding="utf-8"))["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
