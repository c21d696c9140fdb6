"""The store of versions, captures and reports: one API over a mounted volume and object storage.

All calls are synchronous and safe to make from several threads. An unreachable endpoint is an error within
about 20 seconds, never a hang.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from modelkit.contract.config import StoreConfig
from modelkit.errors import StoreError
from modelkit.store.backend import Backend, StoredObject
from modelkit.store.folder import FolderBackend
from modelkit.store.paths import split_path, split_prefix

__all__ = ["Store", "StoredObject"]


@dataclass(frozen=True, slots=True)
class Store:
    """Objects below one root address; paths that could leave it (`..`, absolute, symlinks) are refused."""

    uri: str
    _backend: Backend

    @classmethod
    def open(cls, config: StoreConfig, environ: Mapping[str, str]) -> "Store":
        """The store at `config.uri`: `file:///folder`, `s3://bucket/prefix`, `gs://…` or `az://container/prefix`.

        Credentials come from the keys of `environ` that begin with `config.env_prefix`, such as
        MODELLOOP_STORE_AWS_ACCESS_KEY_ID (see `store.clouds`). Nothing is contacted yet; raises StoreError for a bad
        address.
        """
        return cls(config.uri, _open_backend(config, environ))

    def read(self, path: str) -> bytes:
        """The object's bytes; raises StoreObjectNotFoundError, StorePermissionError or StoreError."""
        return self._backend.read(split_path(path))

    def read_part(self, path: str, start: int, length: int) -> bytes:
        """`length` bytes of the object from the byte `start` on, all of which it must have; errors as of `read`."""
        return self._backend.read_part(split_path(path), start, length)

    def write_new(self, path: str, data: bytes) -> None:
        """Write an object that must not exist yet; raises StoreObjectExistsError when it does.

        On S3 a lost answer can make a successful write look like an existing object: a caller that must know
        compares what is there.
        """
        self._backend.write(split_path(path), data, replace=False)

    def write(self, path: str, data: bytes, *, private: bool = False) -> None:
        """Write or atomically replace an object: a reader sees all of the old or all of the new bytes.

        A `private` one can be read by the same user only (mode 0600) where the store is a folder; in a bucket by
        everybody who may read the bucket.
        """
        self._backend.write(split_path(path), data, replace=True, private=private)

    def exists(self, path: str) -> bool:
        """Is there an object at `path`? A folder isn't one."""
        return self._backend.size(split_path(path)) is not None

    def size(self, path: str) -> int | None:
        """Bytes of the object without reading it; None when there is none."""
        return self._backend.size(split_path(path))

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """Every object below the folder `prefix`, in a stable order; half-written files are left out.

        `a/b` lists `a/b/c` but not `a/bc`. A missing folder gives nothing.
        """
        return self._backend.list(split_prefix(prefix))

    def delete(self, path: str) -> None:
        """Remove an object; a missing one is no error."""
        self._backend.delete(split_path(path))

    def remove_empty(self, folder: str) -> None:
        """Remove `folder` when nothing is in it; no error when it holds something or isn't there.

        Only folders that nobody writes to any more: a writer that has just made one would find it gone.
        """
        self._backend.remove_empty(split_path(folder))


def _open_backend(config: StoreConfig, environ: Mapping[str, str]) -> Backend:
    parts = urlsplit(config.uri)
    if parts.scheme == "file":
        folder = unquote(parts.path)
        if parts.netloc or not folder.startswith("/") or ".." in folder.split("/"):
            raise StoreError(f"the store {config.uri} must be written as file:///absolute/folder")
        return FolderBackend(Path(folder))
    if parts.scheme in {"s3", "gs", "az"}:
        # obstore is loaded for these only: a pod on a volume starts without it.
        from modelkit.store.bucket import BucketBackend

        return BucketBackend.open(config.uri, config.env_prefix, environ)
    raise StoreError(f"the store {config.uri} must be written with file:///, s3://, gs:// or az://")
