"""The image that all others begin with.

The Dockerfiles name a public one. Where that can't be pulled, the same distribution with the same Python is put
together from Debian's own packages, once, and kept in the local image store.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from devcluster import debian, mounts
from devcluster.engine import Engine, buildah, find_engine, pull, read_image_id
from devcluster.paths import cache_root
from devcluster.shell import find_program, locked, require_free_space, run, say, step
from devcluster.versions import DEBIAN_SUITE, DEFAULT_BASE_IMAGE

_PACKAGES: Final = ("ca-certificates", "python-is-python3", "python3", "python3-venv", "tzdata")
_STRIPPED: Final = (
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/cache/debconf",
    "var/lib/apt/lists",
    "var/log",
)
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def local_reference() -> str:
    """The name of the image made here; it changes with what goes into it."""
    key = hashlib.sha256("\0".join((DEBIAN_SUITE, *_PACKAGES, *_STRIPPED)).encode()).hexdigest()[:8]
    return f"localhost/modelloop-base:{DEBIAN_SUITE}-{key}"


def ensure_base_image() -> str:
    """The reference of a base image that the local store has: the public one if it can be had, else one made here."""
    engine = find_engine()
    for reference in (DEFAULT_BASE_IMAGE, local_reference()):
        if read_image_id(engine, reference) is not None:
            return reference
    with locked(cache_root() / "base-image.lock", what="making the base image"):
        if read_image_id(engine, local_reference()) is not None:
            return local_reference()
        say(f"looking for {DEFAULT_BASE_IMAGE}")
        if pull(engine, DEFAULT_BASE_IMAGE):
            return DEFAULT_BASE_IMAGE
        with step(f"it can't be pulled: making {local_reference()} from Debian packages"):
            _make(engine, local_reference())
    return local_reference()


def _make(engine: Engine, reference: str) -> None:
    debian.require_root("making a base image")
    debian.ensure_programs(["debootstrap"])
    if not _KEYRING.exists():
        debian.ensure_packages(["debian-archive-keyring"])
    parent = cache_root() / "base-image"
    mounts.remove_tree(parent)
    require_free_space(parent, 2, "the base image")
    parent.mkdir(parents=True)
    try:
        root = parent / "root"
        options = ("--variant=minbase", f"--include={','.join(_PACKAGES)}")
        run("debootstrap", *options, DEBIAN_SUITE, root, *_find_mirror())
        _strip(root)
        archive = parent / "root.tar"
        run("tar", "--create", "--numeric-owner", "--file", archive, "--directory", root, ".")
        _import(engine, archive, reference)
    finally:
        mounts.remove_tree(parent)


def _find_mirror() -> Sequence[str]:
    """The mirror that this machine takes the same distribution from; otherwise debootstrap knows one itself."""
    if find_program("apt-get") is None:
        return ()
    query = ("apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages")
    lines = [line.split() for line in run(*query).splitlines()]
    found = [words[0] for words in lines if len(words) == 2 and words[1] == DEBIAN_SUITE]
    return found[:1]


def _strip(root: Path) -> None:
    for folder in _STRIPPED:
        for entry in (root / folder).glob("*"):
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    for path in (root / "usr/share/doc").rglob("*"):
        if not path.is_dir() and path.name != "copyright":
            path.unlink()
    # What debootstrap copied from this machine.
    for name in ("etc/resolv.conf", "etc/hostname"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(root / name)


def _import(engine: Engine, archive: Path, reference: str) -> None:
    if engine is Engine.DOCKER:
        run(
            "docker",
            "import",
            "--change",
            f"ENV PATH={_PATH} LANG=C.UTF-8",
            "--change",
            'CMD ["python3"]',
            archive,
            reference,
        )
        return
    with buildah() as command:
        container = run(*command, "from", "scratch").strip()
        try:
            run(*command, "add", "--quiet", container, archive, "/")
            settings = ("--env", f"PATH={_PATH}", "--env", "LANG=C.UTF-8", "--cmd", "python3")
            run(*command, "config", *settings, container)
            run(*command, "commit", "--quiet", container, reference)
        finally:
            run(*command, "rm", container)
