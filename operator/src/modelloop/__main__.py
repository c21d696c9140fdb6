"""Starts the operator: settings, probes, Lease, cache, queue, kopf; and stops it within its grace period."""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from typing import Any, cast

import kopf
import uvloop
from pythonjsonlogger.json import JsonFormatter

from modelloop import __version__
from modelloop.cluster.cache import Cache, Key
from modelloop.cluster.client import Client
from modelloop.cluster.cluster import Cluster
from modelloop.cluster.events import EventRecorder
from modelloop.cluster.health import Health, HealthServer
from modelloop.cluster.lease import Lease
from modelloop.cluster.prometheus import PrometheusAsker
from modelloop.cluster.reconcile import Reconciler
from modelloop.cluster.rollout_scrape import ReportScraper
from modelloop.cluster.scrape import ProgressScraper
from modelloop.cluster.sync import Synchronizer
from modelloop.cluster.telemetry import LEASE_HELD
from modelloop.cluster.workqueue import WorkQueue
from modelloop.errors import ClusterError, LeaseLostError, SettingsError
from modelloop.handlers.watch import build_kopf_settings, build_registry
from modelloop.settings import Settings, read_settings

STOP_SECONDS = 4.0
"""For passes under way; kopf's watchers get the rest of the 10 s within which the process ends."""

GC_ALLOCATIONS = 20_000

logger = logging.getLogger("modelloop")


def set_up_logging(level: str) -> None:
    """One JSON object per record on stderr."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter(
            "%(asctime)s %(levelname)s %(name)s %(message)s",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        )
    )
    logging.basicConfig(level=level, handlers=[handler], force=True)
    for name in ("kopf", "aiohttp", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)


async def run(settings: Settings) -> int:
    """Run until SIGTERM, SIGINT or a lost Lease; returns the exit code."""
    stop = asyncio.Event()
    _handle_signals(stop)
    client = await Client.connect(connections=settings.workers * 2)
    cache = Cache()
    recorder = EventRecorder(client, settings.pod_name)
    reconciler: Reconciler

    async def work(key: Key) -> timedelta | None:
        return await reconciler.reconcile(key)

    queue: WorkQueue[Key] = WorkQueue(work, settings.workers)
    cluster = Cluster(client, cache, recorder, queue.add)
    scraper = ProgressScraper(cache, queue.add)
    reports = ReportScraper(cache, queue.add)
    prometheus = PrometheusAsker(cache)
    reconciler = Reconciler(
        cluster,
        settings.workloads,
        find_progress=scraper.find,
        find_reports=reports.find_reports,
        find_measurements=prometheus.find_measurements,
    )
    askers = {"progress": scraper.run, "reports": reports.run, "prometheus": prometheus.run}
    synchronizer = Synchronizer(client, cluster, settings.watch_namespaces)
    health = Health(queue=queue, synchronizer=synchronizer, cache=cache, recorder=recorder)
    server = HealthServer(health, settings.http_host, settings.http_port)
    lease = Lease(client, settings.namespace, settings.pod_name)
    await server.start()
    logger.info("modelloop starts", extra={"version": __version__, "identity": settings.pod_name})
    try:
        return await _lead(settings, stop, cluster, queue, synchronizer, recorder, health, lease, askers)
    finally:
        await lease.release()
        LEASE_HELD.set(0)
        await server.stop()
        await client.close()
        logger.info("modelloop has stopped")


def _handle_signals(stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)


async def _lead(
    settings: Settings,
    stop: asyncio.Event,
    cluster: Cluster,
    queue: WorkQueue[Key],
    synchronizer: Synchronizer,
    recorder: EventRecorder,
    health: Health,
    lease: Lease,
    askers: Mapping[str, Callable[[], Coroutine[None, None, None]]],
) -> int:
    if not await _unless_stopped(lease.acquire(), stop):
        return 0
    LEASE_HELD.set(1)
    keeping = asyncio.create_task(lease.keep(), name="lease")
    health.standby = False
    filled = await _unless_stopped(_fill(synchronizer), stop)
    if not filled or not lease.held:
        # Ended before anything was written; a renewal must not follow the release.
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        if filled:
            logger.error("the lease was lost while the cache was filled; ending")
        return int(filled)
    health.active = True
    _tune_garbage_collection()
    queue.start()
    stop_kopf = asyncio.Event()
    stopping = asyncio.create_task(stop.wait(), name="stop")
    background = [
        keeping,
        asyncio.create_task(recorder.run(), name="events"),
        asyncio.create_task(synchronizer.audit(settings.audit_seconds), name="audit"),
        *(asyncio.create_task(run(), name=name) for name, run in askers.items()),
        asyncio.create_task(_watch(settings, cluster, stop, stop_kopf), name="kopf"),
    ]
    done, _ = await asyncio.wait([stopping, *background], return_when=asyncio.FIRST_COMPLETED)
    code = 0
    for task in done - {stopping}:
        error = task.exception()
        if isinstance(error, LeaseLostError):
            logger.error("the lease is lost; ending at once", extra={"error": str(error)})
        else:
            logger.error("a task ended", extra={"task": task.get_name(), "error": repr(error)})
        code = 1
    health.active = False
    # Without the Lease nothing may be written any more, not even what is under way.
    await queue.stop(STOP_SECONDS if lease.held else 0.0)
    if lease.held:
        await recorder.drain(1.0)
    stop_kopf.set()
    await asyncio.wait(background[-1:], timeout=STOP_SECONDS)
    for task in (stopping, *background):
        task.cancel()
    await asyncio.gather(stopping, *background, return_exceptions=True)
    return code


def _tune_garbage_collection() -> None:
    """Keep the collector off the cache: it holds no cycles, and walking it again and again would cost the most time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, 20, 50)


async def _watch(settings: Settings, cluster: Cluster, stop: asyncio.Event, stop_kopf: asyncio.Event) -> None:
    # kopf ends by cancelling every task of the loop that it wasn't told of: these are ours.
    ours = asyncio.all_tasks()
    tasks = await kopf.spawn_tasks(
        registry=build_registry(cluster),
        settings=build_kopf_settings(),
        identity=cast(Any, settings.pod_name),  # kopf's own would look the user up, and a numeric user has no name
        clusterwide=not settings.watch_namespaces,
        namespaces=settings.watch_namespaces,
        stop_flag=stop_kopf,
    )
    # kopf has taken over the signals by now; the order of stopping is ours.
    _handle_signals(stop)
    await kopf.run_tasks(tasks, ignored=ours)


async def _fill(synchronizer: Synchronizer) -> None:
    """Fill the cache, trying again while the API server or the CRDs aren't there yet."""
    while True:
        try:
            await synchronizer.fill()
        except ClusterError as exc:
            logger.warning("could not fill the cache; trying again", extra={"error": str(exc)})
            await asyncio.sleep(2.0)
        else:
            return


async def _unless_stopped(coroutine: Coroutine[None, None, None], stop: asyncio.Event) -> bool:
    """Whether `coroutine` ended before the process was told to stop."""
    task = asyncio.create_task(coroutine)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([task, stopping], return_when=asyncio.FIRST_COMPLETED)
    if task.done():
        stopping.cancel()
        task.result()
        return True
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return False


def main() -> None:
    """The process's entry point."""
    try:
        settings = read_settings()
    except SettingsError as exc:
        sys.exit(f"modelloop can't start: {exc}")
    set_up_logging(settings.log_level)
    sys.exit(uvloop.run(run(settings)))


if __name__ == "__main__":
    main()
