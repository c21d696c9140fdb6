"""The store in S3, as far as it goes without a server: a real one is in the cluster tier."""

import socket
import time
from collections.abc import Callable

import pytest

from modelkit.contract.config import StoreConfig
from modelkit.errors import StoreError
from modelkit.store.store import Store


def _store(endpoint: str, **settings: str) -> Store:
    environ = {
        "MODELLOOP_STORE_AWS_ENDPOINT_URL": endpoint,
        "MODELLOOP_STORE_AWS_ACCESS_KEY_ID": "key-id",
        "MODELLOOP_STORE_AWS_SECRET_ACCESS_KEY": "very-secret\n",
        **settings,
    }
    return Store.open(StoreConfig(uri="s3://bucket/prefix"), environ)


@pytest.fixture(autouse=True)
def _without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    "act",
    [lambda s: s.read("a"), lambda s: list(s.list("a")), lambda s: s.write_new("a", b"")],
    ids=["read", "list", "write"],
)
def test_an_endpoint_that_refuses_is_an_error_within_20_seconds(act: Callable[[Store], object]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(StoreError, match="s3://bucket/prefix/a") as caught:
        act(_store(f"http://127.0.0.1:{port}"))
    assert time.monotonic() - started < 20
    assert "very-secret" not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["not a url", "minio:9000", "http://"])
def test_an_endpoint_that_is_no_address_says_how_to_write_it(endpoint: str) -> None:
    with pytest.raises(StoreError, match=r"AWS_ENDPOINT_URL of s3://bucket/prefix must be http://host:port"):
        _store(endpoint)
