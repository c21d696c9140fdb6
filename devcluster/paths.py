"""Where this package keeps what outlives one command: a cache that may be deleted, and the state of clusters.

Both are outside the checkout, so that a second clone on the same machine reuses the first one's builds.
"""

from __future__ import annotations

import os
from pathlib import Path


def cache_root() -> Path:
    """Built tools and downloaded toolchains; deleting it only costs time."""
    return _base("XDG_CACHE_HOME", ".cache") / "modelloop"


def state_root() -> Path:
    """One directory per cluster, and the locks; deleting it by hand orphans running clusters."""
    return _base("XDG_STATE_HOME", ".local/state") / "modelloop"


def clusters_root() -> Path:
    """The directories of all clusters of this user."""
    return state_root() / "clusters"


def locks_root() -> Path:
    """Lock files; they lie outside the clusters' directories because `down` removes those."""
    return state_root() / "locks"


def _base(variable: str, default: str) -> Path:
    named = os.environ.get(variable, "")
    return Path(named) if named.startswith("/") else Path.home() / default
