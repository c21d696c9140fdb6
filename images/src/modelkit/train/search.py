"""Which parameter set of which candidate is best: trials scored side by side, the same on any number of cores.

A strategy says what is tried, a pool where it is scored, a ledger what an earlier attempt has scored already. What
ends a search before its strategy does (a time limit, patience) is decided here, and in the order of the trials
wherever a clock isn't asked for, so that the number of cores changes nothing.
"""

import logging
import math
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from modelkit.contract.config import TrainerConfig
from modelkit.contract.metrics import improvement
from modelkit.contract.recipe import TuningConfig
from modelkit.data.columns import concatenate
from modelkit.errors import RefusedError
from modelkit.train.folds import Folds, fold_positions
from modelkit.train.parts import Parts
from modelkit.train.pools import Pool
from modelkit.train.progress import Progress
from modelkit.train.resume import Ledger, Record, trial_text
from modelkit.train.spaces import Space, settings_of
from modelkit.train.strategies import Proposal, Round, Strategy, build_strategy
from modelkit.train.trials import Job, Outcome, Problem, Trial, Weights, answer, fit, take_weights, takes_weights

__all__ = [
    "Ranking",
    "Trial",
    "Weights",
    "answer",
    "build_problem",
    "fit",
    "rank_trials",
    "take_weights",
    "takes_weights",
]

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """What a search found."""

    trials: list[Trial]
    """Best first; ties in the order of the trials, failed ones last."""
    notes: tuple[str, ...] = ()
    """What a user should know: trials that failed, a search that ended early."""


def build_problem(
    trials: Sequence[Trial], parts: Parts, classes: tuple[Any, ...] | None, metric: str, config: TrainerConfig
) -> Problem:
    """The rows and folds that rank `trials`, one per candidate.

    With a validation part there is one fold: it is scored on that part and learns from the training part. The
    problem's rows are all that the chosen model learns from in the end. Raises RefusedError when the rows don't allow
    the folds.
    """
    train, validation = parts.train, parts.validation
    rows, target, weights = train.rows, train.target, train.weights
    folds: Folds
    if validation is None:
        folds = fold_positions(
            target,
            classes=classes,
            folds=config.folds,
            seed=config.seed,
            config=config.cross_validation,
            groups=train.groups,
            times=train.times,
        )
    else:
        count = len(target)
        rows = concatenate(rows, validation.rows)
        target = np.concatenate([target, validation.target])
        if weights is not None and validation.weights is not None:
            weights = np.concatenate([weights, validation.weights])
        folds = [(np.arange(count), np.arange(count, len(target)))]
    return Problem(
        rows=rows,
        target=target,
        weights=weights,
        folds=folds,
        classes=classes,
        metric=metric,
        seed=config.seed,
        pipelines=tuple(trial.base for trial in trials),
        labels=tuple(str(trial.candidate) for trial in trials),
    )


def rank_trials(
    trials: Sequence[Trial],
    problem: Problem,
    *,
    spaces: Sequence[Space],
    tuning: TuningConfig,
    progress: Progress,
    pool: Callable[[int], Pool],
    ledger: Ledger | None = None,
) -> Ranking:
    """Score what `tuning` asks for, best first; ties keep the order of candidates and of their trials.

    `trials` and `spaces` have one entry per candidate. `pool` opens the place where at most so many fits
    are done. Raises RefusedError when no trial can be fitted, or none has a score.
    """
    started = time.monotonic()
    strategy = build_strategy(
        tuning,
        spaces,
        metric=problem.metric,
        seed=problem.seed,
        rows=len(problem.target),
        folds=len(problem.folds),
        classes=None if problem.classes is None else len(problem.classes),
    )
    reused = ledger.open(problem) if ledger else 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the final fit's are the ones that are told
        opened = pool(strategy.scorings * len(problem.folds))
        try:
            search = _Search(trials, problem, tuning, strategy, opened, progress, ledger)
            found = search.run()
        finally:
            opened.close()
            if ledger:
                ledger.close()
    logger.info(
        "search done",
        extra={
            "trials": len(found),
            "fits": search.fits,
            "earlier_trials": reused,
            "seconds": round(time.monotonic() - started, 3),
        },
    )
    return Ranking(_best_first(found, problem.metric), (*_failures(found), *search.notes, *opened.notes))


@dataclass(slots=True)
class _Search:
    """The state of one search. One thread only."""

    trials: Sequence[Trial]
    problem: Problem
    tuning: TuningConfig
    strategy: Strategy
    pool: Pool
    progress: Progress
    ledger: Ledger | None
    notes: list[str] = field(default_factory=list)
    fits: int = 0
    """That were done, not taken from an earlier attempt."""
    _started: float = field(default_factory=time.monotonic)
    _known: dict[str, Record] = field(default_factory=dict)
    _begun: int = 0
    _scored: int = 0
    """Trials, counted again in each round of a halving."""
    _best: float = math.nan
    _since_best: int = 0
    _is_over: bool = False
    _effort: float = 0.0
    """Of the fits that were done."""
    _effort_reused: float = 0.0
    _seconds: float = 0.0
    """Of all fits together."""

    def run(self) -> list[Trial]:
        """Every trial that counts, in order."""
        found: dict[int, Trial] = {}
        rounds = self.strategy.rounds
        step: Round | None = next(rounds)
        while step is not None:
            scored = self._score(step)
            is_whole = len(scored) == len(step.proposals)
            if is_whole or step.level == 0:  # half a round of a halving would let a trial win by being early
                found.update(scored)
            if self._is_over or not is_whole:
                break
            try:
                step = rounds.send({index: trial.mean for index, trial in scored.items()})
            except StopIteration:
                step = None
        return [found[index] for index in sorted(found)]

    def _score(self, step: Round) -> dict[int, Trial]:
        """The round's trials that were scored, by index."""
        board = _Board(step)
        jobs = self._begin(step, board)
        flight: dict[Future[Outcome], tuple[int, Job]] = {}
        while True:
            while len(flight) < self.pool.slots() and (job := next(jobs, None)) is not None:
                flight[self.pool.submit(job[1])] = job
            if not flight:
                break
            for future in wait(flight, return_when=FIRST_COMPLETED).done:
                position, done = flight.pop(future)
                self._take(step, board, position, done, _result(future))
            self._judge(step, board)
        self._judge(step, board)
        return {
            step.proposals[position].index: self._trial(step, step.proposals[position], record)
            for position, record in enumerate(board.records[: board.end])
            if record is not None
        }

    def _begin(self, step: Round, board: "_Board") -> Iterator[tuple[int, Job]]:
        """The fits that are to be done, trial by trial; ends early when no trial may begin any more."""
        fraction = self._fraction(step)
        for position, proposal in enumerate(step.proposals):
            if self._is_over or self._is_late():
                return
            self._begun += 1
            text = trial_text(proposal.candidate, proposal.params, fraction)
            record = self._known.get(text) or (self.ledger.find(text) if self.ledger else None)
            if record is not None and len(record.scores) == len(self.problem.folds):
                self._known[text] = board.records[position] = record
                self._effort_reused += fraction * len(record.scores)
                self._judge(step, board)
                continue
            settings = settings_of(proposal.params)
            for fold in range(len(self.problem.folds)):
                yield position, Job(proposal.candidate, settings, fold, fraction)

    def _take(self, step: Round, board: "_Board", position: int, job: Job, outcome: Outcome) -> None:
        self.fits += 1
        self._effort += job.fraction
        self._seconds += outcome.seconds
        outcomes = board.outcomes[position]
        outcomes[job.fold] = outcome
        if len(outcomes) == len(self.problem.folds):
            ordered = [outcomes[fold] for fold in range(len(outcomes))]
            error = next((found.error for found in ordered if found.error is not None), None)
            record = Record(tuple(found.score for found in ordered), error)
            text = trial_text(job.candidate, step.proposals[position].params, job.fraction)
            self._known[text] = board.records[position] = record
            if self.ledger:
                self.ledger.put(text, record)
        self._tell()

    def _judge(self, step: Round, board: "_Board") -> None:
        """Look at the trials that are scored, in their order, and stop where patience ends."""
        while board.front < len(board.records) and not self._is_over:
            record = board.records[board.front]
            if record is None:
                break
            board.front += 1
            self._scored += 1
            mean = self._trial(step, step.proposals[board.front - 1], record).mean
            if not math.isnan(mean) and (
                math.isnan(self._best) or improvement(self.problem.metric, mean, self._best) > 0
            ):
                self._best, self._since_best = mean, 0
            else:
                self._since_best += 1
            if self.tuning.patience is not None and self._since_best >= self.tuning.patience:
                self._is_over, board.end = True, board.front
                self._note(f"after {self.tuning.patience} trials without a better one")
        self.progress.trials_done(self._scored, self.strategy.scorings, self._best)

    def _is_late(self) -> bool:
        limit = self.tuning.time_limit_seconds
        if limit is None or self._begun == 0 or time.monotonic() - self._started < limit:
            return False
        self._is_over = True
        self._note(f"at its time limit of {limit:g} s")
        return True

    def _note(self, why: str) -> None:
        self.notes.append(f"the search ended {why}, with {self._scored} of {self.strategy.scorings} trials scored")

    def _trial(self, step: Round, proposal: Proposal, record: Record) -> Trial:
        trial = self.trials[proposal.candidate]
        candidate = trial.candidate
        return replace(
            trial,
            candidate=replace(candidate, params={**candidate.params, **proposal.params})
            if proposal.params
            else candidate,
            scores=record.scores,
            settings=settings_of(proposal.params),
            error=record.error,
            level=step.level,
            rows=step.rows,
        )

    def _fraction(self, step: Round) -> float:
        return 1.0 if step.rows is None else step.rows / len(self.problem.target)

    def _tell(self) -> None:
        folds = len(self.problem.folds)
        effort = self.strategy.effort * folds
        left = max(0.0, effort - self._effort - self._effort_reused)
        elapsed = time.monotonic() - self._started
        limit = self.tuning.time_limit_seconds
        expected = left * elapsed / self._effort
        if limit is not None:
            expected = min(expected, limit - elapsed)
        self.progress.fit_done(min(effort, self._effort + self._effort_reused), effort)
        self.progress.expect_end(max(0.0, expected) + self._seconds / self._effort)
        self.pool.tell(math.ceil(left))


class _Board:
    """What is scored of one round."""

    __slots__ = ("end", "front", "outcomes", "records")

    def __init__(self, step: Round) -> None:
        count = len(step.proposals)
        self.records: list[Record | None] = [None] * count
        self.outcomes: list[dict[int, Outcome]] = [{} for _ in range(count)]
        self.front = 0
        """Trials before it are judged."""
        self.end = count
        """Trials from it on don't count."""


def _result(future: "Future[Outcome]") -> Outcome:
    try:
        return future.result()
    except BrokenExecutor as exc:  # the kernel ends a process where memory ends
        raise MemoryError("a process of the search was killed") from exc


def _failures(trials: Sequence[Trial]) -> list[str]:
    failed = [trial.error for trial in trials if trial.error is not None]
    return [f"{len(failed)} of {len(trials)} trials couldn't be used; the first: {failed[0]}"] if failed else []


def _best_first(trials: list[Trial], metric: str) -> list[Trial]:
    errors = [trial.error for trial in trials if trial.error is not None]
    if len(errors) == len(trials):
        text = errors[0] if len(errors) == 1 else f"none of {len(errors)} trials could be used; the first: {errors[0]}"
        raise RefusedError("FitFailed", text)
    if all(math.isnan(trial.mean) for trial in trials):
        raise RefusedError(
            "BadMetric", f"the metric {metric!r} can't be computed for any candidate on these rows; use another one"
        )
    sign = improvement(metric, 1.0, 0.0)
    return sorted(trials, key=lambda trial: (-trial.level, math.inf if math.isnan(trial.mean) else -sign * trial.mean))
