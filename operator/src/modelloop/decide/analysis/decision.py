"""One look at a candidate: all checks, what they came to so far, and the verdict."""

from collections.abc import Mapping
from dataclasses import dataclass

from modelloop.api.analysis import Analysis, CheckStatus, Verdict
from modelloop.decide.analysis.custom import CustomMeasurement
from modelloop.decide.analysis.measurements import Measurements


@dataclass(frozen=True, slots=True, kw_only=True)
class AnalysisOutcome:
    """What one look came to. `dryRun`, `onFailure` and the like are for the caller to apply."""

    verdict: Verdict
    checks: tuple[CheckStatus, ...]
    """The next records, in a fixed order; to be passed to the next look, and dropped with the step."""
    check: str = ""
    """Name of the check that decided; empty: Successful."""
    message: str = ""
    requests: int = 0
    """That the candidate was asked."""


def decide_analysis(
    settings: Analysis,
    measurements: Measurements,
    records: Mapping[str, CheckStatus],
    *,
    steps: int,
    custom: Mapping[str, CustomMeasurement] | None = None,
) -> AnalysisOutcome:
    """One look. To be called once per interval: every call counts as a look.

    records: the last look's checks by name; empty when a step begins. steps: measurements of the whole rollout, the
    bake time included.
    """
    raise NotImplementedError
