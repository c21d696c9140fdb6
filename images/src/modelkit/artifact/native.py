"""model.skops: the scikit-learn pipeline itself, in a format that constructs only types that we list here.

The pipeline is fitted on arrays, never on data frames, so that a reader needs no pandas: rows are a float64 matrix
when every input is numeric, else an object matrix whose numeric columns hold floats (NaN is missing) and whose
categorical columns hold strings (the empty string is missing), in the order of the signature's inputs.
"""

import importlib
import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

from modelkit.artifact.archive import check_archive
from modelkit.artifact.version import ArtifactError
from modelkit.contract.files import MODEL_SKOPS

TRUSTED_TYPES = (
    "modelkit.artifact.selector.FeatureSelector",
    "modelkit.artifact.transformers.TimeFeatures",
    "modelkit.artifact.transformers.Words",
    "numpy.dtype",
    "sklearn._loss.loss.HalfTweedieLoss",
    "sklearn._loss.loss.HalfTweedieLossIdentity",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.metrics._dist_metrics.ChebyshevDistance64",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.metrics._dist_metrics.ManhattanDistance64",
    "sklearn.metrics._dist_metrics.MinkowskiDistance64",
    "sklearn.model_selection._split.KFold",
    "sklearn.model_selection._split.StratifiedKFold",
    "sklearn.neighbors._ball_tree.BallTree",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.neural_network._stochastic_optimizers.SGDOptimizer",
    "sklearn.tree._tree.Tree",
)
"""What the estimators of the allow-list need beyond skops' own list: plain data holders without side effects when
they are constructed. Fixed on purpose: trusting whatever a file asks for would make the check worthless."""

_NO_CLASSES = "sklearn.externals.array_api_compat.dask.array"
_SCHEMA = "schema.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)
_ADDRESS = "_stop_words_id"
"""A vectorizer's note of where its stop words were in memory, by which it skips a check that it made already."""


def dump_native(pipeline: Any) -> bytes:
    """`pipeline` as skops bytes that depend on its content only, not on memory addresses or the clock."""
    return _canonical(_import_skops().dumps(pipeline))


def load_native(directory: Path) -> Any:
    """The fitted pipeline of model.skops in `directory`; raises ArtifactError when it isn't one that we write."""
    try:
        data = (directory / MODEL_SKOPS).read_bytes()
    except OSError as exc:
        raise ArtifactError(f"{MODEL_SKOPS} can't be read: {exc.strerror}") from exc
    return loads_native(data)


def loads_native(data: bytes) -> Any:
    """The fitted pipeline of skops bytes; raises ArtifactError for types that aren't on the fixed list."""
    skops_io = _import_skops()
    from skops.io.exceptions import UntrustedTypesFoundException

    check_archive(data)
    try:
        return skops_io.loads(data, trusted=list(TRUSTED_TYPES))
    except UntrustedTypesFoundException as exc:
        raise ArtifactError(f"{MODEL_SKOPS} asks for types that aren't trusted and isn't loaded: {exc}") from exc
    except Exception as exc:  # whatever scikit-learn's own __setstate__ makes of a forged state, it isn't loaded
        raise ArtifactError(
            f"{MODEL_SKOPS} doesn't load with the installed scikit-learn ({type(exc).__name__}); train again"
        ) from exc


def _import_skops() -> Any:
    """The module `skops.io`, imported in half the time.

    It lists scikit-learn's classes, for which every package in scikit-learn is imported: one of them brings all of
    dask.array where dask is installed, and has no class to list.
    """
    if _NO_CLASSES in sys.modules:
        return importlib.import_module("skops.io")
    sys.modules[_NO_CLASSES] = None  # type: ignore[assignment] # the documented way to let an import fail
    try:
        return importlib.import_module("skops.io")
    finally:
        del sys.modules[_NO_CLASSES]


def _canonical(data: bytes) -> bytes:
    """The same archive with ids counted in order of appearance and without times; compressed.

    skops marks shared objects by their memory address, which is also the name of an array's file.
    """
    source = zipfile.ZipFile(io.BytesIO(data))
    numbers: dict[int, int] = {}
    files: dict[str, str] = {}
    schema = _renumber(json.loads(source.read(_SCHEMA)), numbers, files)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for old, new in files.items():
            _add(archive, new, source.read(old))
        _add(archive, _SCHEMA, json.dumps(schema, separators=(",", ":")).encode())
    return target.getvalue()


def _renumber(node: Any, numbers: dict[int, int], files: dict[str, str]) -> Any:
    if isinstance(node, list):
        return [_renumber(item, numbers, files) for item in node]
    if not isinstance(node, dict):
        return node
    result: dict[str, Any] = {}
    for key, value in node.items():
        if key == "__id__":
            result[key] = numbers.setdefault(value, len(numbers))
        elif key == "file" and isinstance(value, str):
            suffix = Path(value).suffix
            result[key] = files.setdefault(value, f"{len(files)}{suffix}")
        elif key == _ADDRESS:
            result[key] = _renumber(value | {"content": "null"}, numbers, files)
        else:
            result[key] = _renumber(value, numbers, files)
    return result


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, date_time=_EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(entry, data, compresslevel=6)
