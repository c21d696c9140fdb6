"""A cluster's state: written, read back, and judged stale."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from devcluster import lifecycle, process, state
from devcluster.errors import DevClusterError
from devcluster.process import ProcessRecord
from devcluster.state import ClusterState, Ports, Tier


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


@pytest.fixture
def dead() -> ProcessRecord:
    with subprocess.Popen(["true"]) as child:
        return process.read_record(child.pid) or ProcessRecord(child.pid, 1, process.read_boot_id())


@pytest.fixture
def alive() -> ProcessRecord:
    record = process.read_record(os.getpid())
    assert record is not None
    return record


@pytest.fixture
def cluster() -> ClusterState:
    return state.build_state("demo", Tier.APISERVER, None)


def test_a_state_survives_writing_and_reading(cluster: ClusterState, alive: ProcessRecord) -> None:
    whole = replace(cluster, owner=alive, subnet=3, ports=Ports(1, 2, 3, 4), ready=True).with_process("etcd", alive)

    state.save_state(whole)

    assert state.load_state("demo") == whole
    assert state.list_states() == [whole]


def test_the_state_is_for_its_owner_alone(cluster: ClusterState) -> None:
    state.save_state(cluster)

    assert (cluster.root / "state.json").stat().st_mode & 0o077 == 0


def test_no_cluster_has_no_state() -> None:
    assert state.load_state("demo") is None
    assert state.list_names() == []


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"name": "demo"}'])
def test_a_broken_state_is_an_error_for_its_cluster_and_ignored_by_others(text: str) -> None:
    root = state.cluster_root("demo")
    root.mkdir(parents=True)
    (root / "state.json").write_text(text)

    with pytest.raises(DevClusterError, match="Cleaning by hand"):
        state.load_state("demo")
    assert state.list_states() == []


@pytest.mark.parametrize("name", ["a", "demo", "test-ab12", "0" * 30])
def test_a_good_name_is_accepted(name: str) -> None:
    assert state.require_valid_name(name) == name


@pytest.mark.parametrize("name", ["", "Demo", "-a", "a-", "a_b", "a/b", "..", "a" * 31, "a\n"])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(DevClusterError, match="can't name a cluster"):
        state.require_valid_name(name)


def test_a_cluster_of_a_dead_owner_is_an_orphan(
    cluster: ClusterState, alive: ProcessRecord, dead: ProcessRecord
) -> None:
    assert replace(cluster, owner=dead).is_orphan
    assert not replace(cluster, owner=alive).is_orphan
    assert not cluster.is_orphan


def test_an_owner_must_be_alive(dead: ProcessRecord) -> None:
    with pytest.raises(DevClusterError, match="could own a cluster"):
        state.find_owner(dead.pid)


def test_a_reused_pid_is_another_process(alive: ProcessRecord) -> None:
    assert process.is_running(alive)
    assert not process.is_running(replace(alive, start_tick=alive.start_tick - 1))
    assert not process.is_running(replace(alive, boot_id="another boot"))


def test_a_reused_pid_is_never_signalled(alive: ProcessRecord) -> None:
    process.stop([replace(alive, start_tick=alive.start_tick - 1)], patience=0)


def test_a_process_name_may_hold_blanks_and_parentheses() -> None:
    fields = " ".join(str(number) for number in range(4, 30))

    assert process.parse_stat(f"42 (a) b (c)) S {fields}") == ("S", 22)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"ready": False}, id="never became ready"),
        pytest.param({"boot_id": "before the reboot"}, id="from before a reboot"),
        pytest.param({"processes": {}}, id="has no processes"),
    ],
)
def test_a_broken_cluster_is_not_healthy(
    cluster: ClusterState, alive: ProcessRecord, change: dict[str, object]
) -> None:
    whole = replace(cluster, ready=True, processes=dict.fromkeys(lifecycle.CONTROL_PLANE, alive))

    assert not lifecycle.is_healthy(replace(whole, **change))  # type: ignore[arg-type]


def test_a_cluster_with_a_dead_process_is_not_healthy(
    cluster: ClusterState, alive: ProcessRecord, dead: ProcessRecord
) -> None:
    processes = dict.fromkeys(lifecycle.CONTROL_PLANE, alive) | {"etcd": dead}

    assert not lifecycle.is_healthy(replace(cluster, ready=True, processes=processes))


def test_marked_processes_are_found_and_ended(tmp_path: Path) -> None:
    started = process.start(["sleep", "60"], marker=tmp_path / "mine", log=tmp_path / "log")

    found = process.find_marked(tmp_path / "mine")
    process.stop(found, patience=5)

    assert found == [started]
    assert not process.is_running(started)
    assert process.find_marked(tmp_path / "mine") == []
