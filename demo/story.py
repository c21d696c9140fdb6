"""The demo's steps. Each looks at the cluster first, so that an interrupted demo goes on where it was."""

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from demo.environment import BUILD, ROOT, DemoError, Environment, Kubectl, build_images, image_reference
from demo.progress import Progress, Step
from demo.traffic import BASELINE, DRIFTED, FINAL, Clinic, Probe, Tally

NAMESPACE = "modelloop-demo"
MODEL = "cancer"
SYSTEM = "modelloop-system"
DRIFT_SECONDS = 150.0
"""Over how long the drifted patients come: more than one window of the monitor sees them."""

Check = Callable[[], str | None]


@dataclass(slots=True)
class Outcome:
    """What the story has seen from outside; parts that happened in an earlier, interrupted run are None."""

    baseline: Tally | None = None
    drifted: Tally | None = None
    rollout: Tally | None = None
    final: Tally | None = None


class Story:
    """The whole loop, step by step."""

    def __init__(self, environment: Environment, progress: Progress) -> None:
        self._environment = environment
        self._progress = progress
        self.outcome = Outcome()
        self._kubectl: Kubectl | None = None
        self._tags: dict[str, str] = {}

    @property
    def kubectl(self) -> Kubectl:
        """kubectl for the demo's cluster, once it is up."""
        if self._kubectl is None:
            self._kubectl = Kubectl(self._environment.kubeconfig)
        return self._kubectl

    def tell(self) -> None:
        """Run every step that isn't done yet."""
        self._bring_up()
        self._install()
        self._train_and_serve()
        if self._champion() < 2:
            self._baseline()
            self._drift()
            self._heal()
        self._check()
        self._fetch_report()

    # -- set-up ----------------------------------------------------------------------------------------------------

    def _bring_up(self) -> None:
        with self._progress.step(f"A real Kubernetes ({self._environment.title})") as step:
            step.say("the first time builds or fetches it; that takes some minutes")
            self._environment.up()
        with self._progress.step("Images: operator, trainer, server, monitor") as step:
            step.say("building")
            self._tags = build_images()
            step.say("handing them to the node")
            self._environment.load(*(image_reference(image, tag) for image, tag in self._tags.items()))

    def _install(self) -> None:
        with self._progress.step("The operator, from manifests/install") as step:
            self.kubectl.run("apply", "-f", "-", stdin=self._render())
            self._wait(step, 120, lambda: self._rollout("modelloop-operator", SYSTEM))

    def _render(self) -> str:
        """manifests/install with the names of the images built here."""
        overlay = BUILD / "install"
        overlay.mkdir(parents=True, exist_ok=True)
        images = "".join(
            f"  - {{name: modelloop-{image}, newName: localhost/modelloop-{image}, newTag: {tag}}}\n"
            for image, tag in self._tags.items()
        )
        resource = "../" * len(overlay.relative_to(ROOT).parts) + "manifests/install"
        (overlay / "kustomization.yaml").write_text(
            "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
            f"resources:\n  - {resource}\nimages:\n{images}"
        )
        return self.kubectl.run("kustomize", str(overlay))

    def _rollout(self, name: str, namespace: str) -> str | None:
        deployment = self.kubectl.get("deployment", name, namespace)
        status = deployment.get("status", {})
        wanted = deployment.get("spec", {}).get("replicas", 1)
        settled = status.get("observedGeneration", 0) >= deployment.get("metadata", {}).get("generation", 1)
        if settled and status.get("updatedReplicas") == wanted and status.get("availableReplicas") == wanted:
            return None
        return "waiting for its pod to be Ready"

    # -- the loop --------------------------------------------------------------------------------------------------

    def _train_and_serve(self) -> None:
        with self._progress.step("Train: two candidates, one gate") as step:
            self.kubectl.run("apply", "-k", str(ROOT / "manifests" / "samples" / "cancer"))
            self._wait(step, 240, lambda: self._not_ready("modeltraining"))
        with self._progress.step("Serve the champion") as step:
            self._wait(step, 180, lambda: self._not_ready("modeldeployment"))

    def _baseline(self) -> None:
        if self._judged():
            return
        clinic = Clinic(self._environment.server_address)
        with self._progress.step("Real requests, with what turned out as feedback") as step:
            tally = self.outcome.baseline = Tally()
            pairs = list(clinic.rows(BASELINE, drifted=False))
            for count in clinic.ask_all(pairs, 12.0, tally):
                step.say(f"{count} of {len(pairs)} patients")
            _require_answers(tally)
        with self._progress.step("The monitor's CronJob looks at the first window") as step:
            self._wait(step, 150, lambda: None if self._judged() else "waiting for the next full minute")
        clinic.close()

    def _drift(self) -> None:
        if self._request() is not None:
            return
        clinic = Clinic(self._environment.server_address)
        with self._progress.step("A scanner starts to over-measure") as step:
            tally = self.outcome.drifted = Tally()
            pairs = list(clinic.rows(DRIFTED, drifted=True))
            for count in clinic.ask_all(pairs, DRIFT_SECONDS, tally):
                if count % 10 == 0:
                    step.say(f"{count} of {len(pairs)} patients; {self._health()}")
            _require_answers(tally)
        with self._progress.step("The monitor finds drift and lost quality") as step:
            more = itertools.cycle(pairs)

            def check() -> str | None:
                if self._request() is not None:
                    return None
                # The clinic works on: a window in which nobody asks tells nothing.
                clinic.ask(*next(more), tally)
                return self._health()

            self._wait(step, 240, check)
            _require_answers(tally)
        clinic.close()

    def _heal(self) -> None:
        clinic = Clinic(self._environment.server_address)
        rows = [row for row, _ in clinic.rows(DRIFTED, drifted=True)]
        clinic.close()
        with Probe(self._environment.server_address, rows) as probe:
            with self._progress.step("Retrain with the labelled captured rows") as step:
                self._wait(step, 240, self._retraining)
            with self._progress.step("Roll version 2 out under load") as step:
                self._wait(step, 180, lambda: self._rolling_out(probe))
                time.sleep(3.0)
        self.outcome.rollout = probe.tally

    def _check(self) -> None:
        clinic = Clinic(self._environment.server_address)
        with self._progress.step("The last patients, measured by the changed scanner") as step:
            self._wait(step, 120, lambda: self._not_ready("modeldeployment"))
            tally = self.outcome.final = Tally()
            pairs = list(clinic.rows(FINAL, drifted=True))
            for count in clinic.ask_all(pairs, 3.0, tally):
                step.say(f"{count} of {len(pairs)} patients")
            _require_answers(tally)
        clinic.close()

    def _fetch_report(self) -> None:
        breached = [window for window in self._windows() if _breached(window)]
        folder = str((breached or self._windows())[-1]["report"]).rsplit("/", 1)[0]
        server = self.status("modeldeployment")["stable"]["deployment"]
        read = "import sys; sys.stdout.write(open(sys.argv[1], encoding='utf-8').read())"
        for name in ("report.html", "report.json"):
            text = self.kubectl.run(
                "exec", "-n", NAMESPACE, f"deployment/{server}", "-c", "server", "--",
                "/opt/venv/bin/python", "-c", read, f"/var/lib/modelloop/store/{folder}/{name}",
            )  # fmt: skip
            (BUILD / name).write_text(text, encoding="utf-8")

    # -- looking at the cluster ------------------------------------------------------------------------------------

    def status(self, kind: str) -> dict[str, Any]:
        """Status of the demo's custom resource of a kind."""
        status: dict[str, Any] = self.kubectl.get(kind, MODEL, NAMESPACE).get("status", {})
        return status

    def _condition(self, kind: str, type_: str) -> dict[str, Any]:
        conditions = self.status(kind).get("conditions", [])
        return next((condition for condition in conditions if condition["type"] == type_), {})

    def _not_ready(self, kind: str) -> str | None:
        body = self.kubectl.get(kind, MODEL, NAMESPACE)
        conditions = body.get("status", {}).get("conditions", [])
        ready: dict[str, Any] = next((item for item in conditions if item["type"] == "Ready"), {})
        if ready.get("status") == "True" and ready["observedGeneration"] == body["metadata"]["generation"]:
            return None
        return str(ready.get("message", "waiting for the operator"))

    def _champion(self) -> int:
        return int((self.status("modeltraining").get("champion") or {}).get("number", 0))

    def _windows(self) -> list[dict[str, Any]]:
        windows: list[dict[str, Any]] = self.status("modelmonitor").get("windows", [])
        return sorted(windows, key=lambda window: window["end"])

    def _judged(self) -> bool:
        """Whether a window had enough rows to say anything."""
        return any(check["state"] != "Unknown" for window in self._windows() for check in window["checks"])

    def _request(self) -> dict[str, Any] | None:
        return self.status("modelmonitor").get("retrain")

    def _health(self) -> str:
        healthy = self._condition("modelmonitor", "Healthy")
        retraining = self._condition("modelmonitor", "Retraining")
        return f"{healthy.get('message', '')}; {retraining.get('message', '')}"

    def _retraining(self) -> str | None:
        status = self.status("modeltraining")
        last = (status.get("history") or [{}])[0]
        if last.get("number", 0) >= 2:
            if last["verdict"] != "Approved":
                raise DemoError(f"version {last['number']} was {last['verdict']}: {last.get('message', '')}")
            return None
        reconciling = self._condition("modeltraining", "Reconciling")
        return str(reconciling.get("message", "waiting for the run to begin"))

    def _rolling_out(self, probe: Probe) -> str | None:
        stable = self.status("modeldeployment").get("stable", {})
        if stable.get("number", 0) >= 2 and "2" in probe.tally.versions:
            return None
        return f"{probe.tally.requests} requests meanwhile, {len(probe.tally.failures)} failed"

    def _wait(self, step: Step, seconds: float, check: Check) -> None:
        """Until `check` returns None; what it returns is what is being waited for."""
        deadline = time.monotonic() + seconds
        while (waiting := check()) is not None:
            step.say(waiting)
            if time.monotonic() > deadline:
                raise DemoError(
                    f"after {seconds:.0f} s still: {waiting}. Look further with `kubectl --kubeconfig "
                    f"{self._environment.kubeconfig} describe mt,md,mm -n {NAMESPACE}`; run `make demo` again to go "
                    "on, or `make demo-down` to remove everything"
                )
            time.sleep(1.0)


def _breached(window: dict[str, Any]) -> bool:
    return any(check["state"] == "Breached" for check in window.get("checks", []))


def _require_answers(tally: Tally) -> None:
    if tally.failures:
        raise DemoError(f"{len(tally.failures)} of {tally.requests} requests failed: {tally.failures[0]}")
