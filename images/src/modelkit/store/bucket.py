"""A store in an S3 bucket, through obstore; retries and timeouts are bounded, so nothing hangs."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from modelkit.errors import StoreError, StoreObjectNotFoundError
from modelkit.store.backend import StoredObject
from modelkit.store.bucket_errors import translate

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

_SETTINGS: Mapping[str, str] = {
    "AWS_ACCESS_KEY_ID": "access_key_id",
    "AWS_SECRET_ACCESS_KEY": "secret_access_key",
    "AWS_SESSION_TOKEN": "session_token",
    "AWS_DEFAULT_REGION": "region",
    "AWS_REGION": "region",
    "AWS_ENDPOINT_URL": "endpoint",
}
# No limit on a whole request, which may carry gigabytes: a stalled one ends by its read timeout.
_CLIENT: "ClientConfig" = {"connect_timeout": "4s", "read_timeout": "8s", "timeout": "1h"}
_RETRY: "RetryConfig" = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=12),
    "backoff": {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=2), "base": 2},
}


class BucketBackend:
    """Objects of one bucket below one prefix."""

    __slots__ = ("_address", "_prefix", "_store")

    def __init__(self, store: S3Store, bucket: str, prefix: tuple[str, ...]) -> None:
        self._store = store
        self._prefix = prefix
        self._address = "/".join(("s3:/", bucket, *prefix))

    @classmethod
    def open(cls, uri: str, env_prefix: str, environ: Mapping[str, str]) -> "BucketBackend":
        """The bucket and prefix of `s3://bucket/prefix`; raises StoreError for another form."""
        parts = urlsplit(uri)
        prefix = tuple(segment for segment in unquote(parts.path).split("/") if segment)
        if not parts.netloc or "@" in parts.netloc or ".." in prefix or parts.query or parts.fragment:
            raise StoreError("an S3 address must be written as s3://bucket/prefix, without credentials in it")
        # A trailing newline is the usual slip in a Secret made from a file.
        given = {name: environ.get(env_prefix + name, "").strip() for name in _SETTINGS}
        settings = cast("S3Config", {key: given[name] for name, key in _SETTINGS.items() if given[name]})
        _check_endpoint(given["AWS_ENDPOINT_URL"], uri)
        client: ClientConfig = {**_CLIENT, "allow_http": given["AWS_ENDPOINT_URL"].startswith("http://")}
        try:
            store = S3Store(parts.netloc, config=settings, client_options=client, retry_config=_RETRY)
        except (BaseError, ValueError) as exc:
            raise translate(exc, "open", uri) from exc
        return cls(store, parts.netloc, prefix)

    def read(self, segments: tuple[str, ...]) -> bytes:
        """See Backend."""
        with self._errors("read", segments):
            return bytes(obstore.get(self._store, self._key(segments)).bytes())

    def write(self, segments: tuple[str, ...], data: bytes, *, replace: bool) -> None:
        """See Backend."""
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


def _check_endpoint(endpoint: str, uri: str) -> None:
    # Checked here: the S3 client panics on an address that isn't one.
    parts = urlsplit(endpoint)
    if endpoint and (parts.scheme not in {"http", "https"} or not parts.hostname):
        raise StoreError(f"AWS_ENDPOINT_URL of {uri} must be http://host:port or https://host:port")
