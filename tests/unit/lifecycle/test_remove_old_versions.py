"""Old versions go, those in use never, and what is removed in part is no version."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from modelkit.artifact.version import read_manifest, write_version
from modelkit.contract.config import CandidateConfig, DataConfig, StoreConfig, TrainerConfig
from modelkit.contract.files import version_directory, version_name
from modelkit.errors import StoreError
from modelkit.store.store import Store
from modelkit.train.retention import remove_old_versions

UID, OTHER_UID = "6f1c0a52-0000-4000-8000-000000000001", "6f1c0a52-0000-4000-8000-000000000002"


def config_of(number: int, keep: tuple[str, ...] | None, uid: str | None = UID) -> TrainerConfig:
    return TrainerConfig(
        namespace="team",
        name="cancer",
        number=number,
        version=version_name(UID, number),
        trigger="Created",
        store=StoreConfig(uri="file:///unused"),
        data=DataConfig(uri="builtin://iris", display_uri="builtin://iris", target="target"),
        candidates=(CandidateConfig(estimator="LogisticRegression"),),
        uid=uid,
        keep_versions=keep,
    )


def store_in(folder: Path) -> Store:
    return Store.open(StoreConfig(uri=f"file://{folder}"), {})


def path_of(name: str, training: str = "cancer") -> str:
    return version_directory("team", training, name)


def add_version(store: Store, name: str, training: str = "cancer") -> str:
    write_version(store, path_of(name, training), {"model.onnx": b"model", "card.md": b"card"}, {"run": name})
    return name


def versions_in(store: Store) -> set[str]:
    return {entry.path.split("/")[3] for entry in store.list("models/team/cancer")}


def test_what_is_not_in_use_goes_and_the_rest_stays_whole(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    names = [add_version(store, version_name(UID, number)) for number in range(1, 7)]
    removed = remove_old_versions(store, config_of(5, (names[1], names[2])))
    assert removed == (names[0], names[3])
    assert versions_in(store) == {names[1], names[2], names[4], names[5]}, "its own and a later one stay"
    for name in versions_in(store):
        assert read_manifest(store, path_of(name)) is not None
    assert remove_old_versions(store, config_of(5, (names[1], names[2]))) == ()


def test_nothing_of_others_is_touched(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    others = [
        add_version(store, version_name(OTHER_UID, 1)),
        add_version(store, "1-imported"),
        add_version(store, "imported"),
        add_version(store, "2-0a1b2c3d"),
    ]
    neighbour = add_version(store, version_name(UID, 1), "cancer-2")
    store.write("models/team/cancer/README.md", b"notes")
    assert remove_old_versions(store, config_of(3, ())) == ()
    assert versions_in(store) == {*others, "README.md"}
    assert read_manifest(store, path_of(neighbour, "cancer-2")) is not None


@pytest.mark.parametrize(("keep", "uid"), [(None, UID), ((), None)])
def test_without_an_order_nothing_is_removed(tmp_path: Path, keep: tuple[str, ...] | None, uid: str | None) -> None:
    store = store_in(tmp_path)
    add_version(store, version_name(UID, 1))
    assert remove_old_versions(store, config_of(2, keep, uid)) == ()
    assert versions_in(store) == {version_name(UID, 1)}


def test_half_written_versions_go_too(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.write(f"{path_of(version_name(UID, 1))}/model.onnx", b"half")
    store.write(f"{path_of(version_name(UID, 1))}/plots/roc.svg", b"below")
    assert remove_old_versions(store, config_of(2, ())) == (version_name(UID, 1),)
    assert versions_in(store) == set()


class _Failing:
    """A store whose deletions fail after a number of them."""

    def __init__(self, store: Store, deletions: int) -> None:
        self.store, self.left = store, deletions

    def list(self, prefix: str) -> object:
        return self.store.list(prefix)

    def delete(self, path: str) -> None:
        if self.left == 0:
            raise StoreError("the volume is read-only")
        self.left -= 1
        self.store.delete(path)


@pytest.mark.parametrize("deletions", [0, 1, 2, 3, 4, 5])
def test_a_version_that_is_removed_in_part_is_none_and_the_run_goes_on(tmp_path: Path, deletions: int) -> None:
    store = store_in(tmp_path)
    names = [add_version(store, version_name(UID, number)) for number in (1, 2)]
    files = {name: len([*store.list(path_of(name))]) for name in names}
    remove_old_versions(_Failing(store, deletions), config_of(3, ()))  # type: ignore[arg-type]
    for name in names:
        left = len([*store.list(path_of(name))])
        is_whole = read_manifest(store, path_of(name)) is not None
        assert is_whole == (left == files[name])
    remove_old_versions(store, config_of(3, ()))
    assert versions_in(store) == set()


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    made=st.sets(st.integers(1, 12), min_size=1),
    kept=st.sets(st.integers(1, 12)),
    number=st.integers(1, 12),
)
def test_whatever_is_kept_or_made_now_or_later_is_never_removed(
    tmp_path_factory: pytest.TempPathFactory, made: set[int], kept: set[int], number: int
) -> None:
    store = store_in(tmp_path_factory.mktemp("store"))
    for made_number in made:
        store.write(f"{path_of(version_name(UID, made_number))}/manifest.json", b"{}")
    remove_old_versions(store, config_of(number, tuple(version_name(UID, entry) for entry in kept)))
    left = {name for name in made if name in kept or name >= number}
    assert versions_in(store) == {version_name(UID, entry) for entry in left}
