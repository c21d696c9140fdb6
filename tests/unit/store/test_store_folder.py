"""The store in a folder: atomic, confined to its root, readable by the other pods of the volume."""

import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.contract.config import StoreConfig
from modelkit.errors import StoreError, StoreObjectExistsError, StoreObjectNotFoundError, StorePermissionError
from modelkit.store.paths import split_path
from modelkit.store.store import Store


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(root: Path) -> Store:
    return Store.open(StoreConfig(uri=f"file://{root}"), {})


def test_what_is_written_is_read_and_listed(store: Store) -> None:
    store.write_new("a/b/one", b"1")
    store.write("a/two", b"22")
    assert store.read("a/b/one") == b"1"
    assert [(entry.path, entry.size) for entry in store.list("a")] == [("a/b/one", 1), ("a/two", 2)]
    assert all(entry.modified.tzinfo is not None for entry in store.list())
    assert store.exists("a/two")
    assert not store.exists("a/b")
    assert store.size("a/two") == 2


def test_an_object_is_not_written_anew(store: Store) -> None:
    store.write_new("a", b"old")
    with pytest.raises(StoreObjectExistsError, match="exists already"):
        store.write_new("a", b"new")
    assert store.read("a") == b"old"


def test_of_many_writers_of_a_new_object_one_wins(store: Store) -> None:
    outcomes: list[str] = []

    def write(text: str) -> None:
        try:
            store.write_new("folder/a", text.encode())
        except StoreObjectExistsError:
            return
        outcomes.append(text)

    threads = [threading.Thread(target=write, args=(str(number),)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == [store.read("folder/a").decode()]


def test_a_replaced_object_has_the_new_bytes_and_no_left_overs(store: Store, root: Path) -> None:
    store.write("a", b"old")
    store.write("a", b"new")
    assert store.read("a") == b"new"
    assert os.listdir(root) == ["a"]


def test_half_written_files_are_not_listed(store: Store, root: Path) -> None:
    store.write("a/b", b"")
    (root / "a" / ".tmp-0123").write_bytes(b"half")
    assert [entry.path for entry in store.list()] == ["a/b"]


def test_a_missing_object_is_named_by_its_address(store: Store, root: Path) -> None:
    store.write("folder/a", b"")
    for path in ("missing", "folder", "folder/missing"):
        with pytest.raises(StoreObjectNotFoundError, match=f"nothing at file://{root}/{path}"):
            store.read(path)


def test_a_missing_folder_lists_nothing_and_deletes_nothing(store: Store) -> None:
    assert list(store.list("missing")) == []
    store.delete("missing/object")
    store.write("a", b"")
    store.delete("a")
    assert not store.exists("a")


def test_a_prefix_is_a_folder_and_not_the_beginning_of_a_name(store: Store) -> None:
    store.write("a/b/c", b"")
    store.write("a/bc", b"")
    assert [entry.path for entry in store.list("a/b")] == ["a/b/c"]
    assert [entry.path for entry in store.list("a/b/")] == ["a/b/c"]


@pytest.mark.parametrize(
    "path", ["../a", "/etc/passwd", "a/../../b", "a//b", "", ".", "a/./b", "a\\b", "a\0b", ".tmp-1"]
)
def test_a_path_that_could_leave_the_root_is_refused(store: Store, path: str) -> None:
    for act in (store.read, store.exists, store.delete, lambda p: store.write(p, b"")):
        with pytest.raises(StoreError, match="isn't a path below the store's root"):
            act(path)


@given(st.text(alphabet=st.sampled_from("ab./\\~\0 -é"), max_size=12))
def test_no_accepted_path_leaves_the_root(path: str) -> None:
    try:
        segments = split_path(path)
    except StoreError:
        return
    assert os.path.normpath(f"/root/{'/'.join(segments)}") == f"/root/{path}"


def test_symlinks_are_not_followed(store: Store, root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    store.write("a", b"")
    (root / "folder").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    for path in ("folder/secret", "file"):
        with pytest.raises(StoreError, match="symlink"):
            store.read(path)
    with pytest.raises(StoreError, match="symlink"):
        store.write("folder/new", b"")
    store.write("file", b"ours")
    assert (outside / "secret").read_bytes() == b"secret"
    assert [entry.path for entry in store.list()] == ["a", "file"]


def test_files_and_folders_are_for_the_group_whatever_the_umask(store: Store, root: Path) -> None:
    root.mkdir()
    root.chmod(0o2770)  # as fsGroup leaves a volume's root
    before = os.umask(0o077)
    try:
        store.write_new("a/b/c", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((root / "a" / "b" / "c").stat().st_mode) == 0o660
    for folder in ("a", "a/b"):
        assert stat.S_IMODE((root / folder).stat().st_mode) == 0o2770


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission_says_what_to_check(store: Store, root: Path) -> None:
    store.write("a", b"")
    (root / "a").chmod(0)
    with pytest.raises(StorePermissionError, match="fsGroup"):
        store.read("a")


@pytest.mark.parametrize(
    "uri", ["file://host/a", "file:relative", "file:///a/../b", "http://x", "s3://", "s3://k:s@b/p"]
)
def test_a_bad_address_says_how_to_write_it(uri: str) -> None:
    with pytest.raises(StoreError, match="must be"):
        Store.open(StoreConfig(uri=uri), {})
