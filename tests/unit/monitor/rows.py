"""Tables of rows through the monitor's steps, without a store."""

from datetime import datetime

import pyarrow as pa

from modelkit.contract.monitoring import MonitorConfig
from modelkit.monitor.counts import Counts, build_counts, count_rows
from modelkit.monitor.encoding import encode_answers
from modelkit.monitor.labels import Labelled, select_labelled
from modelkit.monitor.reference import Reference
from modelkit.monitor.window import Examination, Gathered, examine_window


def count_table(reference: Reference, features: pa.Table, meta: pa.Table) -> Counts:
    """All rows as one batch."""
    return build_counts(reference, count_rows(reference, features, meta))


def label_table(reference: Reference, meta: pa.Table) -> Labelled:
    """The rows of `meta` that have a label."""
    known = meta.filter(meta["label"].is_valid())
    columns = {name: encode_answers(reference, known[name]) for name in ("prediction", "label")}
    return select_labelled(reference, pa.table({**columns, "probabilities": known["probabilities"]}))


def examine_table(
    config: MonitorConfig, reference: Reference, features: pa.Table, meta: pa.Table, bounds: tuple[datetime, datetime]
) -> Examination:
    """A window of these rows."""
    summary = count_rows(reference, features, meta)
    return examine_window(config, reference, Gathered(summary, label_table(reference, meta)), bounds)
