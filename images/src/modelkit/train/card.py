"""card.md: what a version is, for a person who must decide whether to trust it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from modelkit.evaluate.importance import Importance
from modelkit.train.finished import Finished

_MOST_COLUMNS = 20
_MOST_TRIALS = 20
_MOST_CLASSES = 12
"""Of more classes a table doesn't fit a page; metrics.json has them."""


def build_card(run: Finished, metrics: Mapping[str, Any], importance: Sequence[Importance]) -> str:
    """The model card in Markdown; `metrics` is the content of metrics.json."""
    parts = [
        _head(run),
        _quality(metrics),
        _classes(metrics),
        _slices(metrics),
        _candidates(metrics),
        _learning(metrics),
        _compression(metrics),
        _inputs(run, importance),
        _selection(metrics),
        _findings(metrics),
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
    every = metrics["candidates"]
    rows = [
        [entry["estimator"], _params(entry["params"]), _number(entry["mean"]), _number(entry["deviation"])]
        for entry in every[:_MOST_TRIALS]
    ]
    header = ["candidate", "parameters", f"mean {metrics['metric']}", "deviation"]
    is_folded = len(every[0]["folds"]) > 1
    how = "By cross-validation on the training part" if is_folded else "By the validation part"
    text = f"## Candidates\n\n{how}, best first.\n\n" + _table(header, rows)
    more = len(every) - len(rows)
    return text + (f"\n\nand {more} more trials, which metrics.json has" if more > 0 else "")


def _slices(metrics: Mapping[str, Any]) -> str:
    """The primary metric on each slice, and what gates compare there."""
    slices, metric = metrics["slices"], metrics["metric"]
    if not slices:
        return ""
    champion = metrics["champion"]
    header = ["slice", "rows of", "rows", metric, "interval"] + ([f"version {champion['number']}"] if champion else [])
    rows = []
    for entry in slices:
        row = [
            _escape(entry["name"]),
            _escape(_definition(entry)),
            str(entry["rows"]),
            _number(entry["metrics"].get(metric)),
            " to ".join(map(_number, entry["intervals"].get(metric, ()))),
        ]
        rows.append(row + ([_number(entry["champion"].get(metric))] if champion else []))
    text = "## Slices\n\n" + _table(header, rows)
    for entry in slices:
        for name, found in entry["differences"].items():
            text += (
                f"\n\nImprovement of {name} on slice {_escape(entry['name'])}: {_number(found['value'])} "
                f"({_number(found['low'])} to {_number(found['high'])})."
            )
    return text


def _definition(entry: Mapping[str, Any]) -> str:
    if entry["values"]:
        shown = ", ".join(entry["values"][:5]) + (", …" if len(entry["values"]) > 5 else "")
        return f"{entry['column']}: {shown}"
    low = "" if entry["minimum"] is None else f"{entry['minimum']:g} ≤ "
    high = "" if entry["maximum"] is None else f" < {entry['maximum']:g}"
    return f"{low}{entry['column']}{high}"


def _learning(metrics: Mapping[str, Any]) -> str:
    if message := metrics.get("learning_curve_message"):
        return f"## Learning curve\n\nNone: {_escape(message)}."
    if not (points := metrics.get("learning_curve")):
        return ""
    rows = [[str(point["rows"]), _number(point["training"]), _number(point["validation"])] for point in points]
    header = ["rows learnt from", f"{metrics['metric']} on them", f"{metrics['metric']} on held-out rows"]
    return "## Learning curve\n\nOf the chosen trial, on shares of the training part.\n\n" + _table(header, rows)


def _compression(metrics: Mapping[str, Any]) -> str:
    rows = [
        [
            step["method"],
            "yes" if step["accepted"] else "no",
            _number(step["drop"]),
            f"{step['bytes_before']} to {step['bytes_after']}",
            _escape(step.get("message") or ""),
        ]
        for step in metrics.get("compressions") or ()
    ]
    header = ["method", "taken", f"loss of {metrics['metric']}", "bytes", "what was done"]
    return "## Compression\n\n" + _table(header, rows) if rows else ""


def _selection(metrics: Mapping[str, Any]) -> str:
    if not (selected := metrics.get("selected_features")):
        return ""
    names = selected["columns"]
    shown = ", ".join(_escape(name) for name in names[:_MOST_COLUMNS])
    more = f" and {len(names) - _MOST_COLUMNS} more" if len(names) > _MOST_COLUMNS else ""
    return (
        f"## Selected features\n\n{selected['kept']} of {selected['features']} preprocessed features are used, made of "
        f"{len(names)} columns: {shown}{more}."
    )


def _findings(metrics: Mapping[str, Any]) -> str:
    rows = [
        [
            _escape(found.get("column") or "all"),
            found["rule"],
            "yes" if found["severe"] else "no",
            _number(found.get("value")),
            _number(found.get("limit")),
            _escape(found["message"]),
        ]
        for found in metrics.get("findings") or ()
    ]
    header = ["column", "rule", "severe", "value", "limit", "finding"]
    return "## What the data's validation found\n\n" + _table(header, rows) if rows else ""


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
    origin = config.origin
    lines = [
        *learning,
        *([f"- Image `{origin.image}`"] if origin and origin.image else []),
        *([f"- Revision `{origin.revision}`"] if origin and origin.revision else []),
        f"- Data digest `{run.result.data_digest}`",
        "- Packages: " + ", ".join(f"{name} {version}" for name, version in run.packages.items()),
    ]
    return "## To reproduce\n\n" + "\n".join(lines)


def _params(params: Mapping[str, Any]) -> str:
    return f"`{json.dumps(dict(params), sort_keys=True)}`" if params else "default parameters"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _escape(text: str) -> str:
    """A name within a table: it can be anything, an HTML tag too."""
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
