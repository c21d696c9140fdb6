"""A version that never gets ready ends the process instead of keeping a pod that waits for nothing.

A model is a program: it may hold a loop that doesn't end, or work that takes days. Nothing can stop foreign code
inside of a thread, so the process ends, with a reason in the termination log.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from modelkit.serve.errors import ModelUnusableError
from modelkit.serve.outcome import exit_code_of, reason_of, write_reason

logger = logging.getLogger(__name__)

Exit = Callable[[int], None]


@contextmanager
def loading_deadline(seconds: float, termination_log: Path, leave: Exit = os._exit) -> Iterator[None]:
    """End the process by `leave` when the body takes longer than `seconds`; ONNX Runtime lets the watching thread run.

    `os._exit` by default: an ordinary exit would wait for the thread that can't be stopped.
    """
    done = threading.Event()

    def watch() -> None:
        if done.wait(seconds):
            return
        error = ModelUnusableError(
            "LoadingTimeout",
            f"the model didn't load and answer its samples within {seconds:g} s; give the pod more CPU, or train a "
            "smaller model",
        )
        logger.error("the version isn't served", extra={"reason": reason_of(error), "cause": str(error)})
        write_reason(termination_log, error)
        leave(exit_code_of(error))

    threading.Thread(target=watch, name="loading-deadline", daemon=True).start()
    try:
        yield
    finally:
        done.set()
