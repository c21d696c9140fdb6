"""`python -m modelkit.train`: run the training that MODELLOOP_CONFIG describes and tell the operator how it ended.

`python -m modelkit.train stage` is the step before a custom image, which the plain command follows.

The only place that turns errors into exit codes and a termination message. scikit-learn is imported late, after the
number of native threads is set and the configuration has been read.
"""

import gc
import logging
import os
import sys
import traceback
from collections.abc import Mapping, MutableMapping
from dataclasses import replace
from pathlib import Path

from modelkit.artifact.version import ArtifactError
from modelkit.contract import environment
from modelkit.contract.codec import ContractError, loads
from modelkit.contract.config import TrainerConfig
from modelkit.contract.environment import ExitCode
from modelkit.contract.files import TERMINATION_LOG
from modelkit.contract.result import TrainingResult, termination_message
from modelkit.errors import RefusedError, SourceChangedError, StoreError, StorePermissionError
from modelkit.logs import set_up_logging
from modelkit.train.cores import available_cores, limit_native_threads
from modelkit.train.stopping import stop_at_sigterm
from modelkit.train.usage import Meter

logger = logging.getLogger("modelkit.train")

_OBJECTS_BETWEEN_COLLECTIONS = 50_000
TERMINATION_LOG_VARIABLE = "MODELLOOP_TERMINATION_LOG"
"""Another path for the termination message, where there is no kubelet."""


STAGE = "stage"
FINISH = "finish"


def main(environ: MutableMapping[str, str], step: str = FINISH) -> ExitCode:
    """Train as `environ` says; writes the termination message and returns the exit code.

    Custom training has two steps of its own around the user's image: STAGE and FINISH.
    """
    set_up_logging()
    # With Python's default the collector walks all that was imported some hundred times: a tenth of a short run.
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    limit_native_threads(environ)
    with Meter() as meter:
        result, code = _train(environ, step)
        result = replace(result, usage=meter.usage(plus=result.usage))
    _report(result, Path(environ.get(TERMINATION_LOG_VARIABLE, TERMINATION_LOG)))
    if result.outcome == "Succeeded":
        logger.info("trained", extra={"path": result.path, "digest": result.digest, "seconds": result.seconds})
    else:
        logger.error("not trained", extra={"reason": result.reason, "error": result.message})
    return code


def _train(environ: Mapping[str, str], step: str) -> tuple[TrainingResult, ExitCode]:
    try:
        config = loads(TrainerConfig, environ.get(environment.CONFIG, ""))
    except ContractError as exc:
        message = f"{environment.CONFIG} doesn't fit the contract: {exc}; operator and trainer image must match"
        return _failed("BadConfiguration", message), ExitCode.REFUSED
    try:
        return _run(config, environ, step), ExitCode.DONE
    except RefusedError as exc:
        return replace(_failed(exc.reason, exc.message), findings=exc.findings[:10]), ExitCode.REFUSED
    except StorePermissionError as exc:
        return _failed("PermissionDenied", str(exc)), ExitCode.REFUSED
    except StoreError as exc:
        return _failed("StoreUnavailable", str(exc)), ExitCode.FAILED
    except SourceChangedError as exc:
        return _failed("SourceChanged", str(exc)), ExitCode.FAILED
    except ArtifactError as exc:
        return _failed("VersionUnusable", str(exc)), ExitCode.REFUSED
    except MemoryError:
        message = "the data and the candidates need more memory than there is; raise the limit in resources"
        return _failed("OutOfMemory", message), ExitCode.FAILED
    except Exception as exc:  # noqa: BLE001 - the outermost edge: whatever happens, the operator is told
        # Without the message, which may quote a value of the data.
        frames = [f"{frame.filename}:{frame.lineno}" for frame in traceback.extract_tb(exc.__traceback__)]
        logger.error("unexpected error", extra={"error": type(exc).__name__, "frames": frames})
        return _failed("InternalError", f"{type(exc).__name__} at {frames[-1]}"), ExitCode.FAILED


def _run(config: TrainerConfig, environ: Mapping[str, str], step: str) -> TrainingResult:
    from modelkit.train.progress import Progress, served_metrics
    from modelkit.train.retention import remove_old_versions
    from modelkit.train.run import open_store, run_training

    progress = Progress()
    with served_metrics(progress, environment.METRICS_PORT):
        if step == STAGE:
            from modelkit.train.custom.staging import run_stage

            return run_stage(config, environ, progress)
        if config.custom is not None:
            from modelkit.train.custom.finishing import run_finish

            result = run_finish(config, environ, progress)
        else:
            result = run_training(config, environ, progress, available_cores())
        remove_old_versions(open_store(config, environ), config)
        return result


def _failed(reason: str, message: str) -> TrainingResult:
    return TrainingResult(outcome="Failed", reason=reason, message=message)


def _report(result: TrainingResult, path: Path) -> None:
    try:
        path.write_text(termination_message(result), encoding="utf-8")
    except OSError as exc:
        logger.error("no termination message", extra={"path": str(path), "error": exc.strerror})


if __name__ == "__main__":
    # Finished trials are stored, and nothing else of a run that isn't done is of use.
    stop_at_sigterm()
    sys.exit(main(os.environ, STAGE if STAGE in sys.argv[1:] else FINISH))
