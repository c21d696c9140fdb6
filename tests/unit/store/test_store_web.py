"""A file of a web server, read over real TLS on loopback."""

from base64 import b64encode
from pathlib import Path

import pytest

from modelkit.contract.config import DataConfig
from modelkit.data.source import read_source
from modelkit.errors import RefusedError, StoreError, StoreObjectNotFoundError, StorePermissionError
from modelkit.store.web import WebFile
from tests.unit.store.store_servers import PROXIES, Files, make_certificate, serve

TABLE = b"a,b\n" + b"1,x\n" * 1000
PREFIX = "MODELLOOP_DATA_"


@pytest.fixture(autouse=True)
def _without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def _config(url: str) -> DataConfig:
    return DataConfig(uri=url, display_uri=url, target="a")


def test_a_table_is_read_over_tls_with_an_authority_of_the_secret(tls: tuple[Path, str]) -> None:
    files = Files({"some folder/t.csv": TABLE}, authorization="Bearer token-1")
    environ = {f"{PREFIX}CA_CERTIFICATE": tls[1], f"{PREFIX}AUTHORIZATION": "Bearer token-1\n"}
    with serve(files, tls[0]) as address:
        frame = read_source(_config(f"{address}/some%20folder/t.csv?signature=s3cret"), environ)
    assert frame.shape == (1000, 2)
    assert {target for _, target, _ in files.requests} == {"/some%20folder/t.csv?signature=s3cret"}
    assert {method for method, _, _ in files.requests} == {"GET"}


def test_user_and_password_become_basic_authorization(tls: tuple[Path, str]) -> None:
    files = Files({"t.csv": TABLE}, authorization="Basic " + b64encode("ann:pässword".encode()).decode())
    environ = {f"{PREFIX}USERNAME": "ann", f"{PREFIX}PASSWORD": "pässword", f"{PREFIX}CA_CERTIFICATE": tls[1]}
    with serve(files, tls[0]) as address:
        assert WebFile(f"{address}/t.csv", PREFIX, environ).read() == TABLE


def test_a_certificate_that_nobody_vouches_for_is_an_error(tls: tuple[Path, str]) -> None:
    with serve(Files({"t.csv": TABLE}), tls[0]) as address, pytest.raises(StoreError, match="CA_CERTIFICATE"):
        WebFile(f"{address}/t.csv", PREFIX, {}).read()


@pytest.mark.parametrize("ranges", [True, False])
def test_the_start_and_parts_are_read_without_the_whole(ranges: bool) -> None:
    with serve(Files({"t.csv": TABLE}, ranges=ranges)) as address:
        file = WebFile(f"{address}/t.csv", PREFIX, {})
        assert file.size() == len(TABLE)
        assert file.read_start(10) == TABLE[:10]
        assert file.read_start(10**6) == TABLE
        assert file.read_part(4, 8) == (TABLE[4:12] if ranges else None)


@pytest.mark.parametrize(
    ("status", "kind", "text"),
    [
        (401, StorePermissionError, "check AUTHORIZATION"),
        (403, StorePermissionError, "check AUTHORIZATION"),
        (404, StoreObjectNotFoundError, "there is nothing at"),
        (410, StoreError, "the server answered 410"),
    ],
)
def test_an_answer_becomes_an_error_without_the_signature(status: int, kind: type[StoreError], text: str) -> None:
    with serve(Files({}, statuses={"t.csv": status})) as address, pytest.raises(kind) as caught:
        WebFile(f"{address}/t.csv?signature=s3cret", PREFIX, {}).read()
    assert text in str(caught.value)
    assert f"{address}/t.csv" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_server_that_hides_the_length_is_an_error_that_says_so() -> None:
    with serve(Files({"t.csv": TABLE}, lengths=False)) as address, pytest.raises(StoreError, match="Content-Length"):
        WebFile(f"{address}/t.csv", PREFIX, {}).read()


def test_a_server_that_cannot_be_reached_is_an_error_that_says_so() -> None:
    with serve(Files({})) as address:
        pass
    with pytest.raises(StoreError, match="can't be reached"):
        WebFile(f"{address}/t.csv", PREFIX, {}).read()


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("http://example.com/t.csv", "must begin with https://"),
        ("https://ann:secret@example.com/t.csv", "without credentials"),
        ("https:///t.csv", "https://host/path"),
    ],
)
def test_an_address_that_gives_secrets_away_is_refused(url: str, text: str) -> None:
    with pytest.raises(StoreError, match=text) as caught:
        WebFile(url, PREFIX, {})
    assert "secret" not in str(caught.value)
    with pytest.raises(RefusedError) as refused:
        read_source(_config(url), {})
    assert refused.value.reason == "BadDataAddress"


def test_a_missing_or_forbidden_file_is_refused() -> None:
    with serve(Files({}, statuses={"no.csv": 403})) as address:
        for name, reason in (("t.csv", "DataNotFound"), ("no.csv", "PermissionDenied")):
            with pytest.raises(RefusedError) as caught:
                read_source(_config(f"{address}/{name}"), {})
            assert caught.value.reason == reason
