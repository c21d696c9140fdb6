"""Finds in the cache the version that a ModelDeployment asks for, and the one to go back to."""

import re

from modelloop.api.common import Storage, VersionStatus
from modelloop.api.deployment import ModelDeploymentSpec, ModelDeploymentStatus, StoredModel
from modelloop.api.training import ModelTrainingStatus
from modelloop.cluster.cache import Cache, Key
from modelloop.decide.approval import is_approvable
from modelloop.decide.servers import Target
from modelloop.desired.deployment import build_server
from modelloop.desired.labels import TEMPLATE_HASH_ANNOTATION
from modelloop.desired.workload import WorkloadSettings

_MODELS = "models/"
_NUMBER = re.compile(r"^([1-9][0-9]{0,8})(-|$)")


def training_key(key: Key, spec: ModelDeploymentSpec) -> Key | None:
    """The ModelTraining that a deployment serves, if it serves one."""
    return None if spec.training_ref is None else Key("ModelTraining", key.namespace, spec.training_ref.name)


def read_target(
    cache: Cache, key: Key, uid: str, spec: ModelDeploymentSpec, settings: WorkloadSettings
) -> Target | None:
    """The version that the spec asks for; None while there is none."""
    if spec.model is not None:
        return build_target(read_stored_version(spec.model), key, uid, spec, settings)
    owner = training_key(key, spec)
    training = None if owner is None else cache.get(owner)
    if training is None:
        return None
    version = _find_version(ModelTrainingStatus.model_validate(training.get("status") or {}), spec.version)
    return None if version is None else build_target(version, key, uid, spec, settings)


def read_fallback(
    key: Key, uid: str, spec: ModelDeploymentSpec, status: ModelDeploymentStatus, settings: WorkloadSettings
) -> Target | None:
    """The last version that proved itself, isn't the stable one and isn't given up; None without one."""
    given_up = {entry.digest for entry in status.failed} | {status.stable.digest if status.stable is not None else ""}
    good = [record for record in status.history if record.result == "Promoted" and record.digest not in given_up]
    if not good:
        return None
    return build_target(VersionStatus(**good[0].version_fields()), key, uid, spec, settings)


def build_target(
    version: VersionStatus, key: Key, uid: str, spec: ModelDeploymentSpec, settings: WorkloadSettings
) -> Target:
    """A version, and the Deployment that would serve it."""
    metadata = build_server(spec, version, namespace=key.namespace, name=key.name, uid=uid, settings=settings)[
        "metadata"
    ]
    return Target(
        version=version,
        deployment=metadata["name"],
        template_hash=metadata["annotations"][TEMPLATE_HASH_ANNOTATION],
    )


def read_stored_version(model: StoredModel) -> VersionStatus:
    """A version by its address: the store's root ends before the folder `models`, or else after the bucket or claim."""
    scheme, _, rest = model.uri.partition("://")
    root, _, path = rest.partition("/")
    before, found, after = path.rpartition(_MODELS)
    if found and (not before or before.endswith("/")):
        root, path = f"{root}/{before}".rstrip("/"), f"{_MODELS}{after}"
    if scheme == "pvc" and "/" in root:
        # A claim is mounted whole.
        claim, _, folder = root.partition("/")
        root, path = claim, f"{folder}/{path}"
    number = _NUMBER.match(path.rpartition("/")[2])
    return VersionStatus(
        number=int(number[1]) if number else 1,
        path=path,
        digest=model.digest,
        storage=Storage(uri=f"{scheme}://{root}", secret_ref=model.secret_ref),
    )


def _find_version(status: ModelTrainingStatus, number: int | None) -> VersionStatus | None:
    """The champion, or the version of that number."""
    champion = status.champion
    if number is None or (champion is not None and champion.number == number):
        return None if champion is None else VersionStatus(**champion.version_fields())
    record = next((item for item in status.history if item.number == number and is_approvable(item)), None)
    if record is None or record.path is None or record.digest is None:
        return None
    return VersionStatus(
        number=record.number,
        path=record.path,
        digest=record.digest,
        storage=record.storage or Storage(),
        signing_secret=record.signing_secret,
    )
