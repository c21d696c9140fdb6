"""Running other programs: the search path, one way to call and to fail, progress lines and locks."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from devcluster.errors import DevClusterError

_SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


def environment(**extra: str) -> dict[str, str]:
    """The caller's environment with the system's own folders on PATH, which a plain user's often lacks."""
    folders = [folder for folder in os.environ.get("PATH", "").split(":") if folder]
    folders += [folder for folder in _SYSTEM_FOLDERS if folder not in folders]
    return {**os.environ, "PATH": ":".join(folders), **extra}


def find_program(name: str) -> str | None:
    """Where `name` is on the extended search path."""
    return shutil.which(name, path=environment()["PATH"])


def run(
    *command: str | Path,
    stdin: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
) -> str:
    """Run a program and return what it printed.

    :raises DevClusterError: it isn't there, ends with an error (its last words are in the message) or takes too long.
    """
    words = [str(word) for word in command]
    try:
        done = subprocess.run(
            words,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            env=environment() if env is None else dict(env),
            cwd=cwd,
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError as exc:
        raise DevClusterError(f"the program {words[0]} isn't on this machine") from exc
    except subprocess.TimeoutExpired as exc:
        raise DevClusterError(f"`{_short(words)}` took longer than {timeout:.0f} s") from exc
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-3000:]
        raise DevClusterError(f"`{_short(words)}` failed with exit code {done.returncode}: {said}")
    return done.stdout


def succeeds(*command: str | Path, timeout: float = 20) -> bool:
    """Whether a program is there and ends without an error in time."""
    try:
        run(*command, timeout=timeout)
    except DevClusterError:
        return False
    return True


def say(text: str) -> None:
    """One progress line, on standard error: standard output belongs to results such as a path."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def step(what: str) -> Iterator[None]:
    """Announce a piece of work when it begins, and on the same line how long it took."""
    began = time.monotonic()
    print(f"{what} … ", end="", file=sys.stderr, flush=True)
    try:
        yield
    except BaseException:
        say("failed")
        raise
    say(format_seconds(time.monotonic() - began))


def format_seconds(seconds: float) -> str:
    """`0.4s`, `12s`, `5m45s`: as much as a person wants to know."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"


@contextlib.contextmanager
def locked(path: Path, *, what: str = "", wait: bool = True) -> Iterator[bool]:
    """Hold an exclusive lock on a file; the kernel lets go of it when the holder dies, however it dies.

    Yields False, without the lock, when `wait` is false and somebody else holds it.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                yield False
                return
            if what:
                say(f"waiting for another process that is {what}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield True


def wait_until(is_done: Callable[[], bool], *, seconds: float, what: str, every: float = 0.1) -> None:
    """Poll until `is_done()`.

    :raises DevClusterError: `what` hasn't happened within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not is_done():
        if time.monotonic() > deadline:
            raise DevClusterError(f"{what} hasn't happened within {seconds:.0f} s")
        time.sleep(every)


def require_free_space(directory: Path, gigabytes: float, purpose: str) -> None:
    """Refuse to begin what would fill the disk half-way.

    :raises DevClusterError: less than `gigabytes` are free where `directory` is or will be.
    """
    existing = directory
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free / 1e9
    if free < gigabytes:
        raise DevClusterError(
            f"{purpose} needs about {gigabytes:.0f} GB below {directory}, and only {free:.1f} GB are free: make room"
        )


def write_atomically(path: Path, text: str, *, mode: int = 0o644) -> None:
    """Replace a file in one step, so that a reader or a kill never sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as handle:
        handle.write(text)
    temporary.replace(path)


def join_words(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _short(words: Sequence[str]) -> str:
    line = " ".join([Path(words[0]).name, *words[1:]])
    return line if len(line) <= 200 else line[:200] + "…"
