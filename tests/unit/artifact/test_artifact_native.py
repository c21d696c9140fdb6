"""The native format: only listed types are constructed, and equal models are equal bytes."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skops.io
from sklearn.base import clone
from sklearn.linear_model import TweedieRegressor
from sklearn.neighbors import KNeighborsRegressor

from modelkit.artifact.native import TRUSTED_TYPES, dump_native, load_native, loads_native
from modelkit.artifact.version import ArtifactError
from modelkit.contract.estimators import CLASSIFIERS, ESTIMATORS

RNG = np.random.default_rng(0)
ROWS = RNG.random((60, 20))  # positive: some estimators learn from counts, some learn positive values
VALUES = np.exp(ROWS[:, 0] + RNG.normal(size=60) / 10)
SMALL = {"n_estimators": 3, "max_iter": 20}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning:sklearn.linear_model._logistic")
@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_every_estimator_that_may_be_used_is_stored_and_loads_again(name: str) -> None:
    estimator = getattr(importlib.import_module(ESTIMATORS[name]), name)()
    known = estimator.get_params(deep=False)
    estimator.set_params(**{key: value for key, value in SMALL.items() if key in known})
    if "random_state" in known:
        estimator.set_params(random_state=0)
    target = np.median(VALUES) < VALUES if name in CLASSIFIERS else VALUES
    data = dump_native(estimator.fit(ROWS, target))
    answers = [model.predict(ROWS) for model in (loads_native(data), estimator)]
    np.testing.assert_allclose(*answers, rtol=1e-13)  # BLAS adds in an order that depends on where arrays lie
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
    assert all(name.split(".")[0] in {"modelkit", "numpy", "sklearn"} for name in TRUSTED_TYPES)


@pytest.mark.parametrize(
    "params",
    [
        {"p": 1},
        {"p": 3},
        {"metric": "manhattan"},
        {"metric": "chebyshev", "algorithm": "ball_tree"},
        {"metric": "cosine"},
    ],
    ids=str,
)
def test_neighbours_by_other_distances_load_again(params: dict[str, Any]) -> None:
    model = KNeighborsRegressor(**params).fit(ROWS, VALUES)
    np.testing.assert_array_equal(loads_native(dump_native(model)).predict(ROWS), model.predict(ROWS))


@pytest.mark.parametrize("params", [{"power": 0}, {"power": 1.5}, {"power": 1.5, "link": "identity"}], ids=str)
def test_every_tweedie_loss_loads_again(params: dict[str, Any]) -> None:
    model = TweedieRegressor(**params).fit(ROWS, VALUES)
    np.testing.assert_array_equal(loads_native(dump_native(model)).predict(ROWS), model.predict(ROWS))
