"""One staged run, copied by each test that spoils it."""

import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from modelkit.contract import environment
from modelkit.train.cores import limit_native_threads
from tests.unit.custom.custom_world import World

limit_native_threads(os.environ)  # as the process does; else OpenMP's waiting threads take the other cores


@pytest.fixture(autouse=True)
def _any_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "METRICS_PORT", 0)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pod's folders after the user's container ended."""
    world = World.of(tmp_path_factory.mktemp("trained"))
    assert world.stage().code == 0
    world.train()
    return world.root


@pytest.fixture
def world(trained: Path, tmp_path: Path) -> World:
    """A run whose user's container ended well, to be finished or to be spoilt first."""
    shutil.copytree(trained / "pod", tmp_path / "pod")
    return World.of(tmp_path)


@pytest.fixture
def staged(tmp_path: Path) -> Callable[..., World]:
    """A run that was staged with other settings."""

    def stage(data: str = "builtin://iris", **changes: object) -> World:
        world = World.of(tmp_path, data, **changes)
        assert world.stage().code == 0, world.log.read_text()
        return replace(world)

    return stage
