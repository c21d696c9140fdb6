"""Plays a node through the API, as a kubelet does: binds pods, writes their status, ends deleted ones.

What a container would do is a `Program`: the statuses that its pod goes through. The controllers for Jobs, Deployments
and CronJobs are the real ones and see nothing but pods that some node runs.
"""

import asyncio
import contextlib
import json
import ssl
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from datetime import UTC, datetime
from threading import Thread
from typing import Any, TypeVar

import aiohttp

from modelloop.desired.labels import SELECTOR
from tests.cluster.cluster_api import RESOURCES, Object

T = TypeVar("T")
Program = Callable[[Object], Sequence[Object]]

NODE_NAME = "played"
RECORDED = (
    "Job", "CronJob", "Deployment", "Service", "PersistentVolumeClaim", "ServiceAccount", "Role", "RoleBinding",
    "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy",
)  # fmt: skip


class Background:
    """An event loop in a thread, for what has to go on while a test waits."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = Thread(target=self.loop.run_forever, name="background", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float = 30.0) -> T:
        """The coroutine's result, from any other thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout)

    def stop(self) -> None:
        """Cancel what still runs and end the thread."""
        self.run(self._cancel_all())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()

    async def _cancel_all(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# -- what a kubelet writes ----------------------------------------------------------------------------------------


def now() -> str:
    """The time as Kubernetes writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _status(
    pod: Object, phase: str, state: Object, *, ready: bool, last: Object | None = None, restarts: int = 0
) -> Object:
    """A pod's status with one container in `state`."""
    container = pod["spec"]["containers"][0]
    told = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": now()}
    scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": now()}
    return {
        "phase": phase,
        "podIP": "10.244.0.9",
        "podIPs": [{"ip": "10.244.0.9"}],
        "startTime": now(),
        "conditions": [told, {**told, "type": "ContainersReady"}, scheduled],
        "containerStatuses": [
            {
                "name": container["name"],
                "image": container["image"],
                "imageID": "",
                "ready": ready,
                "restartCount": restarts,
                "state": state,
                "lastState": last or {},
            }
        ],
    }


def running(pod: Object, *, ready: bool = True) -> Object:
    """Its container runs."""
    return _status(pod, "Running", {"running": {"startedAt": now()}}, ready=ready)


def _terminated(exit_code: int, reason: str, message: str) -> Object:
    times = {"startedAt": now(), "finishedAt": now()}
    return {"terminated": {"exitCode": exit_code, "reason": reason, "message": message, **times}}


def succeeded(pod: Object, message: str = "") -> Object:
    """Its container ended with exit code 0 and a termination message."""
    return _status(pod, "Succeeded", _terminated(0, "Completed", message), ready=False)


def failed(pod: Object, exit_code: int, message: str = "", reason: str = "Error") -> Object:
    """Its container ended otherwise and is not started again (restartPolicy Never)."""
    return _status(pod, "Failed", _terminated(exit_code, reason, message), ready=False)


def crashing(pod: Object, exit_code: int, message: str = "", reason: str = "Error", restarts: int = 3) -> Object:
    """Its container ended and the kubelet waits before it starts it again (restartPolicy Always)."""
    state = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 20s restarting failed container"}}
    last = _terminated(exit_code, reason, message)
    return _status(pod, "Running", state, ready=False, last=last, restarts=restarts)


def waiting(pod: Object, reason: str, message: str) -> Object:
    """Its container can't be started, e.g. ErrImagePull."""
    return _status(pod, "Pending", {"waiting": {"reason": reason, "message": message}}, ready=False)


def unschedulable(message: str) -> Object:
    """What the scheduler writes when no node can take a pod."""
    told = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    return {"phase": "Pending", "conditions": [{**told, "lastTransitionTime": now()}]}


def environment_of(pod: Object) -> dict[str, str]:
    """The plain environment variables of a pod's main container."""
    return {entry["name"]: entry.get("value", "") for entry in pod["spec"]["containers"][0].get("env", [])}


async def watch_objects(session: aiohttp.ClientSession, kind: str) -> AsyncIterator[tuple[str, Object]]:
    """Every event of the operator's objects of a kind, none missed, from the moment of the call."""
    path = RESOURCES[kind].path()
    async with session.get(path, params={"labelSelector": SELECTOR, "limit": "1"}) as answer:
        version = (await answer.json())["metadata"]["resourceVersion"]
    while True:
        query = {"watch": "1", "labelSelector": SELECTOR, "resourceVersion": version, "timeoutSeconds": "600"}
        timeout = aiohttp.ClientTimeout(total=None)
        async with session.get(path, params=query, timeout=timeout) as answer:
            answer.raise_for_status()
            buffer = b""
            async for chunk in answer.content.iter_any():
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    version = event["object"]["metadata"]["resourceVersion"]
                    yield event["type"], event["object"]


# -- the node -----------------------------------------------------------------------------------------------------


class Node:
    """Runs the pods of the namespaces that were given a program, and keeps count of every object ever made."""

    def __init__(self, background: Background, server: str, context: ssl.SSLContext) -> None:
        self._background = background
        self._server = server
        self._context = context
        self._programs: dict[str, Program] = {}
        self._begun: dict[str, asyncio.Task[None]] = {}
        self._pods: dict[str, dict[str, Object]] = defaultdict(dict)
        self.created: dict[str, Counter[str]] = defaultdict(Counter)
        """Per namespace: how many objects of `<kind>/<name>` were ever made."""
        background.run(self._start())

    def play(self, namespace: str, program: Program) -> None:
        """Run the pods of `namespace`, those that are there and those to come."""
        self._background.run(self._play(namespace, program))

    def close(self) -> None:
        """Stop playing."""
        self._background.run(self._session.close())

    async def _start(self) -> None:
        connector = aiohttp.TCPConnector(ssl=self._context, limit=0)
        self._session = aiohttp.ClientSession(self._server, connector=connector)
        loop = asyncio.get_running_loop()
        self._watches = [loop.create_task(self._watch_pods())]
        self._watches += [loop.create_task(self._record(kind)) for kind in RECORDED]

    async def _play(self, namespace: str, program: Program) -> None:
        self._programs[namespace] = program
        for pod in list(self._pods[namespace].values()):
            self._see(pod)

    async def _watch_pods(self) -> None:
        async for type_, pod in watch_objects(self._session, "Pod"):
            namespace, uid = pod["metadata"]["namespace"], pod["metadata"]["uid"]
            if type_ == "DELETED":
                self._pods[namespace].pop(uid, None)
                continue
            self._pods[namespace][uid] = pod
            self._see(pod)

    def _see(self, pod: Object) -> None:
        metadata = pod["metadata"]
        program = self._programs.get(metadata["namespace"])
        if program is None:
            return
        if "deletionTimestamp" in metadata:
            if pod["spec"].get("nodeName"):
                self._begin(f"{metadata['uid']}/end", self._end(pod))
        elif not pod["spec"].get("nodeName"):
            self._begin(metadata["uid"], self._run(pod, program))

    def _begin(self, key: str, work: Coroutine[Any, Any, None]) -> None:
        if key in self._begun:
            work.close()
        else:
            self._begun[key] = asyncio.get_running_loop().create_task(work)

    async def _run(self, pod: Object, program: Program) -> None:
        binding = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": pod["metadata"]["name"]},
            "target": {"apiVersion": "v1", "kind": "Node", "name": NODE_NAME},
        }
        with contextlib.suppress(aiohttp.ClientResponseError):  # deleted meanwhile
            await self._send("POST", pod, "binding", binding)
            for status in program(pod):
                await self._send("PATCH", pod, "status", {"status": status})

    async def _end(self, pod: Object) -> None:
        with contextlib.suppress(aiohttp.ClientResponseError):
            await self._send("DELETE", pod, None, {"gracePeriodSeconds": 0})

    async def _send(self, method: str, pod: Object, subresource: str | None, body: Object) -> None:
        metadata = pod["metadata"]
        path = RESOURCES["Pod"].path(metadata["namespace"], metadata["name"], subresource)
        content_type = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Content-Type": content_type}
        async with self._session.request(method, path, data=json.dumps(body), headers=headers) as answer:
            answer.raise_for_status()

    async def _record(self, kind: str) -> None:
        async for type_, body in watch_objects(self._session, kind):
            if type_ == "ADDED":
                metadata = body["metadata"]
                self.created[metadata["namespace"]][f"{kind}/{metadata['name']}"] += 1
