"""reference.arrow: rows that the model wasn't fitted on, as the pipeline got them, the same for the same run."""

import json
from typing import TYPE_CHECKING

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

from modelkit.contract.recipe import ExplainConfig
from modelkit.data.sample import as_rows, load_sample

if TYPE_CHECKING:
    from .conftest import Trainer


def test_the_rows_are_those_of_the_test_part(trainer: "Trainer") -> None:
    config = trainer.config()
    trainer.run(config)
    rows = as_rows(load_sample(trainer.file(config, "reference.arrow")))
    data, target = load_breast_cancer(return_X_y=True)
    _, expected = train_test_split(data, test_size=0.2, random_state=7, stratify=target)
    assert rows.shape == expected.shape
    assert not np.array_equal(rows, expected)
    np.testing.assert_array_equal(rows[np.lexsort(rows.T)], expected[np.lexsort(expected.T)])


def test_at_most_so_many_and_always_the_same(trainer: "Trainer") -> None:
    written = []
    for version in ("1-00000001", "2-00000002"):
        config = trainer.config(version=version, explain=ExplainConfig(reference_rows=40))
        trainer.run(config)
        written.append(trainer.file(config, "reference.arrow"))
    assert written[0] == written[1]
    rows = as_rows(load_sample(written[0]))
    assert len(np.unique(rows, axis=0)) == len(rows) == 40


def test_none_where_nobody_wants_it(trainer: "Trainer") -> None:
    config = trainer.config(explain=ExplainConfig(reference_rows=0))
    trainer.run(config)
    assert "reference.arrow" not in json.loads(trainer.file(config, "manifest.json"))["files"]
