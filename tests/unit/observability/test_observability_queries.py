"""Dashboards and rules ask for series that there are, so that Prometheus understands it; alerts say what to do."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from devcluster.debian import ensure_programs
from devcluster.shell import find_program
from modelkit.serve.metrics import COUNTED_ROUTES
from tests.unit.observability.exported_metrics import find_exported
from tests.unit.observability.observed_queries import (
    DASHBOARDS,
    MONITORING,
    RULES,
    Query,
    find_alert_series,
    find_all_queries,
    find_metrics,
    read_dashboard,
    read_rules,
)

OPERATIONS = Path(__file__).resolve().parents[3] / "docs" / "operations.md"
RULES_TEST = Path(__file__).with_name("rules_test.yaml")
OF_PROMETHEUS = {"up"}
ALERTS = [rule for rule in read_rules() if "alert" in rule]


def ids(item: Any) -> str:
    return item.place if isinstance(item, Query) else str(item["alert"])


@pytest.fixture(scope="module")
def exported() -> frozenset[str]:
    return find_exported() | {rule["record"] for rule in read_rules() if "record" in rule} | OF_PROMETHEUS


@pytest.fixture(scope="module")
def promtool() -> str:
    """Prometheus' own tool, of Debian's package."""
    if find_program("promtool") is None and (os.geteuid() != 0 or find_program("apt-get") is None):
        reason = "there is no promtool on this machine, and installing Debian's needs root and apt-get"
        if not os.environ.get("CI"):
            pytest.skip(reason)
    ensure_programs(["promtool"])
    found = find_program("promtool")
    assert found is not None
    return found


def run(promtool: str, *arguments: str) -> str:
    done = subprocess.run([promtool, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("sum by (model) (rate(a_total{b=~\"c|d\"}[5m])) / x:y:z", {"a_total", "x:y:z"}),
        ("a * on (b) group_left (c) d or vector(0)", {"a", "d"}),
        ("histogram_quantile(0.99, sum by (le, b) (a_bucket)) > 1e3", {"a_bucket"}),
        ("time() - max(a) < 3600 and on (b) absent(c == 1)", {"a", "c"}),
    ],
)  # fmt: skip
def test_the_metrics_of_an_expression_are_found(expression: str, names: set[str]) -> None:
    assert find_metrics(expression) == names


@pytest.mark.parametrize("query", find_all_queries(), ids=ids)
def test_it_asks_only_for_what_is_exported(exported: frozenset[str], query: Query) -> None:
    found = find_metrics(query.expression)
    assert found or "vector(" in query.expression
    assert found <= exported


def test_what_alerts_look_at_is_every_metric_of_theirs_without_a_comparison() -> None:
    looked_at: dict[str, set[str]] = {}
    for query in find_alert_series():
        assert not re.search(r"[<>]|==|!=|\babsent\b", query.expression), query
        looked_at.setdefault(query.place.rpartition(" ")[0], set()).update(find_metrics(query.expression))
    assert looked_at == {alert["alert"]: find_metrics(alert["expr"]) for alert in ALERTS}


def test_requests_of_users_are_those_that_the_server_counts_as_such() -> None:
    asked = {match for query in find_all_queries() for match in re.findall(r'route=~"([^"]*)"', query.expression)}
    assert {frozenset(routes.split("|")) for routes in asked} == {COUNTED_ROUTES}


def test_prometheus_understands_every_expression(promtool: str, tmp_path: Path) -> None:
    rules = [
        {"record": f"asked:{number}", "expr": query.expression, "labels": {"place": query.place}}
        for number, query in enumerate([*find_all_queries(), *find_alert_series()])
    ]
    page = tmp_path / "rules.yaml"
    page.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    assert f"{len(rules)} rules found" in run(promtool, "check", "rules", str(page))


def test_prometheus_understands_the_rules_and_they_do_what_they_should(promtool: str) -> None:
    run(promtool, "check", "rules", str(RULES))
    run(promtool, "test", "rules", str(RULES_TEST))


def test_every_rule_is_played() -> None:
    played = RULES_TEST.read_text()
    for rule in read_rules():
        name = rule.get("alert") or rule["record"]
        assert name in played or name.replace("p50", "p99") in played, name


@pytest.mark.parametrize("alert", ALERTS, ids=ids)
def test_an_alert_says_what_is_wrong_and_where_to_read_on(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in ("critical", "warning")
    page, _, anchor = alert["annotations"]["runbook_url"].partition("#")
    assert page == "docs/operations.md"
    assert anchor == alert["alert"].lower()
    assert f"### {alert['alert']}\n" in OPERATIONS.read_text()
    assert all(alert["annotations"][name].strip() for name in ("summary", "description"))


def test_the_runbook_has_no_alert_that_there_isnt() -> None:
    told = re.findall(r"^### (ModelLoop\w+)$", OPERATIONS.read_text(), re.MULTILINE)
    assert told == [alert["alert"] for alert in ALERTS]


def test_the_rules_object_has_the_same_rules() -> None:
    generated = yaml.safe_load((MONITORING / "prometheusrule.yaml").read_text())
    assert generated["spec"] == yaml.safe_load(RULES.read_text()), "`make generate` writes it"


@pytest.mark.parametrize("name", DASHBOARDS)
def test_a_dashboard_is_one_that_grafana_can_load(name: str) -> None:
    board = read_dashboard(name)
    panels = board["panels"]
    assert board["uid"] == f"modelloop-{name}"
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, f"{panel['title']} covers another panel"
        taken |= cells
        references = [target["refId"] for target in panel.get("targets", ())]
        assert len(set(references)) == len(references)
    sources = set(re.findall(r'"uid": "([^"]*)"', json.dumps([panels, board["templating"]])))
    assert sources == {"${datasource}"}, "whoever imports it chooses the Prometheus"


@pytest.mark.parametrize(
    "row",
    ["Traffic", "Errors", "Latency", "Predictions", "Drift and quality", "Rollouts", "Retrains", "Training cost"],
)
def test_a_models_page_has_the_row(row: str) -> None:
    assert row in {panel["title"] for panel in read_dashboard("model")["panels"] if panel["type"] == "row"}
