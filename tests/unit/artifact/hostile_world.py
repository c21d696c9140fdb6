"""A server that loads hostile versions, and a look at whether anything of them ran."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from modelkit.contract.config import StoreConfig, VersionRef
from modelkit.contract.files import MODEL_ONNX, MODEL_SKOPS, SAMPLES, SIGNATURE
from modelkit.errors import ModelKitError
from modelkit.serve.loading import load_version
from modelkit.serve.outcome import exit_code_of
from modelkit.serve.settings import Settings
from modelkit.store.store import Store
from tests.unit.serve.serve_models import Example, store_example
from tests.unit.serve.serve_process import server_config

REFUSED = 2
PAYLOAD_EVENTS = frozenset({"os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "socket.connect"})
watched: list[str] | None = None


def _watch(event: str, _: tuple[Any, ...]) -> None:
    if watched is not None and event in PAYLOAD_EVENTS:
        watched.append(event)


sys.addaudithook(_watch)  # There is no way to take one away: it looks only while something is watched.


@contextmanager
def nothing_runs(canary: Path) -> Iterator[None]:
    """No process, no connection and no canary."""
    global watched
    watched = []
    try:
        yield
        assert watched == []
    finally:
        watched = None
    assert not canary.exists()


def open_store(root: Path) -> Store:
    return Store.open(StoreConfig(uri=f"file://{root}"), {})


def refusal(tmp_path: Path, version: VersionRef) -> ModelKitError:
    """What the server says to the version; it ends for good, without another attempt."""
    root = tmp_path / "store"
    settings = Settings(config=server_config(root, version), port=0, work=tmp_path / "work", pod="pod")
    with nothing_runs(tmp_path / "canary"), pytest.raises(ModelKitError) as raised:
        load_version(settings, open_store(root), 1).close()
    assert exit_code_of(raised.value) == REFUSED
    assert str(raised.value)
    return raised.value


def serve_files(tmp_path: Path, example: Example, **files: bytes) -> ModelKitError:
    """The refusal of the example's version with other files: its digest is right, its content isn't."""
    names = {"onnx": MODEL_ONNX, "skops": MODEL_SKOPS, "signature": SIGNATURE, "samples": SAMPLES}
    changed = example.files | {names[key]: data for key, data in files.items()}
    return refusal(tmp_path, store_example(open_store(tmp_path / "store"), replace(example, files=changed)))
