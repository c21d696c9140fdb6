"""The three smallest manifests, as they are printed in the README, do the right thing."""

from tests.e2e.e2e_environment import ROOT
from tests.e2e.e2e_space import Space

SAMPLES = ROOT / "manifests" / "samples" / "minimal"


def prepare(space: Space) -> None:
    space.kubectl("apply", "-f", str(SAMPLES))


def test_the_minimal_manifests_become_ready_and_kubectl_wait_sees_it(space: Space) -> None:
    said = space.kubectl("wait", "--for=condition=Ready", "mt/cancer", "md/cancer", "mm/cancer", "--timeout=150s")
    assert said.count("condition met") == 3
    for kind in ("ModelTraining", "ModelDeployment", "ModelMonitor"):
        types = {condition["type"] for condition in space.status(kind, "cancer")["conditions"]}
        assert not types & {"Reconciling", "Stalled"}, f"{kind} is at rest, but has {types}"
