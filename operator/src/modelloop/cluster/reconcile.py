"""One pass per kind: observe, decide, write the status, make the objects. The order is the crash safety.

The status goes first: it holds the intent, and names follow from it, so a crash before the objects are made loses
nothing and the next pass makes the same objects.
"""

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from modelloop.api.deployment import ModelDeploymentSpec, ServedVersion
from modelloop.cluster.cache import Key
from modelloop.cluster.cluster import Cluster, Object, utc_now
from modelloop.cluster.parse import is_owned_by
from modelloop.cluster.read import (
    read_deployment,
    read_kept_versions,
    read_monitor,
    read_origin,
    read_training,
)
from modelloop.cluster.removal import note_removal, tend_removals
from modelloop.cluster.route import RouteTeller, read_route
from modelloop.cluster.telemetry import RECONCILE_SECONDS, RECONCILES, RETRAIN_REQUESTS, RUNS, count_rollouts
from modelloop.decide.analysis import CustomMeasurement
from modelloop.decide.deployment import decide_deployment
from modelloop.decide.deployment_state import DeploymentPlan
from modelloop.decide.monitor import decide_monitor
from modelloop.decide.plan import Event
from modelloop.decide.reasons import Reason
from modelloop.decide.route import ObservedReport
from modelloop.decide.runs import ScrapedProgress
from modelloop.decide.training import TrainingPlan, decide_training
from modelloop.desired import names
from modelloop.desired.autoscaling import build_autoscaler
from modelloop.desired.availability import build_budget
from modelloop.desired.deployment import build_server, build_service
from modelloop.desired.labels import DIGEST, QUEUE
from modelloop.desired.monitor import build_access, build_cron_job
from modelloop.desired.network import build_network_policy
from modelloop.desired.route import build_route_map, build_version_service
from modelloop.desired.training import begin_run, build_job
from modelloop.desired.workers import build_worker_job
from modelloop.desired.workload import WorkloadSettings, build_store_claim
from modelloop.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError

DEFAULT_CLAIM = "modelloop-store"
APPLY_RETRY = timedelta(seconds=10)
_REFUSALS = (ForbiddenError, InvalidError, NotFoundError)
"""What the API server answers to an object that it doesn't want; a further try may fare better, but not at once."""

logger = logging.getLogger(__name__)


class Reconciler:
    """Brings custom resources, one at a time, closer to what they say."""

    def __init__(
        self,
        cluster: Cluster,
        settings: WorkloadSettings,
        clock: Callable[[], datetime] = utc_now,
        find_progress: Callable[[str], ScrapedProgress | None] = lambda _: None,
        find_reports: Callable[[Key], tuple[ObservedReport, ...]] = lambda _: (),
        find_measurements: Callable[[Key], Mapping[str, CustomMeasurement]] = lambda _: {},
    ) -> None:
        self._cluster = cluster
        self._find_reports = find_reports
        self._find_measurements = find_measurements
        self._find_progress = find_progress
        self._settings = settings
        self._clock = clock
        # Only so that a standing refusal doesn't make the status flicker between two passes.
        self._apply_errors: dict[Key, str] = {}
        self._teller = RouteTeller(cluster)
        self._passes: dict[str, Callable[[Key, Object], Awaitable[timedelta | None]]] = {
            "ModelTraining": self._reconcile_training,
            "ModelDeployment": self._reconcile_deployment,
            "ModelMonitor": self._reconcile_monitor,
        }

    async def reconcile(self, key: Key) -> timedelta | None:
        """One pass over `key`; returns when to look again, None for not before something changes."""
        started = time.perf_counter()
        outcome = "error"
        try:
            is_refused = key.kind == "ModelTraining" and await tend_removals(self._cluster, key, self._settings)
            body = self._cluster.cache.get(key)
            if body is None or "deletionTimestamp" in body["metadata"]:
                self._apply_errors.pop(key, None)
                self._teller.forget(key)
                outcome = "gone"
                return APPLY_RETRY if is_refused else None
            again = await self._passes[key.kind](key, body)
            outcome = "done"
            if is_refused:
                again = APPLY_RETRY if again is None else min(again, APPLY_RETRY)
            return again
        except ConflictError:
            # The cache holds the newer state by now; look at it.
            outcome = "conflict"
            return timedelta(0)
        finally:
            RECONCILES.labels(key.kind, outcome).inc()
            RECONCILE_SECONDS.labels(key.kind).observe(time.perf_counter() - started)

    async def _make(
        self, key: Key, make: Callable[[], Awaitable[None]], check_again_after: timedelta | None
    ) -> timedelta | None:
        """Make a plan's objects; says when to look again.

        What the API server refuses ends in the status, by a further pass at once. It holds up no deadline of the plan.
        """
        try:
            await make()
        except _REFUSALS as exc:
            message = f"the API server refused an object: {exc}"
            logger.warning("objects refused", extra={"key": str(key), "error": str(exc)})
            is_new = key not in self._apply_errors
            self._apply_errors[key] = message
            return timedelta(0) if is_new else min(APPLY_RETRY, check_again_after or APPLY_RETRY)
        if self._apply_errors.pop(key, None) is not None:
            return timedelta(0)
        return check_again_after

    async def _ensure_store(self, namespace: str, storage_uri: str) -> None:
        """The default claim is made on demand; a claim that the user named must be there."""
        if names.store_claim(storage_uri) == DEFAULT_CLAIM:
            await self._cluster.apply_once(build_store_claim(namespace, self._settings, DEFAULT_CLAIM))

    async def _try(self, making: Awaitable[object]) -> list[ForbiddenError | InvalidError | NotFoundError]:
        """Make something; returns what the API server refused of it."""
        try:
            await making
        except _REFUSALS as exc:
            return [exc]
        return []

    async def _keep(
        self, key: Key, body: Object, kind: str, wanted: Sequence[Object | None]
    ) -> list[ForbiddenError | InvalidError | NotFoundError]:
        """Make the wanted children of a kind, and remove those that `body` owns beyond them.

        Returns what the API server refused: none of these is worth holding up what serves.
        """
        kept: set[str] = set()
        refused: list[ForbiddenError | InvalidError | NotFoundError] = []
        for child in wanted:
            if child is not None:
                kept.add(child["metadata"]["name"])
                refused += await self._try(self._cluster.apply(child))
        for child in self._cluster.cache.children(key, kind):
            if child["metadata"]["name"] not in kept and is_owned_by(child, body):
                await self._cluster.delete(kind, key.namespace, child["metadata"]["name"])
        return refused

    # -- ModelTraining ---------------------------------------------------------------------------------------------

    async def _reconcile_training(self, key: Key, body: Object) -> timedelta | None:
        now = self._clock()
        observed = read_training(
            self._cluster.cache, key, body, self._apply_errors.get(key, ""), find_progress=self._find_progress
        )
        plan = decide_training(observed, now)
        status, uid = plan.status, observed.uid
        if plan.new_run is not None:
            run = begin_run(
                observed.spec,
                namespace=key.namespace,
                name=key.name,
                uid=uid,
                number=plan.new_run.number,
                trigger=plan.new_run.trigger,
                champion=status.champion,
                feedback=plan.new_run.feedback,
                now=now,
                origin=read_origin(body, observed.spec.image or self._settings.trainer_image),
                keep_versions=read_kept_versions(self._cluster.cache, key, status),
            )
            status = status.model_copy(update={"run": run})
        body = await self._cluster.patch_status(key, body, observed.status, status)
        self._tell(key, body, plan.events)
        ended = observed.status.run
        if ended is not None and status.history and status.history[0].number == ended.number:
            RUNS.labels(status.history[0].verdict).inc()

        async def make() -> None:
            # First: what isn't noted wouldn't be removed.
            await note_removal(self._cluster, key, body, observed.spec)
            await self._tidy_jobs(key, plan)
            if status.run is not None and plan.job_wanted:
                await self._ensure_store(key.namespace, status.run.storage.uri)
                job = build_job(
                    observed.spec,
                    status.run,
                    namespace=key.namespace,
                    name=key.name,
                    uid=uid,
                    settings=self._settings,
                )
                await self._cluster.apply_once(job)
                if plan.workers_wanted:
                    queued = QUEUE in job["metadata"]["labels"]
                    await self._cluster.apply_once(build_worker_job(job, status.run.workers, suspend=queued))

        return await self._make(key, make, plan.check_again_after)

    async def _tidy_jobs(self, key: Key, plan: TrainingPlan) -> None:
        for name in plan.delete_jobs:
            await self._cluster.delete("Job", key.namespace, name)
        for name in (*plan.suspend_jobs, *plan.resume_jobs):
            await self._cluster.patch("Job", key.namespace, name, {"spec": {"suspend": name in plan.suspend_jobs}})
        for name in plan.expire_jobs:
            ttl = {"spec": {"ttlSecondsAfterFinished": self._settings.finished_job_ttl}}
            await self._cluster.patch("Job", key.namespace, name, ttl)

    # -- ModelDeployment -------------------------------------------------------------------------------------------

    async def _reconcile_deployment(self, key: Key, body: Object) -> timedelta | None:
        now = self._clock()
        error = self._apply_errors.get(key, "")
        observed = replace(
            read_deployment(self._cluster.cache, key, body, self._settings, error),
            reports=self._find_reports(key),
            custom=self._find_measurements(key),
        )
        plan = decide_deployment(observed, now)
        body = await self._cluster.patch_status(key, body, observed.status, plan.status)
        self._tell(key, body, plan.events)
        count_rollouts(observed.status, plan.status)

        async def make() -> None:
            await self._make_serving(key, body, observed.spec, plan, observed.reports)

        return await self._make(key, make, plan.check_again_after)

    async def _make_serving(
        self,
        key: Key,
        body: Object,
        spec: ModelDeploymentSpec,
        plan: DeploymentPlan,
        reports: tuple[ObservedReport, ...],
    ) -> None:
        """Make what serves. What the API server refuses of one object holds up no other, as far as requests allow.

        The public Service turns before pods are told of another route, and they are before anything goes that they
        could still ask.
        """
        place = {"namespace": key.namespace, "name": key.name, "uid": body["metadata"]["uid"]}
        policy = build_network_policy(spec, **place, operator_namespace=self._settings.operator_namespace)
        # First, and no server begins without it: nobody may reach a pod before the policy holds.
        refused = await self._keep(key, body, "NetworkPolicy", [policy])
        is_protected = not refused
        public = plan.status.stable or plan.status.candidate
        for version in plan.served:
            server = Key("Deployment", key.namespace, version.deployment)
            if not is_protected and self._cluster.cache.get(server) is None:
                continue
            refused += await self._try(self._cluster.apply(build_version_service(spec, version.digest, **place)))
            refused += await self._try(self._make_server(key, body, spec, plan, version))
            if version == public and self._cluster.cache.get(server) is not None:
                # At once: a candidate that the API server refuses must not hold up the flip to the stable one.
                refused += await self._try(self._cluster.apply(build_service(spec, version.digest, **place)))
        route = read_route(self._cluster.cache, key, body, spec, plan.route, plan.served)
        untold = await self._try(self._cluster.apply(build_route_map(route, **place)))
        if not untold:
            refused += await self._try(self._teller.tell(key, route.revision, reports))
        if not untold or self._cluster.cache.get(Key("ConfigMap", key.namespace, names.route_name(key.name))) is None:
            await self._remove_servers(key, body, plan)
        refused += untold
        budgets = [build_budget(spec, version, **place) for version in plan.served]
        refused += await self._keep(key, body, "PodDisruptionBudget", budgets)
        # Before a version serves there are no pods for the autoscaler to look at, which it would complain about.
        scaler = build_autoscaler(spec, **place) if plan.status.selector else None
        refused += await self._keep(key, body, "HorizontalPodAutoscaler", [scaler])
        if refused:
            raise refused[0]

    async def _make_server(
        self, key: Key, body: Object, spec: ModelDeploymentSpec, plan: DeploymentPlan, version: ServedVersion
    ) -> None:
        await self._ensure_store(key.namespace, version.storage.uri)
        size = plan.sizes[version.deployment]
        server = build_server(
            spec,
            version,
            namespace=key.namespace,
            name=key.name,
            uid=body["metadata"]["uid"],
            settings=self._settings,
            replicas=size,
        )
        if version != plan.status.previous:
            await self._cluster.apply(server)
            return
        # Kept as it was when it served, but for its size: a change of the spec is for the versions to come.
        await self._cluster.apply_once(server)
        held = self._cluster.cache.get(Key("Deployment", key.namespace, version.deployment))
        if held is not None and is_owned_by(held, body) and held.get("spec", {}).get("replicas") != size:
            await self._cluster.patch("Deployment", key.namespace, version.deployment, {"spec": {"replicas": size}})

    async def _remove_servers(self, key: Key, body: Object, plan: DeploymentPlan) -> None:
        """Remove the versions that aren't in play any more.

        A version's Service goes after its last pod: a pod that still follows an older route finds pods that end or
        none, which it is told of at once, but no address that answers nothing.
        """
        for name in plan.delete_servers:
            await self._cluster.delete("Deployment", key.namespace, name)
        served = {version.deployment for version in plan.served}
        pods = self._cluster.cache.children(key, "Pod")
        running = {pod["metadata"].get("labels", {}).get(DIGEST) for pod in pods}
        for service in self._cluster.cache.children(key, "Service"):
            name, digest = service["metadata"]["name"], service["metadata"]["labels"].get(DIGEST)
            if digest is not None and digest not in running and name not in served and is_owned_by(service, body):
                await self._cluster.delete("Service", key.namespace, name)

    # -- ModelMonitor ----------------------------------------------------------------------------------------------

    async def _reconcile_monitor(self, key: Key, body: Object) -> timedelta | None:
        now = self._clock()
        observed = read_monitor(self._cluster.cache, key, body, self._apply_errors.get(key, ""))
        plan = decide_monitor(observed, now)
        # The windows are the monitor pod's: two writers of one list would undo each other.
        exclude = frozenset({"windows"})
        body = await self._cluster.patch_status(key, body, observed.status, plan.status, exclude)
        self._tell(key, body, plan.events)
        uid = body["metadata"]["uid"]
        version = observed.stable

        async def make() -> None:
            if version is None or not plan.schedule_wanted:
                await self._cluster.delete("CronJob", key.namespace, names.cron_job_name(key.name))
                return
            for access in build_access(namespace=key.namespace, name=key.name, uid=uid):
                await self._cluster.apply(access)
            cron_job = build_cron_job(
                observed.spec,
                version,
                version.since,
                namespace=key.namespace,
                name=key.name,
                uid=uid,
                settings=self._settings,
            )
            await self._cluster.apply(cron_job)

        return await self._make(key, make, plan.check_again_after)

    def _tell(self, key: Key, body: Object, events: tuple[Event, ...]) -> None:
        self._cluster.record(key.kind, body, events)
        for event in events:
            if key.kind == "ModelMonitor" and event.reason == Reason.REQUESTED:
                RETRAIN_REQUESTS.inc()
