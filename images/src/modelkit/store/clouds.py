"""Object storage of S3, Google Cloud and Azure, and files of web servers, as obstore's clients.

Settings come from environment variables under their usual names behind a prefix, so that a pod can hold those of its
data and those of its store. Retries and timeouts are bounded, so nothing hangs.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, HTTPStore, ObjectStore, S3Store

from modelkit.errors import StoreError

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig

CERTIFICATE = "CA_CERTIFICATE"
"""PEM text of an authority to trust beside the public ones, for any scheme."""

# No limit on a whole request, which may carry gigabytes: a stalled one ends by its read timeout.
_CLIENT: "ClientConfig" = {"connect_timeout": "4s", "read_timeout": "8s", "timeout": "1h"}
_RETRY: "RetryConfig" = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=12),
    "backoff": {"init_backoff": timedelta(milliseconds=200), "max_backoff": timedelta(seconds=2), "base": 2},
}


@dataclass(frozen=True, slots=True)
class Cloud:
    """One kind of object storage."""

    name: str
    container: str
    """What its address begins with, in its own word."""
    settings: Mapping[str, str]
    """Environment variable to obstore's setting; of two for one setting the later wins."""
    endpoint: str | None
    """The variable that holds the address of another server than the public one."""
    credentials: str
    """Which variables to check when access is denied."""
    open: Callable[..., ObjectStore]


CLOUDS: Mapping[str, Cloud] = {
    "s3": Cloud(
        name="S3",
        container="bucket",
        settings={
            "AWS_ACCESS_KEY_ID": "access_key_id",
            "AWS_SECRET_ACCESS_KEY": "secret_access_key",
            "AWS_SESSION_TOKEN": "session_token",
            "AWS_DEFAULT_REGION": "region",
            "AWS_REGION": "region",
            "AWS_ENDPOINT_URL": "endpoint",
            "AWS_SKIP_SIGNATURE": "skip_signature",
        },
        endpoint="AWS_ENDPOINT_URL",
        credentials="AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION",
        open=S3Store,
    ),
    "gs": Cloud(
        name="Google Cloud Storage",
        container="bucket",
        settings={
            "GOOGLE_SERVICE_ACCOUNT": "service_account",
            "GOOGLE_APPLICATION_CREDENTIALS": "application_credentials",
            "GOOGLE_SERVICE_ACCOUNT_KEY": "service_account_key",
            "GOOGLE_SKIP_SIGNATURE": "skip_signature",
        },
        endpoint=None,
        credentials="GOOGLE_SERVICE_ACCOUNT_KEY (the account's JSON)",
        open=GCSStore,
    ),
    "az": Cloud(
        name="Azure",
        container="container",
        settings={
            "AZURE_STORAGE_ACCOUNT_NAME": "account_name",
            "AZURE_STORAGE_KEY": "account_key",
            "AZURE_STORAGE_ACCOUNT_KEY": "account_key",
            "AZURE_STORAGE_SAS_TOKEN": "sas_key",
            "AZURE_CLIENT_ID": "client_id",
            "AZURE_CLIENT_SECRET": "client_secret",
            "AZURE_TENANT_ID": "tenant_id",
            "AZURE_ENDPOINT_URL": "endpoint",
            "AZURE_SKIP_SIGNATURE": "skip_signature",
        },
        endpoint="AZURE_ENDPOINT_URL",
        credentials="AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY (or AZURE_STORAGE_SAS_TOKEN)",
        open=AzureStore,
    ),
}


def open_cloud(uri: str, env_prefix: str, environ: Mapping[str, str]) -> tuple[ObjectStore, str, tuple[str, ...]]:
    """The client of `<scheme>://<bucket or container>/<prefix>`, the bucket and the prefix's segments.

    Nothing is contacted yet; raises StoreError for another form, or settings that can't be right.
    """
    parts = urlsplit(uri)
    cloud = CLOUDS[parts.scheme]
    prefix = tuple(segment for segment in unquote(parts.path).split("/") if segment)
    if not parts.netloc or "@" in parts.netloc or ".." in prefix or parts.query or parts.fragment:
        raise StoreError(
            f"an address in {cloud.name} must be written as {parts.scheme}://{cloud.container}/prefix, without "
            "credentials in it"
        )
    given = {name: _setting(environ, env_prefix, name) for name in cloud.settings}
    config: dict[str, Any] = {key: given[name] for name, key in cloud.settings.items() if given[name]}
    endpoint = given[cloud.endpoint] if cloud.endpoint else ""
    # Checked here: the S3 client panics on an address that isn't one.
    address = urlsplit(endpoint)
    if endpoint and (address.scheme not in {"http", "https"} or not address.hostname):
        raise StoreError(f"{cloud.endpoint} of {uri} must be http://host:port or https://host:port")
    client = _client(env_prefix, environ)
    # A key of a service account names its server itself; only one for tests names one without TLS.
    client["allow_http"] = address.scheme == "http" or '"http://' in given.get("GOOGLE_SERVICE_ACCOUNT_KEY", "")
    try:
        store = cloud.open(parts.netloc, config=config, client_options=client, retry_config=_RETRY)
    except (BaseError, ValueError) as exc:
        # The client's words may hold a part of the secret.
        raise StoreError(f"can't open {uri}: {cloud.name} needs other settings; check {cloud.credentials}") from exc
    return store, parts.netloc, prefix


def open_web(url: str, env_prefix: str, environ: Mapping[str, str]) -> HTTPStore:
    """The client of one file of a web server; raises StoreError when the settings can't be right.

    The environment may hold AUTHORIZATION (the header's whole value) or USERNAME and PASSWORD.
    """
    client = _client(env_prefix, environ)
    client["allow_http"] = url.startswith("http://")
    authorization = _setting(environ, env_prefix, "AUTHORIZATION")
    if user := _setting(environ, env_prefix, "USERNAME"):
        password = _setting(environ, env_prefix, "PASSWORD")
        authorization = "Basic " + b64encode(f"{user}:{password}".encode()).decode()
    if authorization:
        client["default_headers"] = {"Authorization": authorization}
    try:
        return HTTPStore(url, client_options=client, retry_config=_RETRY)
    except (BaseError, ValueError) as exc:
        raise StoreError(f"can't open {url.partition('?')[0]}: check AUTHORIZATION and {CERTIFICATE}") from exc


def _client(env_prefix: str, environ: Mapping[str, str]) -> "ClientConfig":
    client: ClientConfig = {**_CLIENT}
    if certificate := _setting(environ, env_prefix, CERTIFICATE):
        client["root_certificate"] = certificate
    return client


def _setting(environ: Mapping[str, str], env_prefix: str, name: str) -> str:
    # A trailing newline is the usual slip in a Secret made from a file.
    return environ.get(env_prefix + name, "").strip()
