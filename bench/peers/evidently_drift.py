"""Evidently's drift preset on the same files: `evidently_drift.py reference.parquet current.parquet`."""

import json
import sys

import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset


def main(reference_path, current_path):
    """Print the columns that the preset finds."""
    reference, current = pd.read_parquet(reference_path), pd.read_parquet(current_path)
    snapshot = Report([DataDriftPreset()]).run(current, reference)
    metrics = json.loads(snapshot.json())["metrics"]
    columns = [metric["config"] | {"value": metric["value"]} for metric in metrics if "column" in metric["config"]]
    # Its tests above a thousand rows (Wasserstein, Jensen-Shannon) are distances: larger is drift.
    drifted = sorted(column["column"] for column in columns if column["value"] >= column["threshold"])
    print(json.dumps({"rows": len(current), "drifted": drifted}))


main(*sys.argv[1:])
