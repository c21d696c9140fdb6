"""What SIGTERM does to a program that holds nothing which it would have to bring to an end."""

import os
import signal

from modelkit.contract.environment import ExitCode


def stop_at_sigterm() -> None:
    """End at once, with ExitCode.STOPPED, when the kubelet asks for it.

    A container's first process ignores the signal without a handler, and would be killed after the grace period.
    """
    signal.signal(signal.SIGTERM, _stop)


def _stop(_signum: int, _frame: object) -> None:
    os._exit(ExitCode.STOPPED)
