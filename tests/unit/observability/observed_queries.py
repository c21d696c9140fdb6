"""What the committed dashboards and rules ask Prometheus."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

MONITORING = Path(__file__).resolve().parents[3] / "manifests" / "monitoring"
RULES = MONITORING / "rules.yaml"
DASHBOARDS = ("fleet", "model")
FILLED = {"$__rate_interval": "1m", "$namespace": "team", "$model": "cancer", "$training": "cancer"}
"""What Grafana puts in the place of a dashboard's variables."""

_LABEL_LISTS = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")
_QUOTED, _SELECTOR, _RANGE = re.compile(r'"[^"]*"'), re.compile(r"\{[^}]*\}"), re.compile(r"\[[^\]]*\]")
_NAME = re.compile(r"(?<![\w:.])[a-zA-Z_:][\w:]*+(?!\s*\()")
_WORDS = {"and", "or", "unless", "by", "without", "on", "ignoring", "group_left", "group_right", "bool", "offset"}


@dataclass(frozen=True, slots=True)
class Query:
    """An expression, and where it stands."""

    place: str
    expression: str


def read_rules() -> list[dict[str, Any]]:
    """Every rule, whatever its group."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def read_dashboard(name: str) -> dict[str, Any]:
    """A dashboard as Grafana reads it."""
    found: dict[str, Any] = json.loads((MONITORING / "dashboards" / f"{name}.json").read_text())
    return found


def find_panel_queries(name: str, filled: Mapping[str, str] = FILLED) -> Iterator[Query]:
    """What a dashboard's panels ask, with its variables filled in."""
    for panel in read_dashboard(name)["panels"]:
        for target in panel.get("targets", ()):
            yield Query(f"{name}: {panel['title']} {target['refId']}", _fill(target["expr"], filled))


def find_variable_queries(name: str, filled: Mapping[str, str] = FILLED) -> Iterator[Query]:
    """The series that a dashboard's variables take their values from."""
    for variable in read_dashboard(name)["templating"]["list"]:
        if variable["type"] == "query":
            series = re.fullmatch(r"label_values\((.*), \w+\)", variable["query"]["query"])
            assert series is not None, variable
            yield Query(f"{name}: variable {variable['name']}", _fill(series[1], filled))


def find_rule_queries() -> Iterator[Query]:
    """What the rules ask."""
    for rule in read_rules():
        yield Query(rule.get("record") or rule["alert"], rule["expr"])


def find_all_queries() -> list[Query]:
    """Of dashboards and rules."""
    boards = [query for name in DASHBOARDS for query in (*find_panel_queries(name), *find_variable_queries(name))]
    return [*boards, *find_rule_queries()]


def find_metrics(expression: str) -> set[str]:
    """The metrics that an expression of PromQL names."""
    for part in (_QUOTED, _SELECTOR, _RANGE, _LABEL_LISTS):
        expression = part.sub(" ", expression)
    return set(_NAME.findall(expression)) - _WORDS


def _fill(expression: str, filled: Mapping[str, str]) -> str:
    for name, text in filled.items():
        expression = expression.replace(name, text)
    assert "$" not in expression, f"a variable that nothing fills in: {expression}"
    return expression


_COMPARISON = re.compile(r"(?:==|!=|<=|>=|<|>)(?!~)\s*(?:bool\s+)?-?[\d.]+(?:e-?\d+)?")
_SET_OPERATOR = re.compile(r"\b(?:and|or|unless)\b\s*(?:(?:on|ignoring)\s*\([^)]*\))?")
_NOT_YET = {
    "ModelLoopReconcilesFail": '{outcome="error"}',
    "ModelLoopStalled": '{type="Stalled"}',
    "ModelLoopRolledBack": '{result=~"RolledBack|Failed"}',
    "ModelLoopBudgetExhausted": ', reason="BudgetExhausted"',
}
"""What alerts wait for, by the selector of series that there are none of before it happens."""


def find_alert_series() -> Iterator[Query]:
    """What alerts look at: each side of their set operators, without the comparison, and without the mishap that has no
    series before it happens. All of it has data wherever what the alert is about runs."""
    for rule in read_rules():
        if "alert" not in rule:
            continue
        expression = rule["expr"].replace(_NOT_YET.get(rule["alert"], "\0"), "")
        expression = re.sub(r"absent\(([^()]*)\)", r"\1", expression)
        for number, side in enumerate(_SET_OPERATOR.split(_COMPARISON.sub("", expression))):
            yield Query(f"{rule['alert']} {number}", side.strip())
