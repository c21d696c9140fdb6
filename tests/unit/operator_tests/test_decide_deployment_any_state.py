"""Any history of a rollout, however absurd, converges, and what answers users goes on answering."""

from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from modelloop.api.deployment import FailedVersion, ModelDeploymentStatus, ServedVersion
from modelloop.decide.bake import MIN_BAKE
from modelloop.decide.servers import ObservedServer
from modelloop.desired.names import digest_label
from tests.unit.operator_tests.deployment_world import DeploymentWorld, Health
from tests.unit.operator_tests.operator_states import NOW, digest_of, pod, served

NUMBERS = st.integers(1, 4)
IMAGES = st.sampled_from([None, "example/other:1"])
HEALTH: st.SearchStrategy[Health] = st.sampled_from(
    ["good", "starting", "refusing", "crashing", "unpullable", "keyless"]
)
DELAYS = st.sampled_from([timedelta(0), timedelta(seconds=1), MIN_BAKE, timedelta(minutes=1), timedelta(hours=1)])


class DeploymentLife(RuleBasedStateMachine):
    """Everything that may happen to a deployment but the loss of pods that are Ready."""

    @initialize()
    def begin(self) -> None:
        self.world = DeploymentWorld()

    @rule(crash=st.booleans())
    def reconcile(self, crash: bool) -> None:
        world, stored, observed = self.world, self.world.status, self.world.observe()
        answered = world.answering
        plan = world.reconcile(crash_after_status=crash)
        status = world.status
        kept = {version.deployment for version in plan.served}
        assert kept.isdisjoint(plan.delete_servers)
        assert status.stable is None or status.stable.deployment in kept
        assert stored.stable is None or status.stable is not None
        if status.stable is not None and (stored.stable is None or status.stable.digest != stored.stable.digest):
            complete = {server.name for server in observed.servers if server.is_complete}
            assert status.stable.deployment in complete
            assert world.spec.replicas > 0, "a version that no pod has shown to work"
            assert status.selector == f"digest={digest_label(status.stable.digest)}"
        if stored.previous is not None and status.previous is None and status.candidate is None:
            assert observed.service_digest == digest_label(stored.stable.digest)  # type: ignore[union-attr]
            assert world.now - stored.previous.since >= MIN_BAKE
        if status.stable is not None:
            assert observed.service_digest not in [
                server.digest_label for server in observed.servers if server.name in plan.delete_servers
            ]
        if answered and status.stable is not None:
            assert world.answering > 0
        for version in (status.stable, status.candidate):
            assert version is None or status.previous is None or version.digest != status.previous.digest
        assert len(status.failed) <= 10

    @rule()
    def follow(self) -> None:
        self.world.follow()

    @rule()
    def settle(self) -> None:
        self.world.settle()

    @rule(number=NUMBERS)
    def train(self, number: int) -> None:
        self.world.champion = number

    @rule(found=st.booleans())
    def refer(self, found: bool) -> None:
        self.world.training_found = found

    @rule(number=NUMBERS, health=HEALTH, image=IMAGES)
    def change_health(self, number: int, health: Health, image: str | None) -> None:
        self.world.make(number, health, image)

    @rule(image=IMAGES, replicas=st.integers(0, 3))
    def edit(self, image: str | None, replicas: int) -> None:
        self.world.edit(image=image, replicas=replicas)

    @rule(refused=st.booleans())
    def refuse_service(self, refused: bool) -> None:
        self.world.service_refused = refused

    @rule(error=st.sampled_from(["", "refused"]))
    def refuse(self, error: str) -> None:
        self.world.apply_error = error

    @rule(delay=DELAYS)
    def wait(self, delay: timedelta) -> None:
        self.world.wait(delay)

    @precondition(lambda self: self.world.status.failed)
    @rule()
    def nothing_failed_is_tried_under_the_same_template(self) -> None:
        status = self.world.status
        target = self.world.target()
        plan = self.world.plans[-1]
        if target is None or status.candidate is None or plan.status.candidate != status.candidate:
            return
        assert (status.candidate.digest, self.world.template_hash(status.candidate)) not in {
            (entry.digest, entry.template_hash) for entry in status.failed
        } or status.candidate.digest != target.version.digest

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        world = self.world
        world.apply_error, world.service_refused, world.training_found = "", False, True
        world.champion = 4
        for image in (None, "example/other:1"):
            world.make(4, "good", image)
        world.edit(image="example/last:1", replicas=max(world.spec.replicas, 1))
        for _ in range(4):
            world.settle(limit=8)
            world.wait(timedelta(hours=1))
        world.settle()
        assert world.status.stable is not None
        assert world.status.stable.number == 4
        assert world.answering == world.spec.replicas
        assert (world.status.candidate, world.status.previous) == (None, None)
        assert len(world.servers) == 1
        assert {item.type: item.status for item in world.status.conditions} == {
            "Available": "True",
            "Ready": "True",
            "RolledOut": "True",
        }


DeploymentLife.TestCase.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
TestDeploymentLife = DeploymentLife.TestCase


@st.composite
def arbitrary_server(draw: st.DrawFn, number: int) -> ObservedServer:
    """A Deployment in a state of its own, right or not."""
    counts = st.integers(0, 3)
    pods = draw(
        st.lists(
            st.sampled_from(
                [
                    pod(ready=True, running=True, phase="Running"),
                    pod(exit_code=2, phase="Running"),
                    pod(waiting_reason="ErrImagePull"),
                    pod(deleting=True),
                    pod(unschedulable='persistentvolumeclaim "x" not found'),
                ]
            ),
            max_size=3,
        )
    )
    return ObservedServer(
        name=served(number).deployment,
        digest_label=digest_label(digest_of(number)),
        template_hash=draw(st.sampled_from(["", "x", "h" * 80])),
        wanted=draw(counts),
        available=draw(counts),
        updated=draw(counts),
        total=draw(counts),
        settled=draw(st.booleans()),
        pods=tuple(pods),
    )


@st.composite
def arbitrary_world(draw: st.DrawFn) -> DeploymentWorld:
    """A status and Deployments that no history explains."""

    def version() -> ServedVersion | None:
        if draw(st.booleans()):
            return None
        since = draw(st.sampled_from([NOW, NOW - timedelta(days=1), NOW + timedelta(days=1)]))
        return served(draw(NUMBERS), since)

    failed = tuple(
        FailedVersion(number=number, digest=digest_of(number), template_hash="x", reason="Exited", time=NOW)
        for number in draw(st.lists(NUMBERS, unique=True))
    )
    world = DeploymentWorld(
        status=ModelDeploymentStatus(stable=version(), candidate=version(), previous=version(), failed=failed),
        champion=draw(st.one_of(st.none(), NUMBERS)),
        training_found=draw(st.booleans()),
        service_digest=draw(st.sampled_from(["", "unknown", *(digest_label(digest_of(n)) for n in range(1, 5))])),
        apply_error=draw(st.sampled_from(["", "refused"])),
    )
    for number in draw(st.sets(NUMBERS)):
        server = draw(arbitrary_server(number))
        world.servers[server.name] = server
        world.images[server.name] = draw(IMAGES)
    for number in range(1, 5):
        world.make(number, draw(HEALTH))
    return world


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(world=arbitrary_world())
def test_any_state_converges_and_a_further_pass_changes_nothing(world: DeploymentWorld) -> None:
    stable = world.status.stable
    world.settle(limit=8)
    plan = world.reconcile()
    assert plan.status == world.status
    assert plan.events == ()
    assert stable is None or world.status.stable is not None
    assert plan.check_again_after is None or plan.check_again_after > timedelta(0)
    if not world.apply_error:
        assert plan.delete_servers == ()
