"""Where the files of a version lie for another model server. Pure.

Triton, TensorFlow Serving and MLServer all look for `<model name>/<number>/<files>`. What a custom training wrote below
`model/` keeps its relative path there, so that `model/saved_model.pb` becomes `<name>/<number>/saved_model.pb`.
Triton alone wants something above the number: `config.pbtxt` and the label files that it names.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from modelkit.contract.exchange import MODEL_FOLDER
from modelkit.contract.files import MODEL_ONNX, MODEL_SKOPS, SAMPLES, SIGNATURE
from modelkit.errors import RefusedError

TRITON_CONFIG = "config.pbtxt"
_OWN = (MODEL_ONNX, MODEL_SKOPS, SIGNATURE, SAMPLES)
"""What of the version's own files is of use to a runtime."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/-]{0,252}")


def lay_out(names: Iterable[str], model_name: str, number: int) -> Mapping[str, PurePosixPath]:
    """For each file of the version that the runtime gets, its path below the folder of models.

    Where a custom training wrote a file that has the name of one of ours, its own is what the runtime gets. Raises
    RefusedError for a model name that would leave the folder, and for a version without any model.
    """
    check_model_name(model_name)
    root = PurePosixPath(model_name) / str(number)
    found = {name: _place(root, name) for name in names if name in _OWN or name.startswith(f"{MODEL_FOLDER}/")}
    custom = {part for name, path in found.items() if "/" in name for part in (path, *path.parents)}
    places = {name: path for name, path in found.items() if "/" in name or path not in custom}
    if not set(places) - {SIGNATURE, SAMPLES}:
        raise RefusedError(
            "VersionNotServable",
            f"version {number} has neither {MODEL_ONNX} nor files below {MODEL_FOLDER}/ that a runtime could serve",
        )
    return places


def model_path(model_name: str, number: int) -> PurePosixPath:
    """The version's own folder, below the folder of models."""
    return PurePosixPath(model_name) / str(number)


def check_model_name(found: Any) -> None:
    """Raise RefusedError for a name that isn't a relative path of plain parts."""
    if not isinstance(found, str) or not _NAME.fullmatch(found) or not {"", ".", ".."}.isdisjoint(found.split("/")):
        raise RefusedError(
            "BadConfig",
            "the runtime's model name must be made of letters, digits, '.', '-' and '_', with '/' between parts",
        )


def _place(root: PurePosixPath, name: str) -> PurePosixPath:
    relative = PurePosixPath(name)
    if relative.parts[0] == MODEL_FOLDER and len(relative.parts) > 1:
        relative = relative.relative_to(MODEL_FOLDER)
    if str(relative) == TRITON_CONFIG:
        return root.parent / TRITON_CONFIG
    return root / relative
