"""What runs cost, and whether the budget has room for another. Pure.

Energy follows Cloud Carbon Footprint's methodology: watts of a busy CPU times CPU hours, plus watts per GiB of memory
times GiB hours, times the data centre's power usage effectiveness; emissions are energy times the grid's intensity.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from modelkit.contract.codec import ContractError
from modelkit.contract.result import Usage, read_termination_message
from modelloop.api.common import parse_duration
from modelloop.api.lifecycle import Budget, Costs, RunCost, Spending, TotalCost
from modelloop.api.training import ModelTrainingStatus, RunRecord, RunStatus
from modelloop.decide.pods import ObservedPod
from modelloop.decide.runs import ObservedJob, ObservedTraining

HOUR = 3600.0
MAX_SPENDINGS = 64
"""More than status.history can hold: what is merged here can't come back from there."""
_DECIMALS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Exhausted:
    """The budget has no room for a run now."""

    message: str
    free_at: datetime


def measure_cost(observed: ObservedTraining, run: RunStatus, job: ObservedJob | None, now: datetime) -> RunCost | None:
    """What a run that ended used; None when no pod of it ever ran.

    A pod that left no measurement counts with its time by the CPU and memory it was given, and so do workers then, and
    the user's own containers that ran before the trainer's.
    """
    cpu = memory = 0.0
    estimated = False
    for pod in observed.pods:
        usage = _find_usage(pod)
        if usage is None:
            seconds = _seconds(pod.started, pod.finished, now)
            estimated = estimated or seconds > 0
            usage = _estimate(observed, run, seconds)
        cpu += usage.cpu_seconds + pod.steps_seconds * observed.cpus
        memory += usage.memory_gib_seconds + pod.steps_seconds * observed.memory_gib
        estimated = estimated or pod.steps_seconds > 0
    if not observed.pods and job is not None and job.state != "Active":
        usage = _estimate(observed, run, _seconds(job.started, job.ended, now))
        cpu, memory, estimated = usage.cpu_seconds, usage.memory_gib_seconds, True
    if cpu <= 0 and memory <= 0:
        return None
    return price_usage(cpu, memory, observed.spec.costs, estimated=estimated)


def price_usage(cpu_seconds: float, memory_gib_seconds: float, costs: Costs, *, estimated: bool) -> RunCost:
    """Energy in watt-hours, CO₂e in grams, and a price when the costs state one."""
    cpu_hours, gib_hours = cpu_seconds / HOUR, memory_gib_seconds / HOUR
    watts = costs.watts_per_cpu * cpu_hours + costs.watts_per_gib * gib_hours
    energy = watts * costs.power_usage_effectiveness
    price = None
    if costs.price_per_cpu_hour is not None or costs.price_per_gib_hour is not None:
        price = (costs.price_per_cpu_hour or 0.0) * cpu_hours + (costs.price_per_gib_hour or 0.0) * gib_hours
    return RunCost(
        cpu_seconds=round(cpu_seconds, _DECIMALS),
        memory_gib_seconds=round(memory_gib_seconds, _DECIMALS),
        energy_watt_hours=round(energy, _DECIMALS),
        co2e_grams=round(energy / 1000 * costs.grams_co2e_per_kwh, _DECIMALS),
        price=None if price is None else round(price, 6),
        estimated=estimated,
    )


def add_cost(total: TotalCost | None, cost: RunCost | None) -> TotalCost | None:
    """The sum of all runs with one more."""
    if cost is None:
        return total
    old = total or TotalCost()
    known = [price for price in (old.price, cost.price) if price is not None]
    return TotalCost(
        runs=old.runs + 1,
        cpu_seconds=round(old.cpu_seconds + cost.cpu_seconds, _DECIMALS),
        memory_gib_seconds=round(old.memory_gib_seconds + cost.memory_gib_seconds, _DECIMALS),
        energy_watt_hours=round(old.energy_watt_hours + cost.energy_watt_hours, _DECIMALS),
        co2e_grams=round(old.co2e_grams + cost.co2e_grams, _DECIMALS),
        price=round(sum(known), 6) if known else None,
        estimated=old.estimated or cost.estimated,
    )


def _find_usage(pod: ObservedPod) -> Usage | None:
    if not pod.terminated_message:
        return None
    try:
        usage = read_termination_message(pod.terminated_message).usage
    except ContractError:
        return None
    # An image that isn't ours may say anything; NaN fails both comparisons.
    is_sound = usage is not None and 0 <= usage.cpu_seconds < 1e12 and 0 <= usage.memory_gib_seconds < 1e15
    return usage if is_sound else None


def _seconds(started: datetime | None, ended: datetime | None, now: datetime) -> float:
    return max(((ended or now) - started).total_seconds(), 0.0) if started is not None else 0.0


def _estimate(observed: ObservedTraining, run: RunStatus, seconds: float) -> Usage:
    pods = 1 + run.workers
    return Usage(cpu_seconds=seconds * observed.cpus * pods, memory_gib_seconds=seconds * observed.memory_gib * pods)


# -- the budget ----------------------------------------------------------------------------------------------------


def keep_account(budget: Budget | None, status: ModelTrainingStatus, now: datetime) -> tuple[Spending, ...]:
    """What counts against the budget, with runs that ended since, newest first; nothing without a budget.

    What has left the window goes only when something is added, so that time alone writes nothing.
    """
    if budget is None:
        return ()
    since = now - parse_duration(budget.window)
    known = max((entry.number for entry in status.spent), default=0)
    fresh = [
        _spending(record)
        for record in status.history
        if record.number > known and record.cost is not None and record.completion_time > since
    ]
    if not fresh:
        return status.spent
    kept = [entry for entry in status.spent if entry.time > since]
    entries = sorted((*fresh, *kept), key=lambda entry: entry.number, reverse=True)
    return _merge_oldest(entries)


def _spending(record: RunRecord) -> Spending:
    return Spending(
        number=record.number,
        time=record.completion_time,
        cpu_seconds=record.cost.cpu_seconds if record.cost is not None else 0.0,
    )


def _merge_oldest(entries: list[Spending]) -> tuple[Spending, ...]:
    """At most MAX_SPENDINGS: older ones become one that ended with the last of them, so that nothing is forgiven."""
    head, tail = entries[: MAX_SPENDINGS - 1], entries[MAX_SPENDINGS - 1 :]
    if len(tail) < 2:
        return tuple(entries)
    total = round(sum(entry.cpu_seconds for entry in tail), _DECIMALS)
    return (*head, Spending(number=tail[0].number, time=max(entry.time for entry in tail), cpu_seconds=total))


def find_exhausted(budget: Budget | None, spent: tuple[Spending, ...], now: datetime) -> Exhausted | None:
    """Why the budget lets no run begin, and when it will; None when it has room."""
    if budget is None:
        return None
    window, limit = parse_duration(budget.window), budget.cpu_hours * HOUR
    counted = sorted((entry for entry in spent if entry.time > now - window), key=lambda entry: entry.time)
    used = sum(entry.cpu_seconds for entry in counted)
    if used < limit:
        return None
    # Summed up as a later look will: a difference would be another number.
    free_at = next(
        entry.time + window
        for position, entry in enumerate(counted, 1)
        if sum(later.cpu_seconds for later in counted[position:] if later.time > entry.time) < limit
    )
    message = (
        f"runs of the last {budget.window} used {used / HOUR:.4g} of {budget.cpu_hours:g} CPU hours; a run waits until "
        f"{free_at.strftime('%Y-%m-%dT%H:%M:%SZ')}, or until spec.budget.cpuHours is raised"
    )
    return Exhausted(message=message, free_at=max(free_at, now + timedelta(seconds=1)))
