"""What a custom image left: checked as what it is, files by somebody else.

Nothing here runs or unpickles anything of it. A link, a name that could leave the folder, an answer too many, too few
or of an unknown class ends the run with a message that says what to write instead; values are never quoted.
"""

import json
import math
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelkit.artifact.version import ArtifactError, check_name
from modelkit.contract import exchange
from modelkit.contract.files import CARD, MODEL_ONNX
from modelkit.errors import RefusedError
from modelkit.train.custom.predictions import Predictions, read_predictions

_MOST_CARD_BYTES = 65_536
_MOST_ONNX_BYTES = 2 * 1024**3
_MOST_REPORTED = 50
_LONGEST_NAME = 128
_DEEPEST = 8


@dataclass(frozen=True, slots=True, eq=False)
class Outputs:
    """What the image wrote, checked."""

    predictions: Predictions
    model: Mapping[str, Path]
    """Names of the version's files, `model/…`, and where they are."""
    onnx: bytes | None
    card: str
    """Markdown; empty when there is none."""
    reported: Mapping[str, float]
    notes: tuple[str, ...]
    """What was left out."""


def read_outputs(folder: Path, rows: int, classes: tuple[Any, ...] | None) -> Outputs:
    """Check and read everything below `folder`, for `rows` test rows and the `classes` that the image was told of.

    Raises RefusedError with the reason OutputMissing, BadOutput, BadPredictions or OutputTooLarge.
    """
    files = dict(_walk(folder))
    found = [name for name in exchange.PREDICTIONS if name in files]
    if len(found) != 1:
        one, other = exchange.PREDICTIONS
        raise RefusedError(
            "OutputMissing" if not found else "BadOutput",
            f"the custom image must write outputs/{one} or outputs/{other} with an answer to every row of "
            f"inputs/{exchange.TEST}; found " + ("both" if found else "neither"),
        )
    predictions = read_predictions(files.pop(found[0]), rows, classes)
    model = {name: files.pop(name) for name in sorted(files) if name.startswith(f"{exchange.MODEL_FOLDER}/")}
    _check_model(model)
    onnx = _read_bytes(files.pop(MODEL_ONNX, None), _MOST_ONNX_BYTES)
    if not model and onnx is None:
        raise RefusedError(
            "OutputMissing",
            f"the custom image wrote no model; expected files below outputs/{exchange.MODEL_FOLDER}/, "
            f"outputs/{MODEL_ONNX}, or both",
        )
    card = _read_bytes(files.pop(CARD, None), _MOST_CARD_BYTES)
    reported = _read_reported(files.pop(exchange.REPORTED_METRICS, None))
    notes = tuple(f"outputs/{_shown(name)} isn't part of the contract and was left out" for name in files)
    text = (card or b"").decode("utf-8", errors="replace").strip()
    return Outputs(predictions, model, onnx, text, reported, notes[:10])


def _walk(folder: Path, below: str = "", depth: int = 0) -> Iterator[tuple[str, Path]]:
    """Every regular file by its path below `folder`, in a fixed order; raises RefusedError for anything else."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    for entry in entries:
        name = f"{below}{entry.name}"
        mode = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode) and depth <= _DEEPEST:
            yield from _walk(Path(entry.path), f"{name}/", depth + 1)
        elif stat.S_ISREG(mode):
            yield name, Path(entry.path)
        else:
            kind = "a link" if stat.S_ISLNK(mode) else "nested too deeply" if stat.S_ISDIR(mode) else "a special file"
            raise RefusedError(
                "BadOutput", f"outputs/{_shown(name)} is {kind}; expected regular files: copy what it should hold"
            )


def _check_model(model: Mapping[str, Path]) -> None:
    for name in model:
        try:
            check_name(name)
        except ArtifactError as exc:
            raise RefusedError(
                "BadOutput",
                f"outputs/{_shown(name)} can't be stored under its name; expected at most 8 parts of at most 128 "
                "letters, digits and _.=+,@- that begin with a letter, a digit or _",
            ) from exc
    if len(model) > exchange.MOST_MODEL_FILES:
        raise RefusedError(
            "OutputTooLarge",
            f"the custom image wrote {len(model)} model files; at most {exchange.MOST_MODEL_FILES} are stored: "
            "pack them together",
        )
    size = sum(path.stat().st_size for path in model.values())
    if size > exchange.MOST_MODEL_BYTES:
        raise RefusedError(
            "OutputTooLarge",
            f"the custom image's model files are {size} bytes; at most {exchange.MOST_MODEL_BYTES} are stored: "
            "leave optimizer states and checkpoints out",
        )


def _read_bytes(path: Path | None, limit: int) -> bytes | None:
    if path is None:
        return None
    if (size := path.stat().st_size) > limit:
        raise RefusedError("OutputTooLarge", f"outputs/{path.name} is {size} bytes; at most {limit} are read")
    return path.read_bytes()


def _read_reported(path: Path | None) -> dict[str, float]:
    """The numbers of metrics.json: a flat object of names and finite numbers."""
    data = _read_bytes(path, _MOST_CARD_BYTES)
    if data is None:
        return {}
    try:
        plain = json.loads(data)
    except ValueError as exc:
        raise _bad_metrics("it isn't JSON") from exc
    if not isinstance(plain, dict) or len(plain) > _MOST_REPORTED:
        raise _bad_metrics(f"it isn't an object of at most {_MOST_REPORTED} numbers")
    for value in plain.values():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise _bad_metrics("a value isn't a finite number")
    return {str(name)[:_LONGEST_NAME]: float(value) for name, value in sorted(plain.items())}


def _bad_metrics(problem: str) -> RefusedError:
    return RefusedError(
        "BadOutput",
        f'outputs/{exchange.REPORTED_METRICS} must be an object of names and numbers such as {{"epochs": 12}}; '
        f"{problem}",
    )


def _shown(name: str) -> str:
    """A name of the image's choice, fit for a message."""
    return "".join(char if char.isprintable() else "?" for char in name)[:200]
