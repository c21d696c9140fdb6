"""Gathers from the cache what each decision observes."""

from collections.abc import Callable, Mapping

from modelkit.contract.recipe import OriginConfig
from modelloop.api.deployment import ModelDeploymentSpec, ModelDeploymentStatus
from modelloop.api.monitor import ModelMonitorSpec, ModelMonitorStatus
from modelloop.api.rollout import ROLLBACK
from modelloop.api.training import Feedback, ModelTrainingSpec, ModelTrainingStatus
from modelloop.cluster.cache import Cache, Key
from modelloop.cluster.equality import is_applied, with_applied_hash
from modelloop.cluster.parse import Object, is_owned_by, parse_job, parse_pod, parse_server
from modelloop.cluster.targets import read_fallback, read_target, training_key
from modelloop.decide.deployment_state import ObservedDeployment
from modelloop.decide.play import Play
from modelloop.decide.retention import decide_kept_versions
from modelloop.decide.retrain import ObservedModel, ObservedMonitor, OtherMonitor
from modelloop.decide.runs import ObservedJob, ObservedTraining, RetrainWish, ScrapedProgress
from modelloop.decide.schedule import find_schedule_problem
from modelloop.decide.servers import ObservedServer
from modelloop.decide.shares import server_sizes
from modelloop.desired.deployment import build_server, service_address
from modelloop.desired.labels import (
    APPROVE_ANNOTATION,
    COMPONENT,
    DIGEST,
    RETRAIN_ANNOTATION,
    REVISION,
    ROLLOUT_ANNOTATIONS,
    RUN_ANNOTATION,
    WORKER,
)
from modelloop.desired.names import cron_job_name
from modelloop.desired.training import find_spec_problem, given_resources, pod_hash, spec_hash
from modelloop.desired.workload import WorkloadSettings

JOB_NAME_LABEL = "batch.kubernetes.io/job-name"
MAX_REVISION = 256
_MAX_TOKEN = 100


def read_training(
    cache: Cache,
    key: Key,
    body: Object,
    apply_error: str,
    *,
    find_progress: Callable[[str], ScrapedProgress | None] = lambda _: None,
) -> ObservedTraining:
    """What is known of a ModelTraining; `find_progress` tells of `<namespace>/<Job>` what its pod said last."""
    spec = ModelTrainingSpec.model_validate(body["spec"])
    status = ModelTrainingStatus.model_validate(body.get("status") or {})
    jobs: list[ObservedJob] = []
    worker_jobs: list[ObservedJob] = []
    for job in cache.children(key, "Job"):
        if is_owned_by(job, body):
            is_worker = job["metadata"].get("labels", {}).get(COMPONENT) == WORKER
            (worker_jobs if is_worker else jobs).append(parse_job(job))
    pods: tuple[Object, ...] = ()
    if status.run is not None:
        pods = tuple(
            pod
            for pod in cache.children(key, "Pod")
            if pod["metadata"].get("labels", {}).get(JOB_NAME_LABEL) == status.run.job
        )
    cpus, memory_gib = given_resources(spec) if status.run is not None else (0.0, 0.0)
    return ObservedTraining(
        uid=body["metadata"]["uid"],
        generation=body["metadata"].get("generation", 0),
        spec=spec,
        status=status,
        spec_hash=spec_hash(spec),
        pod_hash=pod_hash(spec),
        run_token=body["metadata"].get("annotations", {}).get(RUN_ANNOTATION, ""),
        approve_token=body["metadata"].get("annotations", {}).get(APPROVE_ANNOTATION, "").strip(),
        wishes=_read_wishes(cache, key),
        jobs=tuple(jobs),
        worker_jobs=tuple(worker_jobs),
        progress=find_progress(f"{key.namespace}/{status.run.job}") if status.run is not None else None,
        cpus=cpus,
        memory_gib=memory_gib,
        pods=tuple(parse_pod(pod) for pod in pods),
        apply_error=apply_error,
        spec_problem=find_spec_problem(spec) or find_schedule_problem(spec),
    )


def read_origin(body: Object, image: str) -> OriginConfig:
    """Where a run of a ModelTraining comes from: the image and the revision that a label or annotation states."""
    metadata = body["metadata"]
    stated = (metadata.get("annotations") or {}).get(REVISION) or (metadata.get("labels") or {}).get(REVISION)
    return OriginConfig(image=image, revision=stated[:MAX_REVISION] if stated else None)


def read_kept_versions(cache: Cache, key: Key, status: ModelTrainingStatus) -> tuple[str, ...]:
    """Directory names of a ModelTraining's versions that something in its namespace still names."""
    served = [
        path
        for deployment_key, deployment in cache.all("ModelDeployment")
        if deployment_key.namespace == key.namespace
        for path in _used_paths(deployment, key, status)
    ]
    return decide_kept_versions(status, served, namespace=key.namespace, name=key.name)


def _used_paths(deployment: Object, training: Key, status: ModelTrainingStatus) -> list[str]:
    """Paths of the versions that a ModelDeployment serves, is pinned to, or may be rolled back to."""
    plain = deployment.get("status") or {}
    served = [version["path"] for version in map(plain.get, ("stable", "candidate", "previous")) if version]
    good = [record["path"] for record in plain.get("history", []) if record.get("result") == "Promoted"]
    spec = deployment.get("spec", {})
    is_pinned = (spec.get("trainingRef") or {}).get("name") == training.name and "version" in spec
    pinned = [record.path for record in status.history if is_pinned and record.number == spec["version"]]
    return served + [path for path in good if path not in served][:1] + [path for path in pinned if path]


def _read_wishes(cache: Cache, key: Key) -> tuple[RetrainWish, ...]:
    wishes = []
    for monitor in cache.children(key, "ModelMonitor"):
        request = ModelMonitorStatus.model_validate(monitor.get("status") or {}).retrain
        if request is not None and request.training == key.name:
            feedback = Feedback(
                deployment=request.deployment, since=request.since, until=request.until, policy=request.policy
            )
            wishes.append(RetrainWish(monitor=monitor["metadata"]["name"], id=request.id, feedback=feedback))
    return tuple(wishes)


def read_deployment(
    cache: Cache, key: Key, body: Object, settings: WorkloadSettings, apply_error: str
) -> ObservedDeployment:
    """What is known of a ModelDeployment."""
    spec = ModelDeploymentSpec.model_validate(body["spec"])
    status = ModelDeploymentStatus.model_validate(body.get("status") or {})
    owner, uid = training_key(key, spec), body["metadata"]["uid"]
    commands = read_commands(body)
    sizes = server_sizes(spec, status)
    desired = {
        version.deployment: build_server(
            spec,
            version,
            namespace=key.namespace,
            name=key.name,
            uid=uid,
            settings=settings,
            replicas=sizes[version.deployment],
        )
        for version in (status.stable, status.candidate, status.previous)
        if version is not None
    }
    pods = cache.children(key, "Pod")
    servers = tuple(
        _read_server(server, pods, desired.get(server["metadata"]["name"]))
        for server in cache.children(key, "Deployment")
        if is_owned_by(server, body)
    )
    service = cache.get(Key("Service", key.namespace, key.name)) or {}
    return ObservedDeployment(
        generation=body["metadata"].get("generation", 0),
        spec=spec,
        status=status,
        training_found=owner is None or cache.get(owner) is not None,
        target=read_target(cache, key, uid, spec, settings),
        fallback=read_fallback(key, uid, spec, status, settings) if _may_go_back(status, commands) else None,
        servers=servers,
        service_digest=service.get("spec", {}).get("selector", {}).get(DIGEST, ""),
        address=service_address(spec, namespace=key.namespace, name=key.name),
        apply_error=apply_error,
        annotations=commands,
        alarms=_read_alarms(cache, key),
    )


def _read_server(server: Object, pods: list[Object], desired: Object | None) -> ObservedServer:
    matches = desired is None or is_applied(with_applied_hash(desired), server)
    return parse_server(server, pods, matches=matches)


def _read_alarms(cache: Cache, key: Key) -> dict[str, str]:
    """What monitors say against versions of a ModelDeployment, by digest."""
    found = {}
    for monitor in cache.children(key, "ModelMonitor"):
        request = ModelMonitorStatus.model_validate(monitor.get("status") or {}).rollback
        if request is not None:
            found[request.digest] = f"ModelMonitor {monitor['metadata']['name']!r}: {request.reason}"
    return found


def _may_go_back(status: ModelDeploymentStatus, commands: Mapping[str, str]) -> bool:
    """Whether the version before may be asked for: only then it is worth building what would serve it."""
    return ROLLBACK in commands or (status.stable is not None and Play.of(status).is_given_up(status.stable.digest))


def read_commands(body: Object) -> dict[str, str]:
    """What people ask of a rollout by annotations, by the name without its prefix."""
    annotations = body["metadata"].get("annotations") or {}
    return {name: annotations[key] for name, key in ROLLOUT_ANNOTATIONS.items() if key in annotations}


def read_monitor(cache: Cache, key: Key, body: Object, apply_error: str) -> ObservedMonitor:
    """What is known of a ModelMonitor."""
    spec = ModelMonitorSpec.model_validate(body["spec"])
    status = ModelMonitorStatus.model_validate(body.get("status") or {})
    deployment_name = spec.deployment_ref.name
    deployment = cache.get(Key("ModelDeployment", key.namespace, deployment_name))
    model, stable, missing = None, None, ""
    if deployment is None:
        missing = (
            f"spec.deploymentRef.name: there is no ModelDeployment {deployment_name!r} in this namespace; create it "
            "or correct the name"
        )
    else:
        deployed = ModelDeploymentStatus.model_validate(deployment.get("status") or {})
        stable, rollout = deployed.stable, deployed.rollout
        owner = training_key(key, ModelDeploymentSpec.model_validate(deployment["spec"]))
        training = None if owner is None else cache.get(owner)
        training_status = ModelTrainingStatus.model_validate((training or {}).get("status") or {})
        champion = training_status.champion
        handled = {entry.source: entry.id for entry in training_status.handled}
        model = ObservedModel(
            deployment=deployment_name,
            training="" if owner is None else owner.name,
            digest=stable.digest if stable is not None else None,
            champion_digest=champion.digest if champion is not None else None,
            handled_id=handled.get(f"monitor/{key.name}", ""),
            training_running=training_status.run is not None,
            is_baking=rollout is not None and rollout.state == "Baking" and deployed.previous is not None,
            others=() if owner is None else _read_others(cache, key, owner, handled),
        )
    cron_job = cache.get(Key("CronJob", key.namespace, cron_job_name(key.name)))
    return ObservedMonitor(
        name=key.name,
        generation=body["metadata"].get("generation", 0),
        spec=spec,
        status=status,
        model=model,
        stable=stable,
        missing=missing,
        scheduled=cron_job is not None and is_owned_by(cron_job, body),
        pods=tuple(parse_pod(pod) for pod in cache.children(key, "Pod")),
        apply_error=apply_error,
        token=(body["metadata"].get("annotations") or {}).get(RETRAIN_ANNOTATION, "").strip()[:_MAX_TOKEN],
    )


def _read_others(cache: Cache, key: Key, training: Key, handled: Mapping[str, str]) -> tuple[OtherMonitor, ...]:
    """The other monitors that have asked a training."""
    found = []
    for monitor in cache.children(training, "ModelMonitor"):
        name = monitor["metadata"]["name"]
        status = ModelMonitorStatus.model_validate(monitor.get("status") or {})
        if name != key.name and status.retrain is not None and status.retrain.training == training.name:
            is_handled = handled.get(f"monitor/{name}") == status.retrain.id
            found.append(
                OtherMonitor(
                    name=name,
                    request=status.retrain,
                    is_handled=is_handled,
                    times=tuple(mark.time for mark in status.requests),
                )
            )
    return tuple(found)
