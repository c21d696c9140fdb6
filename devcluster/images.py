"""Building images, and getting them from the local store into a cluster.

Loading is what a rebuild-and-try loop waits for, so nothing is done twice: an image the cluster already has is skipped,
and of a new one only the layers that the cluster lacks are sent, uncompressed. All images of one call go together.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from devcluster import node, oci
from devcluster.build_settings import BuildSettings, read_build_settings
from devcluster.engine import Engine, buildah, find_engine, read_image_id
from devcluster.errors import DevClusterError
from devcluster.layout import Layout
from devcluster.shell import environment, require_free_space, run, say, step, succeeds, wait_until

_WORTH_HANDING_OVER = 1 << 20


def build_image(dockerfile: Path, tag: str, context: Path, base_image: str | None = None) -> None:
    """Build an image into the local store; the builder's own output goes to standard error.

    :param base_image: the build argument BASE_IMAGE; None leaves the Dockerfile's own.
    :raises DevClusterError: the build failed.
    """
    engine = find_engine()
    arguments = [] if base_image is None else [f"--build-arg=BASE_IMAGE={base_image}"]
    arguments += [f"--file={dockerfile.resolve()}", f"--tag={tag}", str(context.resolve())]
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as cleanup:
        settings = read_build_settings(Path(scratch))
        if engine is Engine.DOCKER:
            command = ["docker", "build", "--network=host", *_docker_secrets(settings), *arguments]
        else:
            mounts = [f"--volume={source}:{target}:ro" for source, target in settings.mounts]
            options = ("--isolation=chroot", "--network=host", "--layers", *mounts)
            command = [*cleanup.enter_context(buildah()), "bud", *options, *arguments]
        say(f"building {tag} with {engine}")
        done = subprocess.run(command, stdout=2, stdin=subprocess.DEVNULL, env=environment(), check=False)
    if done.returncode != 0:
        raise DevClusterError(f"building {tag} from {dockerfile} failed; {engine} says why above")


def _docker_secrets(settings: BuildSettings) -> list[str]:
    """Docker mounts only secrets into a build; a Dockerfile takes them by RUN --mount=type=secret,id=pip.conf."""
    if not settings.mounts or not succeeds("docker", "buildx", "version"):
        return []
    return [f"--secret=id={target.name},src={source}" for source, target in settings.mounts if source.is_file()]


def load_images(layout: Layout, references: Sequence[str]) -> None:
    """Copy images of the local store into the cluster's containerd.

    :raises DevClusterError: an image isn't in the store, or its name has no registry part.
    """
    engine = find_engine()
    loaded = _read_loaded(layout)
    missing = {}
    for reference in dict.fromkeys(references):
        require_registry(reference)
        identity = read_image_id(engine, reference)
        if identity is None:
            raise DevClusterError(f"there is no image {reference} in {engine}'s store: build it by `build-image` first")
        if loaded.get(reference) != identity:
            missing[reference] = identity
    if not missing:
        return
    require_free_space(layout.root, 4, "loading images")
    with step(f"loading {', '.join(missing)}"):
        if engine is Engine.DOCKER:
            _load_from_docker(layout, list(missing))
        else:
            _load_from_buildah(layout, list(missing))
        _have_named_again(layout, list(missing))
        wait_until(
            lambda: missing.items() <= _read_loaded(layout).items(), seconds=30, what="the kubelet's seeing of them"
        )


def _have_named_again(layout: Layout, references: Sequence[str]) -> None:
    """The kubelet's side names only images without its label, and an import leaves the label of the image before."""
    for reference in references:
        node.run_ctr(layout, "images", "label", reference, "io.cri-containerd.image=")


def require_registry(reference: str) -> None:
    """kubelet takes a name without a registry for one of a public registry, and never finds the local image."""
    host = reference.partition("/")[0]
    if "/" not in reference or not (host == "localhost" or "." in host or ":" in host):
        raise DevClusterError(f"the image {reference} names no registry: name it localhost/{reference}")


def parse_loaded(listing: str) -> dict[str, str]:
    """Name to digest of the configuration, out of what `ctr images list` prints.

    The kubelet's side of containerd names every image a second time, by that digest; the two share their manifest.
    """
    manifests = {words[0]: words[2] for words in map(str.split, listing.splitlines()[1:]) if len(words) > 2}
    configurations = {manifest: name for name, manifest in manifests.items() if name.startswith("sha256:")}
    return {
        name: configurations[manifest].removeprefix("sha256:")
        for name, manifest in manifests.items()
        if not name.startswith("sha256:") and manifest in configurations
    }


def _read_loaded(layout: Layout) -> dict[str, str]:
    return parse_loaded(node.run_ctr(layout, "images", "list"))


def _load_from_buildah(layout: Layout, references: Sequence[str]) -> None:
    try:
        _import_from_buildah(layout, references, hand_over=True)
    except DevClusterError:
        # containerd's garbage collector may come before the images that hold a layer are known.
        _import_from_buildah(layout, references, hand_over=False)


def _import_from_buildah(layout: Layout, references: Sequence[str], *, hand_over: bool) -> None:
    present = set(node.run_ctr(layout, "content", "list", "--quiet").split())
    blobs: dict[str, bytes | Path] = {}
    manifests = []
    # Beside the cluster, so that layers can be moved into it without copying.
    with tempfile.TemporaryDirectory(prefix="images-", dir=layout.root) as scratch, buildah() as command:
        for number, reference in enumerate(references):
            # The oci: transports compress whatever they are told; dir: obeys.
            folder = Path(scratch) / str(number)
            run(*command, "push", "--quiet", "--disable-compression", "--format=oci", reference, f"dir:{folder}")
            manifest = (folder / "manifest.json").read_bytes()
            manifests.append(oci.describe_image(manifest, reference))
            blobs[oci.digest(manifest)] = manifest
            for path in folder.iterdir():
                name = f"sha256:{path.name}"
                if len(path.name) != 64 or name in blobs or name in present:
                    path.unlink()
                elif not (hand_over and _hand_over(layout, path)):
                    blobs[name] = path
        with _importing(layout) as stream:
            oci.write_archive(stream, {"schemaVersion": 2, "manifests": manifests}, blobs)


def _hand_over(layout: Layout, blob: Path) -> bool:
    """Give containerd a layer by a second link to the file instead of sending, hashing and writing it once more.

    containerd lets a namespace have any blob that its store holds to who names digest and size (its sharing policy
    `shared`, the default). False where that doesn't work; the layer then has to be sent.
    """
    store = layout.root / "containerd/root/io.containerd.content.v1.content/blobs/sha256"
    size = blob.stat().st_size
    if size < _WORTH_HANDING_OVER:
        return False
    name = f"sha256:{blob.name}"
    command = node.build_ctr_command(
        layout, "content", "ingest", f"--expected-digest={name}", f"--expected-size={size}", f"load-{blob.name}"
    )
    with suppress(OSError), blob.open("rb") as source:
        store.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            (store / blob.name).hardlink_to(blob)
        done = subprocess.run(command, stdin=source, capture_output=True, env=environment(), check=False)
        if done.returncode == 0:
            # Else nothing keeps it until the image that needs it is imported.
            node.run_ctr(layout, "content", "label", name, f"containerd.io/gc.root={datetime.now(UTC).isoformat()}")
            return True
    return False


def _load_from_docker(layout: Layout, references: Sequence[str]) -> None:
    saving = subprocess.Popen(["docker", "save", *references], stdout=subprocess.PIPE, env=environment())
    with saving, _importing(layout) as stream:
        assert saving.stdout is not None
        shutil.copyfileobj(saving.stdout, stream, 1 << 20)
    if saving.returncode != 0:
        raise DevClusterError(f"`docker save` failed with exit code {saving.returncode}")


@contextmanager
def _importing(layout: Layout) -> Iterator[IO[bytes]]:
    """A stream that containerd reads an image archive from."""
    command = node.build_ctr_command(layout, "images", "import", "-")
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment()
    ) as importing:
        assert importing.stdin is not None
        assert importing.stdout is not None
        with suppress(BrokenPipeError):
            yield importing.stdin
            importing.stdin.close()
        said = importing.stdout.read().decode(errors="replace").strip()
    if importing.returncode != 0:
        raise DevClusterError(f"containerd refuses the image archive: {said[-1000:]}")
