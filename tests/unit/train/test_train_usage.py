"""A run's cost is that of its processes, living and ended."""

import resource
import subprocess
import sys
import time

import pytest

from modelkit.train.usage import Meter

BURN = "import time; end = time.process_time() + 0.4\nwhile time.process_time() < end: pass"
HOLD = "import sys; held = b'x' * (200 << 20); print(flush=True); sys.stdin.read()"


def burnt() -> float:
    """Processor seconds of this process and of its ended children, as the kernel counts them."""
    return sum(
        used.ru_utime + used.ru_stime
        for used in (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    )


def test_processor_time_is_that_of_the_process_and_of_children_that_have_ended() -> None:
    # Differences: children of earlier tests in this process may live, and count in one of the two only.
    before, burnt_before = Meter().usage().cpu_seconds, burnt()
    subprocess.run([sys.executable, "-c", BURN], check=True)
    used, burnt_since = Meter().usage().cpu_seconds - before, burnt() - burnt_before
    assert used >= 0.38
    assert used == pytest.approx(burnt_since, abs=0.1)


def test_a_child_that_lives_counts_with_its_time_and_memory() -> None:
    with (
        Meter() as meter,
        subprocess.Popen([sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child,
    ):
        alone = meter.usage()
        assert child.stdout is not None
        child.stdout.readline()
        with_child = meter.usage()
        child.communicate()
    assert with_child.peak_memory_bytes - alone.peak_memory_bytes > 190 << 20
    assert with_child.cpu_seconds > alone.cpu_seconds


def test_memory_is_summed_over_time() -> None:
    with Meter() as meter:
        started, first = time.monotonic(), meter.usage()
        while time.monotonic() < started + 0.3:
            pass
        second = meter.usage()
    passed = second.memory_gib_seconds - first.memory_gib_seconds
    assert passed == pytest.approx(0.3 * second.peak_memory_bytes / (1 << 30), rel=0.5)


def test_the_thread_ends_with_the_meter() -> None:
    with Meter() as meter:
        assert meter._thread.is_alive()
    assert not meter._thread.is_alive()
