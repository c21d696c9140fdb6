"""Flask as in most tutorials, behind gunicorn: joblib model, request.get_json, jsonify."""

import os

import joblib
import numpy as np
from flask import Flask, Response, jsonify, request

app = Flask(__name__)
model = joblib.load(os.environ["BENCH_MODEL"])


@app.post("/predict")
def predict() -> Response:
    """{"features": rows} → {"predictions": […]}."""
    rows = np.array(request.get_json()["features"], dtype=np.float64)
    return jsonify(predictions=model.predict(rows).tolist())
