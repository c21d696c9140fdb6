"""The files that an address names, wherever they are: found, measured, and read whole or in parts.

Every problem is a RefusedError that names the address as the user wrote it, but for a place that can't be reached
(StoreError), which another attempt may mend.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Protocol

from modelkit.contract.config import DataConfig, StoreConfig
from modelkit.data.address import FILE, PREFIX, WEB, Address, compile_names, format_of, require_format
from modelkit.data.suggest import suggest
from modelkit.errors import RefusedError, StoreError, StoreObjectNotFoundError, StorePermissionError
from modelkit.store.store import Store

MOST_FILES = 10_000
_CREDENTIALS = {
    "file": "the pod's user may not read it; check the file's mode and the pod's fsGroup",
    "s3": "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY of its Secret",
    "gs": "check GOOGLE_SERVICE_ACCOUNT_KEY of its Secret and what the account may do",
    "az": "check AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY (or AZURE_STORAGE_SAS_TOKEN) of its Secret",
    "https": "check AUTHORIZATION, or USERNAME and PASSWORD, of its Secret",
    "http": "check AUTHORIZATION, or USERNAME and PASSWORD, of its Secret",
}


class Place(Protocol):
    """Files by their path below the address's folder."""

    def list(self) -> Iterable[tuple[str, int]]:
        """Path and bytes of every file below the folder, in any order."""

    def size(self, name: str) -> int | None:
        """Bytes of the file, None when there is none."""

    def open(self, name: str) -> Path | BytesIO:
        """The whole file."""

    def read_part(self, name: str, start: int, length: int) -> bytes | None:
        """Bytes from `start` on, all of which the file has; None where only whole files can be read."""


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file to read."""

    name: str
    """Its address as the user would write it."""
    path: str
    """Below the address's folder."""
    format: str
    """CSV, Parquet or JSONLines."""
    size: int
    """Bytes."""
    place: Place
    scheme: str

    @property
    def is_compressed(self) -> bool:
        """Is it text in gzip?"""
        return self.path.lower().endswith(".gz")

    def open(self) -> Path | BytesIO:
        """The whole file: its path where it is mounted, else its bytes."""
        with _refusals(self.name, self.scheme):
            return self.place.open(self.path)

    def read_part(self, start: int, length: int) -> bytes | None:
        """At most `length` bytes from `start` on; None where only the whole can be read, or the start of it."""
        with _refusals(self.name, self.scheme):
            return self.place.read_part(self.path, start, max(0, min(length, self.size - start)))


def find_files(address: Address, config: DataConfig, environ: Mapping[str, str]) -> list[SourceFile]:
    """The files that `address` names, in the order of their names; at least one, at most 10,000.

    Raises RefusedError (DataNotFound, PermissionDenied, BadDataAddress) or StoreError.
    """
    place = _open_place(address, config, environ)
    with _refusals(config.display_uri, address.scheme):
        if address.kind == FILE:
            return [_one_file(place, address, config)]
        names = compile_names(address.names)
        found = sorted((path, size) for path, size in place.list() if names.fullmatch(path))
    if address.kind == PREFIX:
        found = [(path, size) for path, size in found if format_of(path, config.format)]
    if not found:
        raise RefusedError(
            "DataNotFound",
            f"no file matches {config.display_uri}"
            + ("; below a prefix, files end in .csv, .parquet, .jsonl or .ndjson" if address.kind == PREFIX else ""),
        )
    if len(found) > MOST_FILES:
        raise RefusedError(
            "TooManyFiles", f"{len(found):,} files match {config.display_uri}; at most {MOST_FILES:,} are read"
        )
    return [
        SourceFile(address.shown(path), path, require_format(path, config), size, place, address.scheme)
        for path, size in found
    ]


def _one_file(place: Place, address: Address, config: DataConfig) -> SourceFile:
    form = require_format(address.names, config)
    size = place.size(address.names)
    if size is None:
        beside = _beside(address) if address.scheme == "file" else []
        raise RefusedError(
            "DataNotFound",
            f"there is no file at {config.display_uri}; check the path" + suggest(address.names, beside),
        )
    return SourceFile(config.display_uri, address.names, form, size, place, address.scheme)


def _beside(address: Address) -> list[str]:
    folder = Path(address.folder)
    return [entry.name for entry in folder.iterdir()] if folder.is_dir() else []


def _open_place(address: Address, config: DataConfig, environ: Mapping[str, str]) -> Place:
    if address.scheme == "file":
        return _Folder(Path(address.folder))
    try:
        if address.scheme in WEB:
            return _Web(address.names, config, environ)
        root = f"{address.scheme}://{address.container}"
        return _Cloud(Store.open(StoreConfig(uri=root, env_prefix=config.env_prefix), environ), address.folder)
    except StoreError as exc:  # nothing was contacted yet: the address or its settings don't fit
        raise RefusedError("BadDataAddress", str(exc)) from exc


@contextmanager
def _refusals(name: str, scheme: str) -> Iterator[None]:
    try:
        yield
    except StoreObjectNotFoundError as exc:
        raise RefusedError("DataNotFound", f"there is nothing at {name}") from exc
    except (StorePermissionError, PermissionError) as exc:
        raise RefusedError("PermissionDenied", f"no permission to read {name}: {_CREDENTIALS[scheme]}") from exc
    except FileNotFoundError as exc:
        raise RefusedError("DataNotFound", f"there is no file at {name}") from exc


class _Folder:
    """A mounted volume."""

    __slots__ = ("_root",)

    def __init__(self, root: Path) -> None:
        self._root = root

    def list(self) -> Iterator[tuple[str, int]]:
        for folder, _, names in os.walk(self._root, onerror=_raise):
            for name in names:
                file = Path(folder, name)
                if file.is_file():
                    yield file.relative_to(self._root).as_posix(), file.stat().st_size

    def size(self, name: str) -> int | None:
        file = self._root / name
        return file.stat().st_size if file.is_file() else None

    def open(self, name: str) -> Path:
        return self._root / name

    def read_part(self, name: str, start: int, length: int) -> bytes:
        with (self._root / name).open("rb") as file:
            file.seek(start)
            return file.read(length)


class _Cloud:
    """Object storage."""

    __slots__ = ("_folder", "_store")

    def __init__(self, store: Store, folder: str) -> None:
        self._store = store
        self._folder = folder

    def list(self) -> Iterator[tuple[str, int]]:
        cut = len(self._folder) + 1 if self._folder else 0
        for found in self._store.list(self._folder):
            yield found.path[cut:], found.size

    def size(self, name: str) -> int | None:
        return self._store.size(self._path(name))

    def open(self, name: str) -> BytesIO:
        return BytesIO(self._store.read(self._path(name)))

    def read_part(self, name: str, start: int, length: int) -> bytes:
        return self._store.read_part(self._path(name), start, length) if length else b""

    def _path(self, name: str) -> str:
        return f"{self._folder}/{name}" if self._folder else name


class _Web:
    """The one file of a web address."""

    __slots__ = ("_file", "_name")

    def __init__(self, name: str, config: DataConfig, environ: Mapping[str, str]) -> None:
        from modelkit.store.web import WebFile

        self._name = name
        self._file = WebFile(config.uri, config.env_prefix, environ)

    def list(self) -> Iterator[tuple[str, int]]:
        yield self._name, self._file.size()

    def size(self, name: str) -> int | None:
        return self._file.size() if name == self._name else None

    def open(self, name: str) -> BytesIO:
        assert name == self._name
        return BytesIO(self._file.read())

    def read_part(self, name: str, start: int, length: int) -> bytes | None:
        assert name == self._name
        return self._file.read_part(start, length) if start else self._file.read_start(length)


def _raise(error: OSError) -> None:
    raise error
