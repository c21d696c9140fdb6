"""One real training run per estimator of the allow-list: on few rows, with a search of one parameter."""

import importlib
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import load_diabetes, load_iris

from modelkit.contract import files
from modelkit.contract.config import CandidateConfig, DataConfig, StoreConfig, TrainerConfig
from modelkit.contract.estimators import CLASSIFIERS, ESTIMATORS
from modelkit.contract.files import version_directory
from modelkit.contract.recipe import SearchParameterConfig, TuningConfig
from modelkit.contract.result import TrainingResult
from modelkit.store.store import Store
from modelkit.train.progress import Progress
from modelkit.train.run import run_training

ROWS = 120

FIXED: dict[str, Any] = {"hidden_layer_sizes": [8], "n_subsamples": 20}
"""For speed, where an estimator has it."""
FASTER: dict[str, dict[str, Any]] = {
    "HistGradientBoostingClassifier": {"max_iter": 5},
    "HistGradientBoostingRegressor": {"max_iter": 5},
    "LogisticRegressionCV": {"Cs": 3, "cv": 3, "solver": "lbfgs"},
    "MLPClassifier": {"max_iter": 60},
    "MLPRegressor": {"max_iter": 60},
    "TheilSenRegressor": {"max_subpopulation": 100},
}
SEARCHED: dict[str, tuple[Any, ...]] = {
    # The first that an estimator has, and that isn't fixed above, is searched.
    "n_estimators": (3, 6),
    "n_nonzero_coefs": (3, 5),
    "max_trials": (20, 40),
    "max_depth": (2, 4),
    "alpha": (0.01, 0.1),
    "C": (0.5, 1.0),
    "nu": (0.3, 0.4),
    "n_neighbors": (3, 5),
    "reg_param": (0.0, 0.1),
    "var_smoothing": (1e-9, 1e-6),
    "epsilon": (1.2, 1.4),
    "solver": ("svd", "lsqr"),
    "n_components": (1, 2),
    "criterion": ("aic", "bic"),
    "metric": ("euclidean", "manhattan"),
    "lambda_1": (1e-6, 1e-4),
    "fit_intercept": (True, False),
}


@dataclass(frozen=True)
class Run:
    """What a run of one estimator left."""

    name: str
    parameter: str
    """The searched one."""
    result: TrainingResult
    files: dict[str, bytes]

    @property
    def exports(self) -> bool:
        """Did the ONNX model answer as scikit-learn does?"""
        return self.result.format == "Onnx"


def write_sources(folder: Path) -> None:
    """Few rows of iris and diabetes as CSV."""
    for name, load in (("Classification", load_iris), ("Regression", load_diabetes)):
        frame = load(as_frame=True).frame
        kept = np.random.default_rng(0).permutation(len(frame))[:ROWS]
        frame.iloc[kept].to_csv(folder / f"{name}.csv", index=False)


def searched_parameter(name: str) -> str:
    """The parameter of the estimator that its run searches."""
    known = getattr(importlib.import_module(ESTIMATORS[name]), name)().get_params(deep=False)
    return next(param for param in SEARCHED if param in known and param not in FASTER.get(name, {}))


def configure(name: str, root: Path, attempt: int = 1) -> TrainerConfig:
    """The run's configuration; `attempt` only names the store."""
    known = getattr(importlib.import_module(ESTIMATORS[name]), name)().get_params(deep=False)
    parameter = searched_parameter(name)
    params = {key: value for key, value in FIXED.items() if key in known} | FASTER.get(name, {})
    uri = f"file://{root}/{'Classification' if name in CLASSIFIERS else 'Regression'}.csv"
    search = SearchParameterConfig(name=parameter, type="Choice", values=SEARCHED[parameter])
    return TrainerConfig(
        namespace="default",
        name="estimator",
        number=1,
        version="1-abc",
        trigger="Created",
        store=StoreConfig(uri=f"file://{root}/{name}-{attempt}"),
        data=DataConfig(uri=uri, display_uri=uri, target="target"),
        candidates=(CandidateConfig(estimator=name, params=params, search=(search,)),),
        tuning=TuningConfig(method="Grid"),
        folds=2,
        seed=3,
    )


def run_estimator(name: str, root: Path, attempt: int = 1) -> Run:
    """Train `name` as a trainer pod does, and read back what it wrote."""
    config = configure(name, root, attempt)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a run notes what matters of them; here few rows and iterations are wanted
        result = run_training(config, {}, Progress(), 1)
    store = Store.open(config.store, {})
    path = version_directory(config.namespace, config.name, config.version)
    wanted = [files.MODEL_SKOPS, files.METRICS, files.IMPORTANCE, files.PROFILE, files.SAMPLES, files.SIGNATURE]
    if result.format == "Onnx":
        wanted.append(files.MODEL_ONNX)
    return Run(name, searched_parameter(name), result, {file: store.read(f"{path}/{file}") for file in wanted})


def read_source(root: Path, task: str) -> pd.DataFrame:
    """The rows of a task's runs."""
    return pd.read_csv(root / f"{task}.csv")
