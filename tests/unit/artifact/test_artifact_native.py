"""The native format: only listed types are constructed, and equal models are equal bytes."""

import importlib
from pathlib import Path

import numpy as np
import pytest
import skops.io
from sklearn.base import clone

from modelkit.artifact.native import TRUSTED_TYPES, dump_native, load_native, loads_native
from modelkit.artifact.version import ArtifactError
from modelkit.contract.estimators import CLASSIFIERS, ESTIMATORS

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(60, 3))
VALUES = ROWS[:, 0] + RNG.normal(size=60) / 10
SMALL = {"n_estimators": 3, "max_iter": 20}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_every_estimator_that_may_be_used_is_stored_and_loads_again(name: str) -> None:
    estimator = getattr(importlib.import_module(ESTIMATORS[name]), name)()
    known = estimator.get_params(deep=False)
    estimator.set_params(**{key: value for key, value in SMALL.items() if key in known})
    if "random_state" in known:
        estimator.set_params(random_state=0)
    target = VALUES > 0 if name in CLASSIFIERS else VALUES
    data = dump_native(estimator.fit(ROWS, target))
    np.testing.assert_array_equal(loads_native(data).predict(ROWS), estimator.predict(ROWS))
    assert dump_native(clone(estimator).fit(ROWS, target)) == data


def test_a_type_that_is_not_listed_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "model.skops").write_bytes(skops.io.dumps({"path": Path("/etc")}))
    with pytest.raises(ArtifactError, match="aren't trusted"):
        load_native(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a zip archive"])
def test_what_is_no_model_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.skops").write_bytes(content)
    with pytest.raises(ArtifactError, match="doesn't load"):
        load_native(tmp_path)


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="can't be read"):
        load_native(tmp_path)


def test_the_listed_types_belong_to_the_libraries_that_train() -> None:
    assert all(name.split(".")[0] in {"numpy", "sklearn"} for name in TRUSTED_TYPES)
