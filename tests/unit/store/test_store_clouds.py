"""S3, Google Cloud and Azure as the clients speak to them, against servers on loopback that look at what they get.

The servers know no more of the services than what is asked here: a real S3 server is in the cluster tier.
"""

import json
from base64 import b64encode
from collections.abc import Mapping

import pytest

from modelkit.contract.config import DataConfig, StoreConfig
from modelkit.data.source import read_source
from modelkit.errors import RefusedError, StoreError, StorePermissionError
from modelkit.store.store import Store
from tests.unit.store.store_servers import PROXIES, Files, serve

KEY = b64encode(b"very-secret").decode()
TABLES = {
    "box/in/1.csv": b"a,b\n1,2\n",
    "box/in/2.csv": b"a,b\n3,4\n",
    "box/in/note.txt": b"-",
    "box/inner.csv": b"c\n1\n",
}


@pytest.fixture(autouse=True)
def _without_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)


def _environ(scheme: str, address: str) -> dict[str, str]:
    account = {
        "gcs_base_url": address,
        "disable_oauth": True,
        "client_email": "x",
        "private_key": "",
        "private_key_id": "",
    }
    given = {
        "s3": {
            "AWS_ENDPOINT_URL": address,
            "AWS_ACCESS_KEY_ID": "key-id\n",
            "AWS_SECRET_ACCESS_KEY": KEY,
            "AWS_REGION": "r",
        },
        "gs": {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(account)},
        "az": {
            "AZURE_ENDPOINT_URL": address,
            "AZURE_STORAGE_ACCOUNT_NAME": "acme",
            "AZURE_STORAGE_ACCOUNT_KEY": KEY,
        },
    }[scheme]
    return {
        f"{prefix}{name}": value for prefix in ("MODELLOOP_DATA_", "MODELLOOP_STORE_") for name, value in given.items()
    }


def _config(uri: str) -> DataConfig:
    return DataConfig(uri=uri, display_uri=uri, target="a")


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_an_object_is_read_whole_and_in_parts(scheme: str) -> None:
    files = Files(dict(TABLES))
    with serve(files) as address:
        assert read_source(_config(f"{scheme}://box/in/1.csv"), _environ(scheme, address)).to_dict("list") == {
            "a": [1],
            "b": [2],
        }
        store = Store.open(StoreConfig(uri=f"{scheme}://box/in"), _environ(scheme, address))
        assert store.read_part("2.csv", 4, 3) == b"3,4"
        assert store.size("2.csv") == 8
    assert files.requests


@pytest.mark.parametrize("scheme", ["s3", "gs", "az"])
def test_a_prefix_or_glob_reads_the_objects_below_the_folder_only(scheme: str) -> None:
    with serve(Files(dict(TABLES))) as address:
        for names in ("", "*.csv", "?.csv"):
            found = read_source(_config(f"{scheme}://box/in/{names}"), _environ(scheme, address))
            assert found["a"].tolist() == [1, 3]


@pytest.mark.parametrize(
    ("scheme", "header"), [("s3", "AWS4-HMAC-SHA256 Credential=key-id/"), ("az", "SharedKey acme:")]
)
def test_requests_are_signed_with_the_keys_of_the_secret(scheme: str, header: str) -> None:
    files = Files(dict(TABLES))
    with serve(files) as address:
        read_source(_config(f"{scheme}://box/in/1.csv"), _environ(scheme, address))
    assert all(headers["authorization"].startswith(header) for _, _, headers in files.requests)


def test_an_azure_signature_is_sent_in_the_query() -> None:
    files = Files(dict(TABLES))
    with serve(files) as address:
        environ = _environ("az", address) | {"MODELLOOP_DATA_AZURE_STORAGE_SAS_TOKEN": "?sv=2024&sig=abc%3D"}
        environ.pop("MODELLOOP_DATA_AZURE_STORAGE_ACCOUNT_KEY")
        read_source(_config("az://box/in/1.csv"), environ)
    assert all("sig=abc%3D" in target and "sv=2024" in target for _, target, _ in files.requests)


@pytest.mark.parametrize(
    ("scheme", "code", "text"),
    [
        ("s3", "AccessDenied", "AWS_ACCESS_KEY_ID"),
        ("gs", "AccessDenied", "GOOGLE_SERVICE_ACCOUNT_KEY"),
        ("az", "AuthenticationFailed", "AZURE_STORAGE_ACCOUNT_KEY"),
    ],
)
def test_a_denial_names_the_settings_to_check(scheme: str, code: str, text: str) -> None:
    body = f"<Error><Code>{code}</Code><Message>No.</Message></Error>".encode()
    files = Files({}, statuses={"box/in/1.csv": 403}, bodies={"box/in/1.csv": body})
    with serve(files) as address:
        with pytest.raises(StorePermissionError, match=text) as denied:
            Store.open(StoreConfig(uri=f"{scheme}://box"), _environ(scheme, address)).read("in/1.csv")
        with pytest.raises(RefusedError, match=text) as refused:
            read_source(_config(f"{scheme}://box/in/1.csv"), _environ(scheme, address))
    assert refused.value.reason == "PermissionDenied"
    assert KEY not in str(denied.value)


def test_a_missing_object_and_a_missing_azure_container_are_told_apart() -> None:
    body = b"<Error><Code>ContainerNotFound</Code></Error>"
    files = Files({}, statuses={"box/in/1.csv": 404}, bodies={"box/in/1.csv": body})
    with serve(files) as address:
        with pytest.raises(RefusedError) as caught:
            read_source(_config("gs://box/in/other.csv"), _environ("gs", address))
        assert caught.value.reason == "DataNotFound"
        with pytest.raises(StoreError, match="its container doesn't exist"):
            Store.open(StoreConfig(uri="az://box"), _environ("az", address)).read("in/1.csv")


@pytest.mark.parametrize(
    ("uri", "environ", "text"),
    [
        ("gs://box/t.csv", {"GOOGLE_SERVICE_ACCOUNT_KEY": '{"private_key": "s3cret"}'}, "GOOGLE_SERVICE_ACCOUNT_KEY"),
        ("az://box/t.csv", {}, "AZURE_STORAGE_ACCOUNT_NAME"),
        (
            "az://box/t.csv",
            {"AZURE_STORAGE_ACCOUNT_NAME": "a", "AZURE_STORAGE_ACCOUNT_KEY": "s3cret!"},
            "AZURE_STORAGE",
        ),
        (
            "az://box/t.csv",
            {"AZURE_ENDPOINT_URL": "azurite:10000"},
            "AZURE_ENDPOINT_URL of az://box must be http://host",
        ),
        ("s3://user@box/t.csv", {}, "without credentials"),
    ],
)
def test_settings_that_cannot_be_right_are_refused_before_anything_is_contacted(
    uri: str, environ: Mapping[str, str], text: str
) -> None:
    with pytest.raises(RefusedError, match=text) as caught:
        read_source(_config(uri), {f"MODELLOOP_DATA_{name}": value for name, value in environ.items()})
    assert caught.value.reason == "BadDataAddress"
    assert "s3cret" not in caught.value.message


def test_a_store_of_another_kind_says_which_there_are() -> None:
    with pytest.raises(StoreError, match=r"file:///, s3://, gs:// or az://"):
        Store.open(StoreConfig(uri="ftp://box"), {})
