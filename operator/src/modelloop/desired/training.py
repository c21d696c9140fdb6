"""Builds what a training run is made of: the trainer's configuration and its Job."""

import json
from datetime import datetime
from typing import Any

from modelkit.contract.codec import dumps
from modelkit.contract.config import FeedbackConfig, StoreConfig, TrainerConfig, VersionRef
from modelkit.contract.environment import METRICS_PORT, ExitCode
from modelkit.contract.recipe import OriginConfig
from modelloop.api.common import Resources
from modelloop.api.training import ChampionStatus, Feedback, ModelTrainingSpec, RunStatus, Trigger
from modelloop.desired import labels, names
from modelloop.desired.custom import RunName, build_steps, prepare_claim, trainer_image, trainer_mounts
from modelloop.desired.placement import build_placement, build_queueing, build_timing
from modelloop.desired.recipe import build_recipe
from modelloop.desired.workload import (
    PRIVATE_KEY,
    KeyFile,
    Main,
    Mounts,
    Secrets,
    WorkloadSettings,
    build_pod_spec,
    build_resources,
    content_hash,
    parse_quantity,
    store_secrets,
    store_uri,
)

KIND = "ModelTraining"
CONTAINER = "trainer"
MAX_CONFIG_BYTES = 60_000
"""Of what users may make as long as they like; a status field and the kernel bound the whole configuration."""
_DEFAULT_RESOURCES = Resources(requests={"cpu": "250m", "memory": "512Mi"}, limits={"memory": "2Gi"})

_RESULT_FIELDS = {
    "data", "candidates", "gates", "task", "metric", "validation", "split", "preprocessing", "feature_selection",
    "tuning", "folds", "cross_validation", "test_fraction", "slices", "explain", "compress", "seed", "storage",
    "prepare", "command", "args", "params", "sign",
}  # fmt: skip
_POD_ONLY = {"tuning": {"parallelism"}, "prepare": {"resources"}}
_POD_FIELDS = {
    "image", "resources", "retries", "deadline", "node_selector", "tolerations", "affinity", "priority_class_name",
    "runtime_class_name", "queue_name",
}  # fmt: skip


def spec_hash(spec: ModelTrainingSpec) -> str:
    """Changes with any field that changes the result. Defaults are left out: a new default field of a later
    release must not retrain every model."""
    fields = spec.model_dump(mode="json", include=_RESULT_FIELDS, exclude=_POD_ONLY, exclude_defaults=True)
    own = {"image": spec.image} if spec.command else {}  # else another trainer image makes the same model
    return content_hash({name: value for name, value in fields.items() if name != "tuning" or value} | own)


def pod_hash(spec: ModelTrainingSpec) -> str:
    """Changes with a field that only decides whether a run can run, such as its memory limit."""
    fields = spec.model_dump(mode="json", include=_POD_FIELDS, exclude_defaults=True)
    # Workers make a search faster, never another one.
    workers = {"workers": spec.tuning.parallelism} if spec.tuning.parallelism > 1 else {}
    preparing = spec.prepare.resources.model_dump(exclude_defaults=True) if spec.prepare is not None else {}
    return content_hash(fields | workers | ({"prepare": preparing} if preparing else {}))


def find_spec_problem(spec: ModelTrainingSpec) -> str:
    """Why no run of `spec` can begin; empty when one can. A pod's environment holds its configuration."""
    for number, candidate in enumerate(spec.candidates):
        for entry in candidate.search:
            if (entry.type == "Choice") != bool(entry.values):
                return (
                    f"spec.candidates[{number}].search: {entry.name!r} is of type {entry.type} and has "
                    f"{len(entry.values)} values; a Choice must have some, Int and Float must have min and max instead"
                )
    size = len(json.dumps(spec.model_dump(mode="json", include=_RESULT_FIELDS, exclude_defaults=True)))
    if size <= MAX_CONFIG_BYTES:
        return ""
    return (
        f"what the spec says of data, candidates and the rest is {size} bytes of JSON; at most {MAX_CONFIG_BYTES} can "
        "be given to a pod: name fewer columns, or leave spec.data.features out, and shorten the parameters"
    )


def data_claim(uri: str) -> str | None:
    """The claim of a `pvc://<claim>/<path>` data address."""
    if not uri.startswith("pvc://"):
        return None
    return uri.removeprefix("pvc://").split("/", 1)[0]


def build_trainer_config(
    spec: ModelTrainingSpec,
    *,
    namespace: str,
    name: str,
    number: int,
    version: str,
    trigger: str,
    champion: ChampionStatus | None,
    feedback: Feedback | None,
    uid: str,
    origin: OriginConfig | None,
    keep_versions: tuple[str, ...] | None,
) -> str:
    """JSON of the run's TrainerConfig; fixed in status when the run begins, so that a retry can't differ."""
    config = TrainerConfig(
        namespace=namespace,
        name=name,
        number=number,
        version=version,
        trigger=trigger,
        store=StoreConfig(uri=store_uri(spec.storage)),
        champion=VersionRef(number=champion.number, path=champion.path, digest=champion.digest) if champion else None,
        feedback=FeedbackConfig(**feedback.model_dump()) if feedback else None,
        uid=uid,
        origin=origin,
        keep_versions=keep_versions,
        **build_recipe(spec),
    )
    return dumps(config)


def begin_run(
    spec: ModelTrainingSpec,
    *,
    namespace: str,
    name: str,
    uid: str,
    number: int,
    trigger: Trigger,
    champion: ChampionStatus | None,
    feedback: Feedback | None,
    now: datetime,
    origin: OriginConfig | None = None,
    keep_versions: tuple[str, ...] | None = None,
) -> RunStatus:
    """The intent of a run, written to status before its Job is made."""
    version = names.version_name(uid, number)
    return RunStatus(
        number=number,
        version=version,
        job=names.job_name(name, uid, number),
        spec_hash=spec_hash(spec),
        pod_hash=pod_hash(spec),
        trigger=trigger,
        feedback=feedback,
        storage=spec.storage,
        start_time=now,
        workers=spec.tuning.parallelism if spec.tuning.parallelism > 1 else 0,
        revision=origin.revision if origin is not None else None,
        signing_secret=spec.sign.secret_name if spec.sign is not None else None,
        config=build_trainer_config(
            spec,
            namespace=namespace,
            name=name,
            number=number,
            version=version,
            trigger=trigger.reason,
            champion=champion,
            feedback=feedback,
            uid=uid,
            origin=origin,
            keep_versions=keep_versions,
        ),
    )


def given_resources(spec: ModelTrainingSpec) -> tuple[float, float]:
    """CPUs and GiB of memory of each pod of a run: its limit, or else its request."""
    given = build_resources(spec.resources, _DEFAULT_RESOURCES)
    amounts = {**given["requests"], **given["limits"]}
    return float(parse_quantity(amounts.get("cpu", 0))), float(parse_quantity(amounts.get("memory", 0)) / 2**30)


def build_job(
    spec: ModelTrainingSpec, run: RunStatus, *, namespace: str, name: str, uid: str, settings: WorkloadSettings
) -> dict[str, Any]:
    """The Job of a run. Bad specs and bad data (exit code 2) fail it at once; evictions and suspensions don't count."""
    object_labels = {**labels.object_labels(KIND, name), labels.RUN: str(run.number)}
    main = Main(
        name=CONTAINER,
        image=trainer_image(spec, settings),
        module="modelkit.train",
        config=run.config,
        resources=spec.resources,
        default_resources=_DEFAULT_RESOURCES,
        ports={"metrics": METRICS_PORT},
    )
    mounts = Mounts(
        store_claim=names.store_claim(run.storage.uri),
        data_claim=data_claim(spec.data.uri) or prepare_claim(spec),
        key=None if run.signing_secret is None else KeyFile(secret=run.signing_secret, path=PRIVATE_KEY),
        others=trainer_mounts(spec),
    )
    secrets = Secrets(
        store=store_secrets(run.storage).store,
        data=spec.data.secret_ref.name if spec.data.secret_ref else None,
    )
    about = RunName(namespace=namespace, name=name, number=run.number)
    before = build_steps(spec, about, main, settings, mounts, secrets)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": run.job,
            "namespace": namespace,
            "labels": {**object_labels, **build_queueing(spec)},
            # Not as the controller: Kubernetes' CronJob controller takes every Job whose controller has a CronJob's
            # name for its own, whatever the kind, and removes finished ones.
            "ownerReferences": [labels.owner_reference(KIND, name, uid, controller=False)],
        },
        "spec": {
            **build_timing(spec),
            "backoffLimit": spec.retries,
            "completions": 1,
            "parallelism": 1,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [
                    {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]},
                    {"action": "Ignore", "onExitCodes": _exit_codes(ExitCode.STOPPED)},
                    *(
                        {"action": "FailJob", "onExitCodes": _exit_codes(ExitCode.REFUSED, container)}
                        for container in (CONTAINER, *(step["name"] for step in before))
                    ),
                ]
            },
            "template": {
                "metadata": {"labels": object_labels},
                "spec": build_pod_spec(
                    main, settings, mounts, secrets, before=before, restartPolicy="Never", **build_placement(spec)
                ),
            },
        },
    }


def _exit_codes(code: ExitCode, container: str = CONTAINER) -> dict[str, Any]:
    return {"containerName": container, "operator": "In", "values": [int(code)]}
