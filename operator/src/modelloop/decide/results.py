"""Decides how a run ends: what its Job and pod say becomes a record and, when approved, the champion. Pure."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydantic import ValidationError

from modelkit.contract.codec import ContractError
from modelkit.contract.result import TrainingResult, read_termination_message
from modelloop.api.common import Storage
from modelloop.api.training import CompressionRecord, DataFinding, RunRecord, RunStatus
from modelloop.decide.gates import Judgement, judge
from modelloop.decide.pods import ObservedPod, find_problem, find_stated_failure, newest
from modelloop.decide.reasons import Reason
from modelloop.decide.runs import ObservedJob, ObservedTraining, find_run_problem

RESULT_GRACE = timedelta(seconds=10)
"""How long the end of a pod may be seen after the end of its Job: two watches have no common order."""
DECIMALS = 6
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Ended:
    """A run that came to its end in this pass."""

    record: RunRecord


def decide_end(observed: ObservedTraining, run: RunStatus, job: ObservedJob | None, now: datetime) -> Ended | None:
    """How `run` ended; None while it is under way."""
    if job is None or job.state == "Active":
        return _supersede(observed, run, job, now)
    if _is_result_awaited(observed, job, now):
        return None
    if job.state == "Failed":
        return Ended(_failure(observed, run, job, now))
    pod = next((pod for pod in observed.pods if pod.exit_code == 0), None)
    if pod is None:
        message = (
            f"Job {run.job!r} is complete, but its pod and the result in its termination message are gone; the run "
            "is repeated once"
        )
        return Ended(_record(run, now, verdict="Failed", reason=Reason.RESULT_LOST, message=message))
    try:
        return _judge_result(observed, run, read_termination_message(pod.terminated_message), now)
    except (ContractError, ValidationError) as exc:
        message = (
            f"the termination message of pod {pod.name!r} isn't the result that the contract asks of a trainer: "
            f"{_first_error(exc)}; the operator and the trainer image must be of releases that fit each other"
        )
        return Ended(_record(run, now, verdict="Failed", reason=Reason.INVALID_RESULT, message=message))


def _is_result_awaited(observed: ObservedTraining, job: ObservedJob, now: datetime) -> bool:
    """Whether the end of the Job is known already, but not yet the end of the pod that tells why."""
    if job.state == "Complete":
        known = any(pod.exit_code == 0 for pod in observed.pods)
    else:
        known = bool(observed.pods) and all(pod.exit_code is not None for pod in observed.pods)
    return not known and job.ended is not None and now < job.ended + RESULT_GRACE


def _judge_result(observed: ObservedTraining, run: RunStatus, result: TrainingResult, now: datetime) -> Ended:
    """Raises ContractError or ValidationError for a result that can't be stored in the status as it is."""
    if not _DIGEST.fullmatch(result.digest or ""):
        raise ContractError(f"digest must be sha256:<64 hex digits>; found {result.digest!r}")
    if not result.path:
        raise ContractError("path must be set")
    judgement = judge(result, observed.spec.gates)
    return Ended(_judged_record(run, result, judgement, now))


def _first_error(exc: ContractError | ValidationError) -> str:
    if isinstance(exc, ContractError):
        return str(exc)
    error = exc.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, error['loc']))}: {error['msg']}"


def _supersede(observed: ObservedTraining, run: RunStatus, job: ObservedJob | None, now: datetime) -> Ended | None:
    """A run that can't start and whose spec was changed meanwhile makes room for one of the new spec."""
    if run.spec_hash == observed.spec_hash and run.pod_hash == observed.pod_hash:
        return None
    problem = find_run_problem(observed, job, now)
    if problem is not None and (problem.blocked or observed.apply_error):
        why = problem.message
    elif job is None:
        # A Job that was made now would be of the new spec, under a configuration of the old one.
        why = "its Job isn't there"
    else:
        return None
    message = f"couldn't start, and the spec was changed meanwhile: {why}"
    record = _record(run, now, verdict="Superseded", reason=Reason.SUPERSEDED, message=message)
    return Ended(record)


def _failure(observed: ObservedTraining, run: RunStatus, job: ObservedJob, now: datetime) -> RunRecord:
    if job.reason == Reason.DEADLINE_EXCEEDED:
        stated = f" ({observed.spec.deadline})" if observed.spec.deadline else ""
        message = (
            f"the run took longer than spec.deadline{stated} and was ended; raise spec.deadline, give it more CPU in "
            "spec.resources, or search less"
        )
        return _record(run, now, verdict="Failed", reason=Reason.DEADLINE_EXCEEDED, message=message)
    pod = newest(pod for pod in observed.pods if pod.exit_code not in (None, 0))
    problem = (find_stated_failure(pod) or find_problem(pod)) if pod is not None else None
    if pod is not None and problem is not None:
        findings = _stated_findings(pod)
        return _record(run, now, verdict="Failed", reason=problem.reason, message=problem.message, findings=findings)
    message = f"Job {run.job!r} failed: {job.message or 'no details'}"
    return _record(run, now, verdict="Failed", reason=job.reason or Reason.EXITED, message=message)


def _stated_findings(pod: ObservedPod) -> tuple[DataFinding, ...]:
    """What a refused run found in its data; nothing when it ended otherwise."""
    try:
        return _findings(read_termination_message(pod.terminated_message))
    except (ContractError, ValidationError):
        return ()


def _findings(result: TrainingResult) -> tuple[DataFinding, ...]:
    return tuple(
        DataFinding(
            column=found.column[:256],
            rule=found.rule[:64],
            value=_number(found.value),
            limit=_number(found.limit),
            message=found.message[:512],
            severe=found.severe,
        )
        for found in sorted(result.findings, key=lambda found: not found.severe)[:5]
    )


def _number(value: float | None) -> float | None:
    return round(value, DECIMALS) if value is not None and math.isfinite(value) else None


def _compressions(result: TrainingResult) -> tuple[CompressionRecord, ...]:
    return tuple(
        CompressionRecord(
            method=step.method[:32],
            accepted=step.accepted,
            drop=round(step.drop, DECIMALS),
            bytes_before=step.bytes_before,
            bytes_after=step.bytes_after,
            seconds_before=step.seconds_before,
            seconds_after=step.seconds_after,
            message=step.message[:512] if step.message else None,
        )
        for step in result.compressions[:3]
        if math.isfinite(step.drop)
    )


def _record(run: RunStatus, now: datetime, *, verdict: str, reason: str, message: str, **fields: Any) -> RunRecord:
    return RunRecord.model_validate(
        {
            "number": run.number,
            "verdict": verdict,
            "reason": str(reason)[:128],
            "message": message[:2048],
            "trigger": run.trigger,
            "spec_hash": run.spec_hash,
            "pod_hash": run.pod_hash,
            "revision": run.revision,
            "start_time": run.start_time,
            "completion_time": now,
            **fields,
        }
    )


def _judged_record(run: RunStatus, result: TrainingResult, judgement: Judgement, now: datetime) -> RunRecord:
    reasons = {"Approved": Reason.APPROVED, "Rejected": Reason.REJECTED, "Inconclusive": Reason.INCONCLUSIVE}
    notes = [judgement.message, result.champion_message or "", result.format_message or ""]
    champion = result.champion
    return _record(
        run,
        now,
        verdict=judgement.verdict,
        reason=reasons[judgement.verdict],
        message="; ".join(note for note in notes if note),
        path=result.path,
        signing_secret=run.signing_secret if result.signed else None,
        digest=result.digest,
        estimator=result.estimator,
        metric=result.metric,
        metrics=_finite(result.metrics),
        champion_number=champion.number if champion else None,
        champion_metrics=_finite(champion.metrics) if champion else {},
        evaluated_on=result.evaluated_on,
        train_rows=result.train_rows,
        test_rows=result.test_rows,
        feedback_rows=result.feedback_rows,
        format=result.format,
        failed_gates=judgement.failed[:24],
        findings=_findings(result),
        trials=result.trials,
        compressions=_compressions(result),
        task=result.task,
        feedback=run.feedback,
        storage=None if run.storage == Storage() else run.storage,
    )


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Without what JSON can't say, for which the API server would refuse the whole status; six decimals, for people.

    Gates have judged the exact values.
    """
    return {name: round(value, DECIMALS) for name, value in metrics.items() if math.isfinite(value)}
