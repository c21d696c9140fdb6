"""Judges a candidate by what the pods report: pure, total, and right for any number of looks.

`merge_reports` sums up what pods say, `decide_analysis` makes one look of it. docs/rollout-analysis.md has the methods.
"""

from modelloop.decide.analysis.custom import CustomMeasurement, fill_query
from modelloop.decide.analysis.decision import AnalysisOutcome, decide_analysis
from modelloop.decide.analysis.levels import alpha_for
from modelloop.decide.analysis.measurements import Measurements, merge_reports

__all__ = [
    "AnalysisOutcome",
    "CustomMeasurement",
    "Measurements",
    "alpha_for",
    "decide_analysis",
    "fill_query",
    "merge_reports",
]
