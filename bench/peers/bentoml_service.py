"""BentoML's service with a scikit-learn model."""

import os
from typing import Any

import bentoml
import joblib
import numpy as np


@bentoml.service(workers=1)
class Classifier:
    """One model in memory."""

    def __init__(self) -> None:
        self.model = joblib.load(os.environ["BENCH_MODEL"])

    @bentoml.api
    def predict(self, features: list[list[float]]) -> dict[str, Any]:
        """{"features": rows} → {"predictions": […]}."""
        return {"predictions": self.model.predict(np.array(features)).tolist()}
