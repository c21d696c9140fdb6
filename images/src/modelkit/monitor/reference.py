"""What a served version looked like when it was made: the part of it that the monitor compares windows
with."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from modelkit.artifact.version import DigestMismatchError, Manifest, VersionNotFoundError, read_manifest
from modelkit.contract.config import VersionRef
from modelkit.contract.files import METRICS, PROFILE, SIGNATURE
from modelkit.data.profile import FORMAT
from modelkit.errors import RefusedError
from modelkit.store.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """Profile, test metrics and signature of one version, digests verified."""

    features: Mapping[str, Mapping[str, Any]]
    """Profile entries by feature, in the order of the signature."""
    predictions: Mapping[str, Any]
    scores: Mapping[str, Any] | None
    task: str
    classes: tuple[Any, ...] | None
    metric: str
    """The version's primary metric."""
    metrics: Mapping[str, float]
    """On the version's own test rows."""
    test_rows: int
    """How many those were: how far the metrics themselves are certain."""
    calibration: Mapping[str, Any] | None = None
    """How often probabilities came true on the test rows (`data.calibration`); None: there are no probabilities, or the
    version is older than this."""
    losses: Mapping[str, Any] | None = None
    """What the size of a regression's errors depends on (`data.losses`); None for a classification or an older
    version."""
    rows: int = 0
    """Rows that the profile was made of."""
    duplicates: float | None = None
    """Share of them that repeat another's features; None: the version's release didn't count them."""


def read_reference(store: Store, version: VersionRef) -> Reference:
    """Read three small files of the version; the model itself isn't fetched.

    Raises VersionNotFoundError, DigestMismatchError or StoreError, and RefusedError for a profile that this
    release can't read.
    """
    manifest = read_manifest(store, version.path, version.digest)
    if manifest is None:
        raise VersionNotFoundError(
            f"there is no complete version at {store.uri}/{version.path}; the deployment must serve one that is stored"
        )
    profile = _read_json(store, version, manifest, PROFILE)
    metrics = _read_json(store, version, manifest, METRICS)
    signature = _read_json(store, version, manifest, SIGNATURE)
    try:
        return parse_reference(profile, metrics, signature)
    except (KeyError, TypeError, AttributeError) as exc:
        raise RefusedError(
            "BadReference",
            f"version {version.number} at {version.path} has a profile, metrics or signature of another shape "
            f"({type(exc).__name__}: {exc}); train again with this release",
        ) from exc


def parse_reference(profile: Mapping[str, Any], metrics: Mapping[str, Any], signature: Mapping[str, Any]) -> Reference:
    """The reference from the contents of profile.json, metrics.json and signature.json."""
    if profile["format"] != FORMAT:
        raise RefusedError(
            "UnsupportedProfile",
            f"the version's profile has the format {profile['format']}; this monitor reads {FORMAT}: "
            "use operator and images of one release, or train again",
        )
    inputs = [column["name"] for column in signature["inputs"]]
    classes = signature["classes"]
    return Reference(
        features={name: profile["features"][name] for name in inputs},
        predictions=profile["predictions"],
        scores=profile["scores"],
        task=signature["task"],
        classes=None if classes is None else tuple(classes),
        metric=metrics["metric"],
        metrics={name: float(value) for name, value in metrics["metrics"].items() if value is not None},
        test_rows=int(metrics.get("test_rows") or profile["predictions"]["rows"]),
        calibration=profile.get("calibration"),
        losses=profile.get("losses"),
        rows=int(profile["rows"]),
        duplicates=profile.get("duplicates"),
    )


def _read_json(store: Store, version: VersionRef, manifest: Manifest, name: str) -> Any:
    if name not in manifest.files:
        raise RefusedError("BadReference", f"version {version.number} at {version.path} has no {name}; train again")
    data = store.read(f"{version.path}/{name}")
    if hashlib.sha256(data).hexdigest() != manifest.files[name].sha256:
        raise DigestMismatchError(
            f"the file {name} of the version {version.path} isn't what its manifest says: "
            "it was changed after it was written and isn't used"
        )
    return json.loads(data)
