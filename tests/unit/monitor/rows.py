"""Tables of rows through the monitor's steps, without a store."""

from datetime import datetime

import numpy as np
import pyarrow as pa

from modelkit.contract.monitoring import MonitorConfig
from modelkit.monitor.counts import Counts, build_counts, count_rows
from modelkit.monitor.encoding import encode_answers
from modelkit.monitor.groups import assign_groups
from modelkit.monitor.labels import Labelled, build_answers, select_labelled
from modelkit.monitor.reference import Reference
from modelkit.monitor.window import Examination, Gathered, examine_window


def count_table(reference: Reference, features: pa.Table, meta: pa.Table) -> Counts:
    """All rows as one batch."""
    return build_counts(reference, count_rows(reference, features, meta))


def label_table(reference: Reference, meta: pa.Table, groups: pa.Array | None = None) -> Labelled:
    """The rows of `meta` that have a label."""
    known = meta.filter(meta["label"].is_valid())
    columns = {name: encode_answers(reference, known[name]) for name in ("prediction", "label")}
    table = pa.table({**columns, "probabilities": known["probabilities"]})
    return select_labelled(reference, table if groups is None else table.append_column("groups", groups))


def examine_table(
    config: MonitorConfig, reference: Reference, features: pa.Table, meta: pa.Table, bounds: tuple[datetime, datetime]
) -> Examination:
    """A window of these rows."""
    groups = assign_groups(reference, () if config.fairness is None else config.fairness.columns, features)
    summary = count_rows(reference, features, meta, groups)
    labelled = meta["label"].is_valid()
    keys = np.zeros(meta.num_rows, dtype=np.uint64)
    lists = build_answers(reference, keys, meta, tuple(groups.values()))["groups"].filter(labelled)
    return examine_window(config, reference, Gathered(summary, label_table(reference, meta, lists)), bounds)
