"""reference.arrow: rows of the test part, for what no histogram of single columns can tell of a later window.

Only what the pipeline gets: no target, no answer, no column that isn't learnt from.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from modelkit.data.columns import column_of, take
from modelkit.data.sample import build_sample, dump_sample, most_rows
from modelkit.train.finished import Finished

MOST_ROWS = 2000
"""The error of an area under a ROC curve over half of so many is 1.3 points."""


def draw_reference(run: Finished, profile: Mapping[str, Any]) -> bytes:
    """An Arrow file of at most `MOST_ROWS` random evaluation rows, in random order; the same run draws the same.

    `profile` is the content of profile.json, which says what each column is to the model.
    """
    entries, every = profile["features"], len(run.answers.truth)
    count = most_rows(entries, min(MOST_ROWS, every))
    chosen = np.random.default_rng(run.config.seed).choice(every, count, replace=False)
    rows = take(run.parts.evaluation.rows, chosen)
    columns = {column.name: pa.array(column_of(rows, index)) for index, column in enumerate(run.columns)}
    return dump_sample(build_sample(entries, pa.table(columns), count))
