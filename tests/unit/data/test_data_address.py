"""What an address means: which files it names, in which format, and what is refused."""

import glob
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelkit.contract.config import DataConfig
from modelkit.data.address import compile_names, parse_address
from modelkit.data.places import find_files
from modelkit.errors import RefusedError

TREE = ("a.csv", "b1.csv", "b2.csv", "x/a.csv", "x/b1.parquet", "x/y/a.csv", "x/y/z/b12.csv", "note.txt")


def _config(uri: str, form: str | None = None) -> DataConfig:
    return DataConfig(uri=uri, display_uri=uri.replace("file:///", "pvc://claim/"), target="t", format=form)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("tree")
    for name in (*TREE, "_SUCCESS.csv", ".hidden.csv", "x/_temporary/a.csv"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("t\n1\n")
    return root


def _found(root: Path, pattern: str) -> list[str]:
    try:
        files = find_files(parse_address(_config(f"file://{root}/{pattern}", "CSV")), _config("file:///x", "CSV"), {})
    except RefusedError as exc:
        return [] if exc.reason == "DataNotFound" else [exc.message]
    return [str(Path(file.place.open(file.path)).relative_to(root)) for file in files]


@given(
    st.lists(st.sampled_from(["**", "*", "x", "y", "?", "b*", "*1*"]), max_size=3),
    st.sampled_from(["*", "*.csv", "?.csv", "b?.csv", "b*", "*.*"]),
)
def test_a_glob_finds_what_pythons_own_finds(tree: Path, folders: list[str], name: str) -> None:
    pattern = "/".join([*folders, name])
    hidden = ("_SUCCESS", "_temporary")
    expected = sorted(
        path
        for path in set(glob.glob(pattern, root_dir=tree, recursive=True))
        if (tree / path).is_file() and not any(part in path for part in hidden)
    )
    assert _found(tree, pattern) == expected


def test_hidden_names_are_found_by_a_pattern_that_begins_so(tree: Path) -> None:
    assert _found(tree, "_*.csv") == ["_SUCCESS.csv"]
    assert _found(tree, "**/_temporary/*.csv") == ["x/_temporary/a.csv"]


def test_a_prefix_means_every_file_of_a_known_format_in_the_order_of_names(tree: Path) -> None:
    config = _config(f"file://{tree}/")
    files = find_files(parse_address(config), config, {})
    assert [file.path for file in files] == sorted(name for name in TREE if not name.endswith(".txt"))
    assert {file.format for file in files} == {"CSV", "Parquet"}
    assert all(file.name == f"pvc://claim{tree}/{file.path}" for file in files)
    assert all(file.size == 4 for file in files)


@pytest.mark.parametrize("sign", [".", "[", "+", "(", "$", "\\"])
def test_other_signs_mean_themselves(sign: str) -> None:
    assert compile_names(f"a{sign}*.csv").fullmatch(f"a{sign}b.csv")
    assert not compile_names(f"a{sign}*.csv").fullmatch("axb.csv")


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("s3://lake/churn/2026-*/p?.parquet", ("lake", "churn", "2026-*/p?.parquet", "glob")),
        ("gs://lake/t.csv", ("lake", "", "t.csv", "file")),
        ("az://box/a/b/", ("box", "a/b", "**/*", "prefix")),
        ("s3://lake/", ("lake", "", "**/*", "prefix")),
        ("file:///mnt//data/./a%20b.csv", ("", "/mnt/data", "a b.csv", "file")),
        ("https://host:8443/a/t.csv?sig=x%2F", ("host:8443", "a", "t.csv", "file")),
    ],
)
def test_an_address_is_cut_into_place_folder_and_names(uri: str, parts: tuple[str, ...]) -> None:
    found = parse_address(_config(uri))
    assert (found.container, found.folder, found.names, found.kind) == parts


@pytest.mark.parametrize(
    ("uri", "text"),
    [
        ("s3://la*e/t.csv", "without wildcards"),
        ("gs:///t.csv", "must name a bucket"),
        ("file:///data/../etc/t.csv", "'..'"),
        ("https://host/folder/", "can't list"),
        ("https://host", "can't list"),
        ("https://host/a/*.csv", "can't list"),
    ],
)
def test_an_address_that_cannot_be_meant_is_refused(uri: str, text: str) -> None:
    with pytest.raises(RefusedError, match="data address") as caught:
        parse_address(_config(uri))
    assert caught.value.reason == "BadDataAddress"
    assert text in caught.value.message


def test_a_glob_without_a_file_and_a_file_of_unknown_format_are_refused(tree: Path) -> None:
    for pattern, reason, text in (
        ("none-*.csv", "DataNotFound", "no file matches pvc://claim"),
        ("x/y/q/", "DataNotFound", "no file at"),
        ("*.txt", "BadDataAddress", "state the format"),
    ):
        config = _config(f"file://{tree}/{pattern}")
        with pytest.raises(RefusedError) as caught:
            find_files(parse_address(config), config, {})
        assert caught.value.reason == reason
        assert text in caught.value.message


def test_a_stated_format_reads_any_ending(tree: Path) -> None:
    config = _config(f"file://{tree}/note.txt", "CSV")
    assert [file.format for file in find_files(parse_address(config), config, {})] == ["CSV"]
    with pytest.raises(RefusedError, match="the format must be CSV, Parquet, JSONLines; found 'Excel'"):
        find_files(parse_address(config), _config("file:///x.csv", "Excel"), {})
