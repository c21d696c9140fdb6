"""KServe's SDK with a scikit-learn model, as its own sklearnserver does. `python kserve_server.py <joblib> <port>`."""

import sys
from typing import Any

import joblib
import kserve
import numpy as np
from kserve.utils.utils import get_predict_response


class SklearnModel(kserve.Model):
    """One model in memory."""

    def __init__(self, path: str) -> None:
        super().__init__("model")
        self._path = path

    def load(self) -> bool:
        """Read it."""
        self._model = joblib.load(self._path)
        self.ready = True
        return True

    def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        """As kserve.Model."""
        del headers, response_headers
        rows = payload.inputs[0].as_numpy()
        result = self._model.predict(np.asarray(rows))
        return get_predict_response(payload, result, self.name)


if __name__ == "__main__":
    model = SklearnModel(sys.argv[1])
    model.load()
    server = kserve.ModelServer(http_port=int(sys.argv[2]), workers=1, enable_grpc=False, access_log_format=None)
    server.start([model])
