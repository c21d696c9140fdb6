"""card.md: what a version is, for a person who must decide whether to trust it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from modelkit.evaluate.importance import Importance
from modelkit.train.finished import Finished

_MOST_COLUMNS = 20
_MOST_CLASSES = 12
"""Of more classes a table doesn't fit a page; metrics.json has them."""


def build_card(run: Finished, metrics: Mapping[str, Any], importance: Sequence[Importance]) -> str:
    """The model card in Markdown; `metrics` is the content of metrics.json."""
    parts = [
        _head(run),
        _quality(metrics),
        _classes(metrics),
        _candidates(metrics),
        _inputs(run, importance),
        _notes(run),
        _reproduce(run),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(run: Finished) -> str:
    config, result = run.config, run.result
    best = run.candidate
    maker = f"{best.name} with {_params(best.params)}" if best else "the custom image"
    judge = (
        "held-out labelled requests"
        if result.evaluated_on == "Recent"
        else f"{config.test_fraction:.0%} of the data, held out"
    )
    lines = [
        f"# {config.namespace}/{config.name}, version {config.number}",
        f"{result.task} of `{config.data.target}` by {maker}.",
        f"- Data: `{config.data.display_uri}`, {result.train_rows} rows to learn from, "
        f"{result.test_rows} to judge by ({judge})",
        f"- Labelled captured rows found: {result.feedback_rows}" if config.feedback else "",
        f"- Trigger: {config.trigger}",
        "- Served from: " + _server(result.format, result.format_message),
    ]
    return "\n".join(line for line in lines if line).replace("\n- Data", "\n\n- Data", 1)


def _server(form: str | None, why: str | None) -> str:
    served = {"Onnx": "`model.onnx`", "Skops": f"`model.skops` ({why})"}
    return served.get(form or "", f"an image that knows the files below `model` ({why})")


def _quality(metrics: Mapping[str, Any]) -> str:
    champion, source = metrics["champion"], metrics["source_test"]
    bounds = metrics["intervals"]["bounds"]
    confidence = metrics["intervals"]["confidence"]
    header = ["metric", "this version", f"{confidence:.0%} interval", "trivial predictor"]
    header += [f"version {champion['number']}"] if champion else []
    header += ["on the source's test part"] if source else []
    rows = []
    for name, value in metrics["metrics"].items():
        row = [f"**{name}**" if name == metrics["metric"] else name, _number(value)]
        row.append(" to ".join(_number(bound) for bound in bounds[name]) if name in bounds else "")
        row.append(_number(metrics["trivial"].get(name)))
        row += [_number(champion["metrics"].get(name))] if champion else []
        row += [_number(source.get(name))] if source else []
        rows.append(row)
    text = "## Quality\n\n" + _table(header, rows)
    for name, difference in ((champion or {}).get("differences") or {}).items():
        text += (
            f"\n\nImprovement of {name} over version {champion['number']} on the same rows: "
            f"{_number(difference['value'])} ({_number(difference['low'])} to {_number(difference['high'])})."
        )
    if metrics["champion_message"]:
        text += f"\n\nNot compared with the champion: {metrics['champion_message']}."
    return text


def _classes(metrics: Mapping[str, Any]) -> str:
    confusion = metrics["confusion"]
    if confusion is None or len(confusion["classes"]) > _MOST_CLASSES:
        return ""
    names = [_escape(str(label)) for label in confusion["classes"]]
    scores = [
        [
            name,
            str(entry["rows"]),
            *(
                f"{_number(entry[score])} ({_number(entry['intervals'][score][0])} to "
                f"{_number(entry['intervals'][score][1])})"
                for score in ("precision", "recall", "f1")
            ),
        ]
        for name, entry in zip(names, confusion["scores"], strict=True)
    ]
    matrix = [[f"**{name}**", *map(str, counts)] for name, counts in zip(names, confusion["matrix"], strict=True)]
    return (
        "## Classes\n\n"
        + _table(["class", "rows", "precision", "recall", "f1"], scores)
        + "\n\nRows by true class (down) and predicted class (across):\n\n"
        + _table(["", *names], matrix)
    )


def _candidates(metrics: Mapping[str, Any]) -> str:
    if not metrics["candidates"]:
        return ""
    rows = [
        [entry["estimator"], _params(entry["params"]), _number(entry["mean"]), _number(entry["deviation"])]
        for entry in metrics["candidates"]
    ]
    header = ["candidate", "parameters", f"mean {metrics['metric']}", "deviation"]
    return "## Candidates\n\nBy cross-validation on the training part, best first.\n\n" + _table(header, rows)


def _inputs(run: Finished, importance: Sequence[Importance]) -> str:
    known = {column.name: column for column in run.columns}
    ranked = [entry.name for entry in importance] or list(known)
    means = {entry.name: entry.mean for entry in importance}
    rows = [
        [_escape(name), known[name].dtype, "yes" if known[name].nullable else "no", _number(means.get(name))]
        for name in ranked[:_MOST_COLUMNS]
    ]
    text = "## Inputs\n\n" + _table(["column", "type", "may be missing", f"importance ({run.metric})"], rows)
    more = len(ranked) - len(rows)
    return text + (f"\n\nand {more} more columns" if more > 0 else "")


def _notes(run: Finished) -> str:
    return "## Notes\n\n" + "\n".join(f"- {_escape(note)}" for note in run.notes) if run.notes else ""


def _reproduce(run: Finished) -> str:
    config = run.config
    if run.trials:
        learning = [
            f"- Seed {config.seed}, {config.folds} folds, test part {config.test_fraction:g}",
            f"- Scaling {config.preprocessing.scaling}, imputation {config.preprocessing.imputation}",
        ]
    else:
        params = _params(config.custom.params) if config.custom else ""
        learning = [f"- Seed {config.seed}, test part {config.test_fraction:g}, {params} of the custom image"]
    lines = [
        *learning,
        f"- Data digest `{run.result.data_digest}`",
        "- Packages: " + ", ".join(f"{name} {version}" for name, version in run.packages.items()),
    ]
    return "## To reproduce\n\n" + "\n".join(lines)


def _params(params: Mapping[str, Any]) -> str:
    return f"`{json.dumps(dict(params), sort_keys=True)}`" if params else "default parameters"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _escape(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
