"""Image archives, names, and what a build is told about the machine."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from devcluster import build_settings, images, oci
from devcluster.errors import DevClusterError


def test_a_program_image_is_a_layout_whose_digests_hold(tmp_path: Path) -> None:
    program = tmp_path / "pause"
    program.write_bytes(b"\x7fELF")

    oci.write_program_image(tmp_path / "image.tar", program, "localhost/pause:1")

    with tarfile.open(tmp_path / "image.tar") as tar:
        files = {entry.name: tar.extractfile(entry) for entry in tar}
        content = {name: source.read() for name, source in files.items() if source is not None}
    blobs = {name.removeprefix("blobs/sha256/"): blob for name, blob in content.items() if name.startswith("blobs/")}
    assert all(oci.digest(blob) == f"sha256:{name}" for name, blob in blobs.items())
    index = json.loads(content["index.json"])["manifests"][0]
    assert index["annotations"]["io.containerd.image.name"] == "localhost/pause:1"
    manifest = json.loads(blobs[index["digest"].removeprefix("sha256:")])
    config = json.loads(blobs[manifest["config"]["digest"].removeprefix("sha256:")])
    layer = manifest["layers"][0]["digest"]
    assert config["rootfs"]["diff_ids"] == [layer]
    with tarfile.open(fileobj=io.BytesIO(blobs[layer.removeprefix("sha256:")])) as tar:
        assert [(entry.name, entry.mode) for entry in tar] == [("pause", 0o755)]


@pytest.mark.parametrize("reference", ["localhost/a:dev", "registry.example.org/a", "host:5000/a/b:1"])
def test_a_name_with_a_registry_is_accepted(reference: str) -> None:
    images.require_registry(reference)


@pytest.mark.parametrize("reference", ["a:dev", "modelloop/a:dev"])
def test_a_name_without_a_registry_is_refused(reference: str) -> None:
    with pytest.raises(DevClusterError, match=f"localhost/{reference}"):
        images.require_registry(reference)


def test_later_pip_settings_win_and_only_locations_pass() -> None:
    machine = build_settings.read_pip_config("[global]\nindex-url = https://a.example\ntimeout = 5\n")
    user = build_settings.read_pip_config("[install]\nindex_url = https://b.example\nno-binary = :all:\n")
    environment = {"PIP_TIMEOUT": "9", "PIP_CERT": "/x", "PIP_FIND_LINKS": "/w1 /w2", "PIP_NO_INDEX": "", "HOME": "/"}

    merged = build_settings.merge_pip_settings([machine, user], environment)

    assert merged == {"index-url": "https://b.example", "timeout": "9", "find-links": "/w1 /w2"}


def test_a_written_pip_configuration_reads_back() -> None:
    text = build_settings.format_pip_config({"find-links": "/w1 /w2", "timeout": "9"}, has_certificates=True)

    assert build_settings.read_pip_config(text) == {
        "find-links": "\n/w1\n/w2",
        "timeout": "9",
        "cert": str(build_settings.CERTIFICATES),
    }


def test_images_in_the_cluster_are_known_by_the_digest_of_their_configuration() -> None:
    listing = """REF TYPE DIGEST SIZE PLATFORMS LABELS
localhost/a:dev application/vnd.oci.image.manifest.v1+json sha256:m1 1.0 MiB linux/amd64 -
localhost/b:dev application/vnd.oci.image.manifest.v1+json sha256:m2 1.0 MiB linux/amd64 io.cri-containerd.image=managed
localhost/new:dev application/vnd.oci.image.manifest.v1+json sha256:m3 1.0 MiB linux/amd64 -
sha256:c1 application/vnd.oci.image.manifest.v1+json sha256:m1 1.0 MiB linux/amd64 io.cri-containerd.image=managed
sha256:c2 application/vnd.oci.image.manifest.v1+json sha256:m2 1.0 MiB linux/amd64 io.cri-containerd.image=managed
"""

    assert images.parse_loaded(listing) == {"localhost/a:dev": "c1", "localhost/b:dev": "c2"}
    assert images.parse_loaded("REF TYPE DIGEST SIZE PLATFORMS LABELS\n") == {}
