"""What the demo ends with: a table of the versions, and where to look further."""

from datetime import datetime
from typing import Any

from rich.console import Console
from rich.table import Table

from demo.environment import BUILD, Environment
from demo.story import NAMESPACE, Story


def show(console: Console, story: Story, environment: Environment) -> None:
    """Print the table and the commands."""
    training = story.status("modeltraining")
    records = sorted(training.get("history", []), key=lambda record: record["number"])
    deployment = story.status("modeldeployment")
    console.print(_table(records, training, deployment))
    _print_traffic(console, story)
    kubectl = f"{story.kubectl.path} --kubeconfig {environment.kubeconfig} -n {NAMESPACE}"
    console.print(f"\nserver    {environment.server_address}/v2/models/cancer", soft_wrap=True)
    console.print(f"report    {BUILD / 'report.html'}", soft_wrap=True)
    console.print(f"look      {kubectl} get mt,md,mm", soft_wrap=True)
    console.print(f"          {kubectl} describe mt cancer", soft_wrap=True)
    console.print("remove    make demo-down")


def _table(records: list[dict[str, Any]], training: dict[str, Any], deployment: dict[str, Any]) -> Table:
    champion = (training.get("champion") or {}).get("number")
    table = Table(title="breast cancer: f1 per version", title_justify="left")
    for name in ("version", "why", "estimator", "before drift", "after drift", "verdict", "digest", "began", "took"):
        table.add_column(name, justify="right" if "drift" in name else "left")
    for record in records:
        number = record["number"]
        before, after = _before_and_after(record, records)
        served = " (served)" if deployment.get("stable", {}).get("number") == number else ""
        table.add_row(
            f"{number}{served}",
            record["trigger"]["reason"],
            record.get("estimator") or "",
            before,
            after,
            record["verdict"] + (" ★" if number == champion else ""),
            (record.get("digest") or "").removeprefix("sha256:")[:12],
            record["startTime"][11:19],
            _seconds(record),
        )
    return table


def _before_and_after(record: dict[str, Any], records: list[dict[str, Any]]) -> tuple[str, str]:
    """f1 on rows from before the drift, and on the labelled rows that came after it."""
    metrics = record.get("metrics", {})
    if record.get("evaluatedOn") == "Recent":
        return "", _number(metrics.get("f1"))
    # The next version measured this one, as its champion, on the recent rows.
    later = next((item for item in records if item.get("championNumber") == record["number"]), {})
    recent = later.get("championMetrics", {}) if later.get("evaluatedOn") == "Recent" else {}
    return _number(metrics.get("f1")), _number(recent.get("f1"))


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _seconds(record: dict[str, Any]) -> str:
    start, end = (datetime.fromisoformat(record[key]) for key in ("startTime", "completionTime"))
    return f"{(end - start).total_seconds():.0f}s"


def _print_traffic(console: Console, story: Story) -> None:
    outcome = story.outcome
    for title, tally in (
        ("before the drift", outcome.baseline),
        ("after the drift", outcome.drifted),
        ("after the healing", outcome.final),
    ):
        if tally is not None:
            versions = ", ".join(sorted(tally.versions))
            console.print(f"answers {title}: f1 {tally.f1:.3f} of {tally.requests} patients by version {versions}")
    if outcome.rollout is not None:
        tally = outcome.rollout
        console.print(f"during retraining and rollout: {tally.requests} requests, {len(tally.failures)} failed")
