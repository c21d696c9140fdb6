"""The mounted route.json: is there one, has it changed, and does it fit?

The kubelet writes a changed ConfigMap into a new directory and turns a symbolic link to it, so the file at the path is
either the old or the new one as a whole. Looking costs a call of stat; reading, a file that is in memory.
"""

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from modelkit.contract.codec import ContractError, loads
from modelkit.contract.route import RouteConfig
from modelkit.serve.rollout.rules import find_problem

logger = logging.getLogger(__name__)

MAX_BYTES = 1_048_576
"""Of a ConfigMap."""

_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Found:
    """What the newest file says."""

    config: RouteConfig | None = None
    """None: there is no route, or none that can be followed."""
    problem: str = ""
    """Why it can't be followed."""


class RouteFile:
    """Follows one path. Used on the event loop."""

    def __init__(self, path: Path, columns: frozenset[str]) -> None:
        """`columns`: the features of the version, which a rule may name."""
        self.found = Found()
        self._path = path
        self._columns = columns
        self._stamp: _Stamp | None = None

    def refresh(self) -> bool:
        """Look at the path again; whether `found` is another one."""
        stamp = None
        try:
            stamp = _read_stamp(self._path)
            if stamp == self._stamp:
                return False
            found = self._read()
        except (FileNotFoundError, NotADirectoryError):
            found = Found()
        except OSError as exc:
            found = Found(problem=f"{self._path} can't be read ({exc.strerror or type(exc).__name__})")
        self._stamp = stamp
        if found == self.found:
            return False
        self.found = found
        if found.problem:
            logger.error("the route can't be followed; this version answers alone", extra={"cause": found.problem})
        return True

    def _read(self) -> Found:
        with self._path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
        if len(content) > MAX_BYTES:
            return Found(problem=f"{self._path} has more than {MAX_BYTES} bytes")
        if not content.strip():
            return Found()
        try:
            config = loads(RouteConfig, content)
        except (ContractError, RecursionError) as exc:
            return Found(problem=f"{self._path} doesn't fit: {exc}")
        problem = find_problem(config, self._columns)
        return Found(problem=f"{self._path} doesn't fit: {problem}") if problem else Found(config)


def _read_stamp(path: Path) -> _Stamp:
    found = os.stat(path)
    return found.st_ino, found.st_mtime_ns, found.st_size
