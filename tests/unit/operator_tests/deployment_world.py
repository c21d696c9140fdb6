"""A small pure cluster for ModelDeployment: Deployments follow their spec as well as their model lets them."""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from modelloop.api.common import VersionStatus
from modelloop.api.deployment import ModelDeploymentSpec, ModelDeploymentStatus, ServedVersion
from modelloop.decide.deployment import decide_deployment
from modelloop.decide.deployment_state import DeploymentPlan, ObservedDeployment
from modelloop.decide.pods import ObservedPod, SecretFiles
from modelloop.decide.servers import ObservedServer, Target
from modelloop.decide.shares import server_sizes
from modelloop.desired.deployment import build_server
from modelloop.desired.labels import TEMPLATE_HASH_ANNOTATION
from modelloop.desired.names import digest_label
from tests.unit.operator_tests.operator_states import NOW, SETTINGS, UID, deployment_spec, digest_of, pod

Health = Literal["good", "starting", "refusing", "crashing", "unpullable", "keyless"]


@dataclass
class DeploymentWorld:
    """What is stored and what runs."""

    spec: ModelDeploymentSpec = field(default_factory=deployment_spec)
    status: ModelDeploymentStatus = field(default_factory=ModelDeploymentStatus)
    champion: int | None = 1
    """Number of the training's champion."""
    training_found: bool = True
    generation: int = 1
    now: datetime = NOW
    servers: dict[str, ObservedServer] = field(default_factory=dict)
    service_digest: str = ""
    health: dict[tuple[str, str | None], Health] = field(default_factory=dict)
    """By digest label and image; good when not stated."""
    apply_error: str = ""
    """Refuses whatever is applied while set."""
    service_refused: bool = False
    images: dict[str, str | None] = field(default_factory=dict)
    """Image of each server's template."""
    plans: list[DeploymentPlan] = field(default_factory=list)

    # -- the reconciler ----------------------------------------------------------------------------------------------

    def template_hash(self, version: VersionStatus) -> str:
        server = build_server(self.spec, version, namespace="team", name="cancer", uid=UID, settings=SETTINGS)
        text: str = server["metadata"]["annotations"][TEMPLATE_HASH_ANNOTATION]
        return text

    def target(self) -> Target | None:
        return None if self.champion is None or not self.training_found else self.target_of(self.champion)

    def target_of(self, number: int) -> Target:
        version = VersionStatus(number=number, path=f"models/team/cancer/{number}-x", digest=digest_of(number))
        return Target(version=version, deployment=f"cancer-{number:010x}", template_hash=self.template_hash(version))

    def observe(self) -> ObservedDeployment:
        sizes = server_sizes(self.spec, self.status)
        return ObservedDeployment(
            generation=self.generation,
            spec=self.spec,
            status=self.status,
            training_found=self.training_found,
            target=self.target(),
            servers=tuple(
                replace(
                    server,
                    matches=server.wanted == sizes.get(server.name, server.wanted)
                    and self.images[server.name] == self.spec.image,
                )
                for server in self.servers.values()
            ),
            service_digest=self.service_digest,
            address="http://cancer.team.svc",
            apply_error=self.apply_error,
        )

    def reconcile(self, *, crash_after_status: bool = False) -> DeploymentPlan:
        """One pass. With `crash_after_status` nothing is made after the status is written."""
        plan = decide_deployment(self.observe(), self.now)
        self.plans.append(plan)
        # As the API server would: what doesn't fit the schema is refused.
        self.status = ModelDeploymentStatus.model_validate_json(
            plan.status.model_dump_json(by_alias=True, exclude_none=True)
        )
        if crash_after_status or self.apply_error:
            return plan
        for version in plan.served:
            wanted = plan.sizes[version.deployment]
            if version != plan.status.previous or version.deployment not in self.servers:
                self._apply(version, wanted)
            elif self.servers[version.deployment].wanted != wanted:
                server = self.servers[version.deployment]
                self.servers[version.deployment] = replace(server, wanted=wanted, settled=False)
        public = plan.status.stable or plan.status.candidate
        if public is not None and not self.service_refused:
            self.service_digest = digest_label(public.digest)
        for name in plan.delete_servers:
            del self.servers[name]
        return plan

    def _apply(self, version: ServedVersion, wanted: int) -> None:
        held = self.servers.get(version.deployment)
        template = self.template_hash(version)
        if held is not None and (held.wanted, held.template_hash) == (wanted, template):
            return
        fresh = held is None or held.template_hash != template
        base = held or ObservedServer(
            name=version.deployment,
            digest_label=digest_label(version.digest),
            selector=f"digest={digest_label(version.digest)}",
            template_hash=template,
            wanted=wanted,
            available=0,
            updated=0,
            total=0,
            settled=False,
        )
        self.servers[version.deployment] = replace(
            base, template_hash=template, wanted=wanted, settled=False, updated=0 if fresh else base.updated
        )
        self.images[version.deployment] = self.spec.image

    def settle(self, limit: int = 6) -> int:
        """Let the cluster follow and pass until nothing changes any more; how many passes that took."""
        for count in range(1, limit + 1):
            before = (self.status, dict(self.servers), self.service_digest)
            self.follow()
            self.reconcile()
            if (self.status, dict(self.servers), self.service_digest) == before:
                return count
        raise AssertionError(f"still changing after {limit} passes")

    # -- what happens in the cluster --------------------------------------------------------------------------------

    def follow(self) -> None:
        """Every Deployment gets as far as its pods let it: old pods stay until new ones are Ready."""
        for name, server in self.servers.items():
            health = self.health.get((server.digest_label, self.images[name]), "good")
            old = tuple(item for item in server.pods if item.ready)
            if health == "good":
                pods = tuple(self._pod(name, index, ready=True) for index in range(server.wanted))
                size = server.wanted
                self.servers[name] = replace(
                    server, available=size, updated=size, total=size, settled=True, pods=self._keep_dates(server, pods)
                )
                continue
            if server.settled and server.available and server.updated == server.total == server.wanted:
                continue  # Ready pods aren't taken away
            new = self._keep_dates(server, (self._bad_pod(name, health),)) if server.wanted else ()
            self.servers[name] = replace(
                server,
                available=len(old),
                updated=len(new),
                total=len(old) + len(new),
                settled=True,
                pods=(*old, *new),
            )

    def _pod(self, server: str, index: int, **fields: object) -> ObservedPod:
        name = f"{server}-{self.images[server] or 'default'}-{index}"
        return pod(name, created=self.now, phase="Running", running=True, **fields)

    def _bad_pod(self, server: str, health: Health) -> ObservedPod:
        states: dict[str, dict[str, object]] = {
            "starting": {},
            "refusing": {"exit_code": 2, "terminated_message": "digest differs", "running": False},
            "keyless": {
                "exit_code": 2,
                "terminated_message": "no token in /tokens",
                "secret_files": (SecretFiles(path="/tokens", secret="tokens"),),
                "running": False,
            },
            "crashing": {"exit_code": 1, "restarts": 4, "running": False},
            "unpullable": {"waiting_reason": "ImagePullBackOff", "running": False},
        }
        return replace(self._pod(server, 99), **states[health])  # type: ignore[arg-type]

    @staticmethod
    def _keep_dates(server: ObservedServer, pods: tuple[ObservedPod, ...]) -> tuple[ObservedPod, ...]:
        created = {item.name: item.created for item in server.pods}
        return tuple(replace(item, created=created.get(item.name, item.created)) for item in pods)

    @property
    def answering(self) -> int:
        """Ready pods behind the public Service."""
        return sum(
            item.ready
            for server in self.servers.values()
            if server.digest_label == self.service_digest
            for item in server.pods
        )

    def make(self, number: int, health: Health, image: str | None = None) -> None:
        """State how the pods of a version will do."""
        self.health[digest_label(digest_of(number)), image] = health

    def edit(self, **fields: object) -> None:
        """The user changes the spec."""
        plain = self.spec.model_dump(by_alias=True, exclude_none=True) | fields
        self.spec = ModelDeploymentSpec.model_validate(
            {key: value for key, value in plain.items() if value is not None}
        )
        self.generation += 1

    def wait(self, delay: timedelta) -> None:
        self.now += delay
