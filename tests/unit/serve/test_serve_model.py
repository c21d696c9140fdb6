"""The native model's answers are as the protocols and the capture need them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.pipeline import make_pipeline

from modelkit.artifact.native import dump_native
from modelkit.contract.files import MODEL_SKOPS
from modelkit.serve.batch import Features, build_batch
from modelkit.serve.model import NativeModel
from tests.unit.serve.serve_models import iris


def test_probabilities_are_rows_in_memory_also_of_a_model_that_gives_columns(tmp_path: Path) -> None:
    example = iris()
    labels = example.pipeline.predict(example.rows)
    pipeline = make_pipeline(HistGradientBoostingClassifier(max_iter=2, random_state=0)).fit(example.rows, labels)
    expected = pipeline.predict_proba(example.rows[:5])
    assert not expected.flags.c_contiguous, "the model that this test is about"
    (tmp_path / MODEL_SKOPS).write_bytes(dump_native(pipeline))
    signature = replace(example.signature, onnx=None)
    answer = NativeModel(tmp_path, signature).predict(build_batch(Features.of(signature), example.values(5)))
    assert answer.probabilities is not None
    written = [orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY) for row in answer.probabilities]
    np.testing.assert_array_equal([orjson.loads(row) for row in written], expected)
    assert orjson.loads(orjson.dumps(answer.probabilities, option=orjson.OPT_SERIALIZE_NUMPY)) == expected.tolist()
