"""What a deleted training has left goes, in each kind of store alike; what is in use and what isn't its own stays."""

import json
from pathlib import Path

import pytest

from modelkit.artifact.version import read_manifest
from modelkit.contract.codec import dumps
from modelkit.contract.config import RemovalConfig, StoreConfig
from modelkit.contract.environment import CONFIG, ExitCode
from modelkit.contract.files import trials_directory, version_name
from modelkit.train.removal import main
from tests.unit.lifecycle.test_remove_old_versions import OTHER_UID, UID, add_version, path_of, store_in, versions_in


def _config(store: StoreConfig, keep: tuple[str, ...] = ()) -> RemovalConfig:
    return RemovalConfig(namespace="team", name="cancer", uid=UID, store=store, keep_versions=keep)


def remove(folder: Path, *keep: str) -> ExitCode:
    return main({CONFIG: dumps(_config(StoreConfig(uri=f"file://{folder}"), keep))})


def test_its_own_versions_and_runs_go_and_nothing_else(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    own = [add_version(store, version_name(UID, number)) for number in (1, 2, 10)]
    others = {add_version(store, version_name(OTHER_UID, 1)), add_version(store, "notes")}
    add_version(store, version_name(UID, 1), "cancer-2")
    for uid in (UID, OTHER_UID):
        store.write(f"{trials_directory('team', 'cancer', version_name(uid, 3))}/1.json", b"{}")
    assert remove(tmp_path, own[1]) is ExitCode.DONE
    assert versions_in(store) == {own[1], *others}
    assert read_manifest(store, path_of(own[1])) is not None
    assert len(list(store.list("models/team/cancer-2"))) == len(list(store.list(path_of(own[1]))))
    assert [entry.path.split("/")[3] for entry in store.list("runs/team/cancer")] == [version_name(OTHER_UID, 3)]
    assert remove(tmp_path, own[1]) is ExitCode.DONE, "a second time there is nothing to do"


@pytest.mark.parametrize(
    "config", ["", dumps(_config(StoreConfig(uri="s3://a bucket")))], ids=["no config", "no store"]
)
def test_what_cannot_be_removed_is_told(config: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main({CONFIG: config}) is ExitCode.FAILED
    line = json.loads(capsys.readouterr().err.splitlines()[-1])
    assert line["message"] == "versions couldn't be removed"
    assert line["error"]
