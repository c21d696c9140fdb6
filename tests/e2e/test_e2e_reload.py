"""An image that was built anew under its old name reaches a running node: what a developer does all day."""

from devcluster.engine import Engine, buildah, find_engine
from devcluster.shell import run
from tests.e2e.e2e_manifests import build_pod
from tests.e2e.e2e_space import Space

NAME = "localhost/modelloop-reload:dev"
PROGRAM = "import importlib.util; print('trainer' if importlib.util.find_spec('pandas') else 'server')"


def tag(image: str) -> None:
    """Give an image of the local store the name, whichever had it before."""
    if find_engine() is Engine.DOCKER:
        run("docker", "tag", image, NAME)
        return
    with buildah() as command:
        run(*command, "tag", image, NAME)


def test_an_image_that_changed_under_its_name_is_what_new_pods_run(space: Space) -> None:
    for image in ("trainer", "server", "trainer"):
        tag(space.kube.images[image])
        space.kube.environment.load(NAME)
        space.apply(build_pod("reload", NAME, PROGRAM, {}))
        space.wait(lambda: space.get("Pod", "reload")["status"]["phase"] in ("Succeeded", "Running"), "the pod")
        space.wait(lambda: space.kubectl("logs", "reload"), "its word")
        assert space.kubectl("logs", "reload").strip() == image
        space.kubectl("delete", "pod", "reload", "--wait", "--grace-period=0", "--force")
