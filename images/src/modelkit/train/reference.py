"""reference.arrow: rows of the test part, for what no histogram of single columns can tell of a later window.

Only what the pipeline gets: no target, no answer, no column that isn't learnt from.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from modelkit.contract.config import TrainerConfig
from modelkit.contract.recipe import ExplainConfig
from modelkit.data.columns import column_of, take
from modelkit.data.sample import build_sample, dump_sample, most_rows
from modelkit.train.finished import Finished


def count_wanted(config: TrainerConfig) -> int:
    """How many rows are to be kept at most; 0: none."""
    return (config.explain or ExplainConfig()).reference_rows


def draw_reference(run: Finished, profile: Mapping[str, Any]) -> bytes:
    """An Arrow file of the random evaluation rows that the configuration asks for, in random order; the same run draws
    the same.

    `profile` is the content of profile.json, which says what each column is to the model.
    """
    entries, every = profile["features"], len(run.answers.truth)
    count = most_rows(entries, min(count_wanted(run.config), every))
    chosen = np.random.default_rng(run.config.seed).choice(every, count, replace=False)
    rows = take(run.parts.evaluation.rows, chosen)
    columns = {column.name: pa.array(column_of(rows, index)) for index, column in enumerate(run.columns)}
    return dump_sample(build_sample(entries, pa.table(columns), count))
