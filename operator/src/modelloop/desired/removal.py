"""Builds what removes the versions of a deleted ModelTraining from the store.

A ConfigMap beside the training notes where they are. It goes with the training, and its finalizer keeps it until a Job
has removed the versions. The training itself is gone at once, with the operator up or down, and no finalizer is ever
put on what users make.
"""

from collections.abc import Sequence
from typing import Any

from modelkit.contract.codec import dumps
from modelkit.contract.config import RemovalConfig, StoreConfig
from modelloop.api.common import ApiModel, Resources, Storage
from modelloop.desired import labels, names
from modelloop.desired.workload import Main, Mounts, WorkloadSettings, build_pod_spec, store_secrets, store_uri

KIND = "ModelTraining"
NOTE = "note.json"
MODULE = "modelkit.train.removal"
RETRY_SECONDS = 300
"""A Job that has failed is removed after that time, and made again."""
_RETRIES = 6
_RESOURCES = Resources(requests={"cpu": "50m", "memory": "128Mi"}, limits={"memory": "512Mi"})


class RemovalNote(ApiModel):
    """What must be known when the training is gone."""

    uid: str
    """Of the training."""
    storage: Storage


def build_removal_note(storage: Storage, *, namespace: str, name: str, uid: str) -> dict[str, Any]:
    """The ConfigMap of a training whose versions go with it."""
    note = RemovalNote(uid=uid, storage=storage)
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": names.removal_name(name, uid),
            "namespace": namespace,
            "labels": _labels(name),
            "finalizers": [labels.VERSIONS_FINALIZER],
            "ownerReferences": [labels.owner_reference(KIND, name, uid)],
        },
        "data": {NOTE: note.model_dump_json(by_alias=True, exclude_none=True)},
    }


def build_removal_job(
    note: RemovalNote,
    kept: Sequence[str],
    *,
    namespace: str,
    name: str,
    note_uid: str,
    settings: WorkloadSettings,
) -> dict[str, Any]:
    """The Job that removes all versions of the training `name` but those `kept`. It goes with its note."""
    config = RemovalConfig(
        namespace=namespace,
        name=name,
        uid=note.uid,
        store=StoreConfig(uri=store_uri(note.storage)),
        keep_versions=tuple(kept),
    )
    main = Main(
        name=labels.REMOVAL,
        image=settings.trainer_image,
        module=MODULE,
        config=dumps(config),
        resources=Resources(),
        default_resources=_RESOURCES,
    )
    mounts = Mounts(store_claim=names.store_claim(note.storage.uri))
    own_name = names.removal_name(name, note.uid)
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "name": own_name, "uid": note_uid}
    pod = build_pod_spec(main, settings, mounts, store_secrets(note.storage), restartPolicy="Never")
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": own_name,
            "namespace": namespace,
            "labels": _labels(name),
            "ownerReferences": [owner],
        },
        "spec": {
            "backoffLimit": _RETRIES,
            "ttlSecondsAfterFinished": RETRY_SECONDS,
            "template": {"metadata": {"labels": _labels(name)}, "spec": pod},
        },
    }


def _labels(name: str) -> dict[str, str]:
    return {
        **labels.object_labels(KIND, name),
        "app.kubernetes.io/name": f"modelloop-{labels.REMOVAL}",
        labels.COMPONENT: labels.REMOVAL,
    }
