"""One file of a web server over HTTPS: read only, and by GET alone, which signed addresses allow as well."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

import obstore
from obstore.exceptions import BaseError, NotSupportedError, PermissionDeniedError, UnauthenticatedError
from obstore.store import HTTPStore

from modelkit.errors import StoreError, StoreObjectNotFoundError, StorePermissionError
from modelkit.store.clouds import CERTIFICATE, open_web

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_STATUS = re.compile(r"status code: (\d{3}[A-Za-z ]*)")


class WebFile:
    """A file at `https://host/path`, or `http://` of the pod's own loopback. Every error is a StoreError.

    Messages hold the address without its query, which may be a signature.
    """

    __slots__ = ("_address", "_store")

    def __init__(self, url: str, env_prefix: str, environ: Mapping[str, str]) -> None:
        """Nothing is contacted yet; raises StoreError for an address that can't be right."""
        parts = urlsplit(url)
        self._address = url.partition("?")[0]
        if "@" in parts.netloc or not parts.hostname:
            raise StoreError("a web address must be written as https://host/path, without credentials in it")
        if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
            raise StoreError(f"{self._address} must begin with https://: over http anybody could change the data")
        self._store: HTTPStore = open_web(url, env_prefix, environ)

    def size(self) -> int:
        """Bytes of the whole file, from the header of an answer whose body isn't read."""
        with self._errors():
            return int(obstore.get(self._store, "").meta["size"])

    def read(self) -> bytes:
        """The whole file."""
        with self._errors():
            return bytes(obstore.get(self._store, "").bytes())

    def read_start(self, length: int) -> bytes:
        """The first `length` bytes, or all when there are fewer, also from a server that knows no ranges."""
        parts, found = [], 0
        with self._errors():
            for part in obstore.get(self._store, "").stream(min_chunk_size=min(length, 1 << 16)):
                parts.append(bytes(part))
                found += len(part)
                if found >= length:
                    break
        return b"".join(parts)[:length]

    def read_part(self, start: int, length: int) -> bytes | None:
        """`length` bytes from the byte `start` on; None from a server that knows no ranges."""
        try:
            with self._errors():
                return bytes(obstore.get_range(self._store, "", start=start, length=length))
        except _RangesUnknownError:
            return None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (BaseError, OSError, ValueError) as exc:
            raise self._translate(exc) from exc

    def _translate(self, exc: Exception) -> StoreError:
        text = str(exc)
        if isinstance(exc, PermissionDeniedError | UnauthenticatedError):
            return StorePermissionError(
                f"no permission to read {self._address}: check AUTHORIZATION, or USERNAME and PASSWORD, of its Secret"
            )
        if isinstance(exc, FileNotFoundError):
            return StoreObjectNotFoundError(f"there is nothing at {self._address}")
        if isinstance(exc, NotSupportedError):
            return _RangesUnknownError(f"{self._address} can only be read whole")
        if "MissingContentLength" in text:
            problem = "the server doesn't say how long the file is (Content-Length); put the file into object storage"
        elif "InvalidCertificate" in text or "certificate" in text:
            problem = f"its certificate isn't trusted; put the authority's PEM into {CERTIFICATE} of the Secret"
        elif match := _STATUS.search(text):
            problem = f"the server answered {match.group(1).strip()}"
        elif "kind: Connect" in text or "kind: Timeout" in text or "error sending request" in text:
            problem = "the server can't be reached; check the host and the network policy"
        else:
            problem = f"the request failed ({type(exc).__name__})"
        return StoreError(f"can't read {self._address}: {problem}")


class _RangesUnknownError(StoreError):
    """The server answers with the whole file whatever part is asked for."""
