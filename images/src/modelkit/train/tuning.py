"""A run's search with all that surrounds it: spaces, trials of an earlier attempt, worker pods."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from modelkit.contract.config import TrainerConfig
from modelkit.contract.files import run_directory
from modelkit.contract.recipe import TuningConfig
from modelkit.contract.result import Usage
from modelkit.store.store import Store
from modelkit.train.candidates import Candidate
from modelkit.train.progress import Progress
from modelkit.train.rendezvous import clear_meeting, read_usage
from modelkit.train.resume import Ledger, clear_trials
from modelkit.train.search import Ranking, rank_trials
from modelkit.train.spaces import Space, build_spaces
from modelkit.train.trials import Problem, Trial
from modelkit.train.workers import open_pool


def clear_search(store: Store, config: TrainerConfig) -> None:
    """Remove what a search left in the store, of an attempt that ended between its version and this."""
    clear_trials(store, run_directory(config.namespace, config.name, config.version))


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """The search of one run; nothing is contacted before `rank`."""

    config: TrainerConfig
    spaces: Sequence[Space]
    ledger: Ledger
    store: Store
    environ: Mapping[str, str]

    @classmethod
    def of_run(
        cls, config: TrainerConfig, candidates: Sequence[Candidate], store: Store, environ: Mapping[str, str]
    ) -> "Search":
        """Checked: raises RefusedError for a search that the candidates don't allow."""
        spaces = build_spaces(config, candidates)
        return cls(config, spaces, Ledger.of_run(store, config.namespace, config.name, config.version), store, environ)

    def rank(self, trials: Sequence[Trial], problem: Problem, progress: Progress, cores: int) -> Ranking:
        """Search on this pod's cores and the worker pods; see `rank_trials`."""
        return rank_trials(
            trials,
            problem,
            spaces=self.spaces,
            tuning=self.config.tuning or TuningConfig(),
            progress=progress,
            ledger=self.ledger,
            pool=lambda fits: open_pool(problem, self.config, self.store, min(cores, fits), self.environ),
        )

    def worker_usage(self) -> Usage | None:
        """What the run's worker pods have used until now; None when there are none."""
        return read_usage(self.store, self.config) if self._has_workers else None

    def clear(self) -> None:
        """Remove what the search left in the store: the run's version is complete."""
        self.ledger.clear()
        if self._has_workers:
            clear_meeting(self.store, self.config)

    @property
    def _has_workers(self) -> bool:
        return self.config.tuning is not None and self.config.tuning.parallelism > 1
