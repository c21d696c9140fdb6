"""A store in a bucket (or container) of S3, Google Cloud or Azure, through obstore."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import ObjectStore

from modelkit.errors import StoreObjectNotFoundError
from modelkit.store.backend import StoredObject
from modelkit.store.bucket_errors import translate
from modelkit.store.clouds import open_cloud


class BucketBackend:
    """Objects of one bucket below one prefix."""

    __slots__ = ("_address", "_prefix", "_store")

    def __init__(self, store: ObjectStore, address: str, prefix: tuple[str, ...]) -> None:
        self._store = store
        self._prefix = prefix
        self._address = "/".join((address, *prefix))

    @classmethod
    def open(cls, uri: str, env_prefix: str, environ: Mapping[str, str]) -> "BucketBackend":
        """The bucket and prefix of `s3://bucket/prefix`, `gs://…` or `az://…`; raises StoreError for another form."""
        store, bucket, prefix = open_cloud(uri, env_prefix, environ)
        return cls(store, f"{urlsplit(uri).scheme}://{bucket}", prefix)

    def read(self, segments: tuple[str, ...]) -> bytes:
        """See Backend."""
        with self._errors("read", segments):
            return bytes(obstore.get(self._store, self._key(segments)).bytes())

    def read_part(self, segments: tuple[str, ...], start: int, length: int) -> bytes:
        """See Backend."""
        with self._errors("read", segments):
            return bytes(obstore.get_range(self._store, self._key(segments), start=start, length=length))

    def write(self, segments: tuple[str, ...], data: bytes, *, replace: bool, private: bool = False) -> None:  # noqa: ARG002
        """See Backend; a bucket has one kind of reader, so that `private` changes nothing."""
        with self._errors("write", segments):
            # One request, never multipart: a crashed writer leaves no invisible parts in the bucket.
            obstore.put(
                self._store,
                self._key(segments),
                data,
                mode="overwrite" if replace else "create",
                use_multipart=False,
            )

    def size(self, segments: tuple[str, ...]) -> int | None:
        """See Backend."""
        try:
            with self._errors("read", segments):
                return int(obstore.head(self._store, self._key(segments))["size"])
        except StoreObjectNotFoundError:
            return self._size_by_reading(segments)

    def list(self, segments: tuple[str, ...]) -> Iterator[StoredObject]:
        """See Backend."""
        with self._errors("list", segments):
            for batch in obstore.list(self._store, self._key(segments) or None):
                for found in batch:
                    path = "/".join(found["path"].split("/")[len(self._prefix) :])
                    yield StoredObject(path, int(found["size"]), found["last_modified"])

    def delete(self, segments: tuple[str, ...]) -> None:
        """See Backend."""
        try:
            with self._errors("delete", segments):
                obstore.delete(self._store, self._key(segments))
        except StoreObjectNotFoundError:
            return

    def remove_empty(self, segments: tuple[str, ...]) -> None:
        """See Backend; a bucket's folders are only the names of its objects."""

    def _size_by_reading(self, segments: tuple[str, ...]) -> int | None:
        """The answer to HEAD has no body, so a missing bucket or an unknown key look like a missing object."""
        try:
            with self._errors("read", segments):
                return int(obstore.get(self._store, self._key(segments)).meta["size"])
        except StoreObjectNotFoundError:
            return None

    def _key(self, segments: tuple[str, ...]) -> str:
        return "/".join((*self._prefix, *segments))

    @contextmanager
    def _errors(self, verb: str, segments: tuple[str, ...]) -> Iterator[None]:
        try:
            yield
        except (BaseError, OSError, ValueError) as exc:
            raise translate(exc, verb, "/".join((self._address, *segments))) from exc
