"""Where the hostile versions lie, and what their payloads would make."""

from pathlib import Path

import pytest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    return tmp_path / "canary"
