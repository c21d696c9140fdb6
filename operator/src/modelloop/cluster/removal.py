"""Has the versions of deleted ModelTrainings removed from the store, where their spec says so."""

import logging

from modelloop.api.training import ModelTrainingSpec, ModelTrainingStatus
from modelloop.cluster.cache import Cache, Key
from modelloop.cluster.cluster import Cluster, Object
from modelloop.cluster.parse import is_owned_by, parse_job
from modelloop.cluster.read import read_kept_versions
from modelloop.decide.removal import ObservedNote, decide_removal
from modelloop.desired import names
from modelloop.desired.labels import COMPONENT, REMOVAL, VERSIONS_FINALIZER
from modelloop.desired.removal import NOTE, RemovalNote, build_removal_job, build_removal_note
from modelloop.desired.workload import WorkloadSettings
from modelloop.errors import ForbiddenError, InvalidError

_TERMINATING = "because it is being terminated"
"""In what the API server says of an object for a namespace that is being deleted."""

logger = logging.getLogger(__name__)


async def note_removal(cluster: Cluster, key: Key, body: Object, spec: ModelTrainingSpec) -> None:
    """Make the note of a training whose versions go with it, or take it away."""
    uid = body["metadata"]["uid"]
    held = cluster.cache.get(Key("ConfigMap", key.namespace, names.removal_name(key.name, uid)))
    if held is not None and "deletionTimestamp" in held["metadata"]:
        return  # made again when it is gone
    if spec.deletion_policy == "Delete":
        await cluster.apply(build_removal_note(spec.storage, namespace=key.namespace, name=key.name, uid=uid))
    else:
        await cluster.delete("ConfigMap", key.namespace, names.removal_name(key.name, uid))


async def tend_removals(cluster: Cluster, key: Key, settings: WorkloadSettings) -> bool:
    """Bring what deleted trainings of a name have left one step closer to its end. Cheap when there is nothing.

    Says whether the API server refused something: then it is to be tried again.
    """
    is_refused = False
    for note in cluster.cache.children(key, "ConfigMap"):
        if "deletionTimestamp" in note["metadata"] and "finalizers" in note["metadata"]:
            try:
                await _tend(cluster, key, note, settings)
            except (ForbiddenError, InvalidError) as exc:
                logger.warning("versions can't be removed yet", extra={"key": str(key), "error": str(exc)})
                is_refused = True
    return is_refused


async def _tend(cluster: Cluster, key: Key, body: Object, settings: WorkloadSettings) -> None:
    name, note = body["metadata"]["name"], RemovalNote.model_validate_json(body["data"][NOTE])
    step = decide_removal(_observe(cluster.cache, key, body, note))
    claim = names.store_claim(note.storage.uri)
    if step == "Remove" and claim and await cluster.find(Key("PersistentVolumeClaim", key.namespace, claim)) is None:
        step = "Forget"  # the versions went with their volume
    if step == "Remove":
        job = build_removal_job(
            note,
            read_kept_versions(cluster.cache, key, ModelTrainingStatus()),
            namespace=key.namespace,
            name=key.name,
            note_uid=body["metadata"]["uid"],
            settings=settings,
        )
        try:
            await cluster.apply_once(job)
        except ForbiddenError as exc:
            if _TERMINATING not in str(exc):
                raise
            logger.warning("the namespace ends before its versions are removed", extra={"key": str(key)})
            step = "Forget"
    if step == "Forget":
        others = [other for other in body["metadata"]["finalizers"] if other != VERSIONS_FINALIZER]
        await cluster.patch("ConfigMap", key.namespace, name, {"metadata": {"finalizers": others}})


def _observe(cache: Cache, key: Key, body: Object, note: RemovalNote) -> ObservedNote:
    training = cache.get(key)
    job = cache.get(Key("Job", key.namespace, body["metadata"]["name"]))
    is_own = job is not None and is_owned_by(job, body)
    since = body["metadata"]["deletionTimestamp"]
    return ObservedNote(
        training_lives=training is not None
        and training["metadata"]["uid"] == note.uid
        and "deletionTimestamp" not in training["metadata"],
        has_pods=any(
            pod["metadata"].get("labels", {}).get(COMPONENT) != REMOVAL
            and pod["metadata"].get("creationTimestamp", "") <= since
            for pod in cache.children(key, "Pod")
        ),
        is_removing=is_own,
        is_removed=job is not None and is_own and parse_job(job).state == "Complete",
    )
