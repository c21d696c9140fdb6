"""A namespace of a test: applies manifests, waits for what users see, reads the store, collects logs."""

import base64
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import httpx

from modelkit.contract.files import STORE_MOUNT
from tests.cluster.cluster_api import Api, ApiError, condition_of, connection_of, wait_for
from tests.e2e.e2e_environment import Environment, run
from tests.e2e.e2e_manifests import RESTRICTED, build_claim, build_pod

Object = dict[str, Any]
T = TypeVar("T")

STORE_CLAIM = "modelloop-store"
DATA_CLAIM = "data"
DATA_MOUNT = "/data"
TOOLS = "tools"
PATIENCE = 240.0
"""Seconds for things without a promised time: an idle machine needs a few of them, a busy one many."""
_WAIT_FOR_SIGTERM = "import signal; signal.sigwait({signal.SIGTERM})"
_READ = "import base64,sys; print(base64.b64encode(open(sys.argv[1],'rb').read()).decode())"
_WRITE = (
    "import base64,os,sys; p=sys.argv[1]; os.makedirs(os.path.dirname(p),exist_ok=True); "
    "open(p,'wb').write(base64.b64decode(sys.stdin.read()))"
)


class Kube:
    """The cluster as its administrator sees it."""

    def __init__(self, environment: Environment, kubectl: Path, images: dict[str, str]) -> None:
        self.environment = environment
        self.images = images
        self._kubectl = kubectl
        server, context = connection_of(environment.kubeconfig)
        self._host = server.split("//")[1].split(":")[0]
        self.api = Api(server, context)
        self._client = httpx.Client(base_url=server, verify=context, timeout=30.0, trust_env=False)

    def close(self) -> None:
        """Close the connections."""
        self.api.close()
        self._client.close()

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 180.0) -> str:
        """What kubectl printed; RuntimeError with its own words when it fails."""
        command = (str(self._kubectl), "--kubeconfig", str(self.environment.kubeconfig), *arguments)
        return run(*command, stdin=stdin, timeout=timeout, no_proxy=self._host)

    def read_text(self, path: str) -> str:
        """GET of an address of the API server that doesn't answer JSON; raises ApiError."""
        answer = self._client.get(path)
        if answer.status_code != httpx.codes.OK:
            raise ApiError(answer.status_code, answer.text)
        return answer.text

    def proxy(self, namespace: str, kind: str, name: str, path: str) -> str:
        """GET of a path of a pod or service, by way of the API server. `name` may end in `:port`."""
        return self.read_text(f"/api/v1/namespaces/{namespace}/{kind}/{name}/proxy/{path}")


class Space:
    """One namespace under the restricted Pod Security standard."""

    def __init__(self, kube: Kube, name: str) -> None:
        self.kube = kube
        self.api = kube.api
        self.name = name
        self.logs: dict[str, str] = {}
        """Logs of pods that were collected so far, by pod; some pods are gone by the end."""
        self.started = time.monotonic()
        self._tools = threading.Lock()
        self._is_described = False
        self._begun: Future[Any] = Future()
        self._closers: list[Callable[[], None]] = []
        self.bucket: Any = None
        """The S3 server beside the namespace, where a module has one."""
        self.api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": RESTRICTED}})
        wait_for(lambda: self.api.find("ServiceAccount", name, "default"), what="the default ServiceAccount")

    def on_close(self, closer: Callable[[], None]) -> None:
        """Have something done when the session ends."""
        self._closers.append(closer)

    def close(self) -> None:
        """Do what was put off to the end of the session."""
        for closer in self._closers:
            closer()

    def begin(self, story: Callable[[], Any]) -> None:
        """Run something long beside the tests of other modules; `await_begun` gives its result."""
        begun: Future[Any] = Future()

        def run() -> None:
            try:
                begun.set_result(story())
            except BaseException as exc:  # noqa: BLE001 - raised again where the result is asked for
                begun.set_exception(exc)

        # A daemon: a session that is interrupted doesn't wait for it.
        threading.Thread(target=run, name=self.name, daemon=True).start()
        self._begun = begun

    def await_begun(self) -> Any:
        """The result of what was begun, or its exception."""
        return self._begun.result()

    # -- objects ---------------------------------------------------------------------------------------------------

    def apply(self, *bodies: Object) -> None:
        """Server-side apply into this namespace."""
        for body in bodies:
            self.api.apply({**body, "metadata": {**body["metadata"], "namespace": self.name}})

    def patch(self, kind: str, name: str, spec: Object) -> None:
        """Merge-patch a specification."""
        self.api.patch(kind, self.name, name, {"spec": spec})

    def annotate(self, kind: str, name: str, key: str, value: str) -> None:
        """Set one annotation."""
        self.api.patch(kind, self.name, name, {"metadata": {"annotations": {key: value}}})

    def get(self, kind: str, name: str) -> Object:
        """One object."""
        return self.api.get(kind, self.name, name)

    def objects(self, kind: str, selector: str | None = None) -> list[Object]:
        """Objects of a kind."""
        return self.api.list(kind, self.name, selector)

    def status(self, kind: str, name: str) -> Object:
        """Its status, empty when there is none yet."""
        status: Object = self.get(kind, name).get("status") or {}
        return status

    def condition(self, kind: str, name: str, type_: str) -> Object:
        """A condition, empty when there is none yet."""
        return condition_of(self.api.find(kind, self.name, name), type_)

    def kubectl(self, *arguments: str, stdin: str | None = None, timeout: float = 180.0) -> str:
        """kubectl in this namespace."""
        return self.kube.kubectl("-n", self.name, *arguments, stdin=stdin, timeout=timeout)

    # -- waiting ---------------------------------------------------------------------------------------------------

    def wait(self, check: Callable[[], T | None], what: str, timeout: float = PATIENCE) -> T:
        """Ask until `check` gives something true."""
        return wait_for(check, timeout, what=f"{what} in {self.name}", every=0.25)

    def wait_status(self, kind: str, name: str, is_reached: Callable[[Object], bool], what: str) -> Object:
        """Until a status is as `is_reached` wants it; returns it."""

        def check() -> Object | None:
            status = self.status(kind, name)
            return status if is_reached(status) else None

        return self.wait(check, what)

    def wait_condition(
        self,
        kind: str,
        name: str,
        type_: str = "Ready",
        status: str = "True",
        *,
        reason: str | None = None,
        timeout: float = PATIENCE,
    ) -> Object:
        """Until the operator has seen the newest specification and the condition is as wanted."""
        last: Object = {}

        def check() -> Object | None:
            nonlocal last
            body = self.api.find(kind, self.name, name)
            if body is None:
                return None
            last = condition_of(body, type_)
            seen = last.get("observedGeneration") == body["metadata"]["generation"]
            found = seen and last["status"] == status and reason in (None, last["reason"])
            return last if found else None

        wanted = f"{kind} {name}: {type_}={status}" + (f" ({reason})" if reason else "")
        try:
            return self.wait(check, wanted, timeout)
        except AssertionError as exc:
            raise AssertionError(f"{exc}; it is {last or 'not there'}") from None

    # -- pods ------------------------------------------------------------------------------------------------------

    def pods(self, component: str, name: str | None = None) -> list[Object]:
        """Pods of a component: trainer, server or monitor."""
        selector = f"app.kubernetes.io/component={component}"
        return self.objects("Pod", selector + (f",app.kubernetes.io/instance={name}" if name else ""))

    def exec(self, program: str, *arguments: str, stdin: str | None = None) -> str:
        """Run a Python program in the pod `tools`, which mounts the store and, where there is one, the data."""
        self.start_tools()
        self.wait(self._tools_run, "the pod of tools")
        return self.kubectl(
            "exec", *(("-i",) if stdin is not None else ()), TOOLS, "--", "/opt/venv/bin/python", "-c", program,
            *arguments, stdin=stdin,
        )  # fmt: skip

    def start_tools(self, *, data: bool = False) -> None:
        """Make the pod of tools, once; with `data` a claim of that name too, mounted below /data."""
        with self._tools:
            if self.api.find("Pod", self.name, TOOLS) is not None:
                return
            claims = {STORE_CLAIM: STORE_MOUNT}
            if data:
                self.apply(build_claim(DATA_CLAIM))
                claims[DATA_CLAIM] = DATA_MOUNT
            self.apply(build_pod(TOOLS, self.kube.images["trainer"], _WAIT_FOR_SIGTERM, claims))

    def read(self, path: str) -> bytes:
        """A file as the pod of tools sees it."""
        return base64.b64decode(self.exec(_READ, path))

    def write(self, path: str, content: bytes) -> None:
        """Make or replace a file."""
        self.exec(_WRITE, path, stdin=base64.b64encode(content).decode())

    def read_store(self, path: str) -> bytes:
        """An object of the store."""
        return self.read(f"{STORE_MOUNT}/{path}")

    def _tools_run(self) -> bool:
        return bool(self.get("Pod", TOOLS)["status"].get("phase") == "Running")

    # -- the model -------------------------------------------------------------------------------------------------

    def address(self, deployment: str) -> str:
        """URL of a ModelDeployment's NodePort, once it answers: kube-proxy learns of a new Service a moment later."""
        service = self.wait(lambda: self.api.find("Service", self.name, deployment), f"the Service {deployment}")
        url = f"http://{self.kube.environment.node_address}:{service['spec']['ports'][0]['nodePort']}"

        def answers() -> bool:
            with suppress(httpx.HTTPError):
                return httpx.get(f"{url}/v2/health/ready", timeout=2.0, trust_env=False).is_success
            return False

        self.wait(answers, f"an answer at {url}")
        return url

    def look(self, monitor: str) -> Object:
        """Look at a window now, by a Job from the monitor's CronJob; returns the new window of the status."""
        known = len(self.status("ModelMonitor", monitor).get("windows", []))
        job = f"{monitor}-look-{time.time_ns() % 10**9}"
        self.kubectl("create", "job", job, f"--from=cronjob/{monitor}")

        def newest() -> Object | None:
            windows = self.status("ModelMonitor", monitor).get("windows", [])
            return windows[-1] if len(windows) > known else None

        # A pod, and seconds of work: while everything else begins, too, that takes its time.
        window = self.wait(newest, "a window", 2 * PATIENCE)
        # The CronJob keeps one finished Job: the log would be gone by the end.
        self.collect_logs()
        return window

    def wait_captured(self, deployment: str, rows: int) -> None:
        """Until that many requests and labels are in the store; version and pods must not change meanwhile."""

        def enough() -> bool:
            return min(self.captured(deployment).values()) >= rows

        self.wait(enough, f"{rows} captured rows")

    def captured(self, deployment: str) -> dict[str, float]:
        """Rows in the store by stream, as the server's pods count them."""
        total = {"requests": 0.0, "feedback": 0.0}
        for pod in self.pods("server", deployment):
            for stream in total:
                name = f'modelloop_captured_rows_total{{stream="{stream}"}}'
                total[stream] += _sample(self.metrics(pod["metadata"]["name"]), name)
        return total

    def metrics(self, pod: str) -> str:
        """What a server's pod answers at /metrics."""
        return self.kube.proxy(self.name, "pods", f"{pod}:8080", "metrics")

    # -- evidence --------------------------------------------------------------------------------------------------

    def collect_logs(self) -> dict[str, str]:
        """Keep the logs of all pods of now beside those collected earlier."""
        for pod in self.objects("Pod"):
            name = pod["metadata"]["name"]
            # A container that hasn't started, or a pod that is gone by now, has no log.
            with suppress(ApiError):
                log = self.kube.read_text(f"/api/v1/namespaces/{self.name}/pods/{name}/log")
                self.logs[name] = max(log, self.logs.get(name, ""), key=len)
        return self.logs

    def describe(self) -> list[tuple[str, str]]:
        """What somebody would look at first when a test fails; everything only the first time."""
        sections = []
        commands: list[tuple[str, ...]] = [("get", "all,pvc,mt,md,mm", "-o", "wide")]
        if not self._is_described:
            commands += [("describe", "mt,md,mm"), ("describe", "pods")]
        for arguments in commands:
            try:
                text = self.kubectl(*arguments)
            except RuntimeError as exc:
                text = str(exc)
            sections.append((f"kubectl {' '.join(arguments)} -n {self.name}", text[-12_000:]))
        if not self._is_described:
            for name, log in self.collect_logs().items():
                sections.append((f"log of {self.name}/{name}", log[-3_000:]))
        self._is_described = True
        return sections


def _sample(metrics: str, name: str) -> float:
    return sum(float(line.rsplit(" ", 1)[1]) for line in metrics.splitlines() if line.startswith(f"{name} "))
