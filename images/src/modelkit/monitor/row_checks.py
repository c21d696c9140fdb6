"""The checks that look at rows: which of them can be made of what there is, and why another can't."""

from dataclasses import dataclass

import pyarrow as pa

from modelkit.artifact.version import ArtifactError
from modelkit.contract.monitoring import AttributionConfig, MonitorConfig
from modelkit.contract.result import CheckResult
from modelkit.data.sample import as_rows
from modelkit.monitor.attribution import AttributionComparison, check_attribution, compare_attributions
from modelkit.monitor.explaining import OwnRows
from modelkit.monitor.multivariate import Separation, check_multivariate, separate_samples
from modelkit.monitor.reference import Reference
from modelkit.monitor.wording import mention_redacted, plural

MIN_EXPLAINED = 30
"""Rows of each side; of fewer a mean says little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFindings:
    """What came of the configured checks of rows."""

    checks: tuple[CheckResult, ...] = ()
    separation: Separation | None = None
    attributions: AttributionComparison | None = None


def examine_rows(
    config: MonitorConfig, reference: Reference, sample: pa.Table | None, redacted: tuple[str, ...], own: OwnRows
) -> RowFindings:
    """Run the configured checks on the window's `sample`; `redacted` features aren't in it."""
    if sample is None:
        return RowFindings()
    checks, separation, attributions = [], None, None
    if config.multivariate is not None:
        missing = _why_not_separated(config, sample, own)
        if not missing and own.sample is not None:
            separation = separate_samples(reference.features, own.sample, sample, config.multivariate)
        check = check_multivariate(separation, config.multivariate, rows=sample.num_rows, missing=missing)
        checks.append(mention_redacted(check, len(redacted)))
    if config.attribution is not None:
        missing = _why_not_explained(config, sample, redacted, own)
        if not missing:
            attributions, missing = _explain(config.attribution, sample, own)
        checks.append(check_attribution(attributions, config.attribution, rows=sample.num_rows, missing=missing))
    return RowFindings(checks=tuple(checks), separation=separation, attributions=attributions)


def _why_not_separated(config: MonitorConfig, sample: pa.Table, own: OwnRows) -> str:
    if own.sample is None:
        return own.missing_sample
    if not sample.num_columns:
        return "there is no feature to look at"
    return _too_few(config, sample, own.sample)


def _why_not_explained(config: MonitorConfig, sample: pa.Table, redacted: tuple[str, ...], own: OwnRows) -> str:
    if own.sample is None or own.explainer is None:
        return own.missing_explainer
    if redacted:
        return (
            f"captured rows don't hold {plural(len(redacted), 'feature')} as sent (capture.drop or capture.hash), "
            "without which no answer can be explained"
        )
    return _too_few(config, sample, own.sample)


def _too_few(config: MonitorConfig, sample: pa.Table, reference: pa.Table) -> str:
    if sample.num_rows < config.min_rows:
        found = plural(sample.num_rows, "row") if sample.num_rows else "no rows"
        return f"{found} of the window can be looked at; at least {config.min_rows:,} are needed"
    if reference.num_rows < config.min_rows:
        return (
            f"the version's own test had {plural(reference.num_rows, 'row')}; at least {config.min_rows:,} are needed: "
            "train with a larger test part"
        )
    return ""


def _explain(config: AttributionConfig, sample: pa.Table, own: OwnRows) -> tuple[AttributionComparison | None, str]:
    """The comparison, or why there is none."""
    assert own.sample is not None, "the caller looked"
    assert own.explainer is not None, "the caller looked"
    try:
        reference, window = own.explainer.explain_pairs(
            as_rows(own.sample.slice(0, config.rows)), as_rows(sample.slice(0, config.rows))
        )
    except ArtifactError as exc:
        return None, f"the model doesn't answer: {exc}"
    if len(window) < MIN_EXPLAINED:
        return (
            None,
            f"only {plural(len(window), 'row')} could be explained in time; at least {MIN_EXPLAINED} are needed",
        )
    found = compare_attributions(sample.column_names, reference, window)
    return found, "" if found else "no feature moves any of the model's answers"
