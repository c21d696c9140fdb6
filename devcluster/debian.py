"""Programs that come from Debian, installed only where one is missing.

Nothing is started by installing: a package's own service (containerd's, say) would be neither needed nor wanted.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path

from devcluster.errors import DevClusterError
from devcluster.paths import locks_root
from devcluster.shell import environment, find_program, join_words, locked, run, step

_PACKAGES = {
    "containerd": "containerd",
    "ctr": "containerd",
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "mount": "mount",
    "umount": "mount",
    "buildah": "buildah",
    "debootstrap": "debootstrap",
    "prometheus": "prometheus",
    "promtool": "prometheus",
}
_CNI_FOLDERS = (Path("/usr/lib/cni"), Path("/opt/cni/bin"))
_CNI_PLUGINS = ("bridge", "host-local", "loopback", "portmap")
_CERTIFICATES = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem")
_POLICY = Path("/usr/sbin/policy-rc.d")


def require_linux() -> None:
    """:raises DevClusterError: this isn't Linux, whose namespaces and cgroups everything here is made of."""
    if platform.system() != "Linux":
        raise DevClusterError(
            f"devcluster runs on Linux only, and this is {platform.system()}: use kind-config.yaml there"
        )


def require_root(purpose: str) -> None:
    """:raises DevClusterError: the caller isn't root."""
    if os.geteuid() != 0:
        raise DevClusterError(f"{purpose} needs root: run the same command with sudo")


def ensure_programs(programs: Sequence[str]) -> None:
    """Install the packages of those programs that the machine lacks."""
    ensure_packages([_PACKAGES[name] for name in programs if find_program(name) is None])


def ensure_cni_plugins() -> Path:
    """The folder of the CNI plugins, installed when there is none that has all of ours."""
    if (folder := _find_cni_folder()) is None:
        ensure_packages(["containernetworking-plugins"])
        folder = _find_cni_folder()
    if folder is None:
        raise DevClusterError(
            f"no CNI plugins in {join_words([str(each) for each in _CNI_FOLDERS])}, even after installing"
        )
    return folder


def ensure_certificates() -> None:
    """Certificate authorities, without which Go and pip download nothing; installed only where that is possible."""
    named = os.environ.get("SSL_CERT_FILE", "")
    if not any(Path(each).is_file() for each in (*_CERTIFICATES, named) if each) and os.geteuid() == 0:
        ensure_packages(["ca-certificates"])


def ensure_packages(packages: Sequence[str]) -> None:
    """Install Debian packages, without recommendations, questions or started services.

    :raises DevClusterError: not root, or no apt-get on this machine.
    """
    missing = sorted(set(packages))
    if not missing:
        return
    names = join_words(missing)
    if find_program("apt-get") is None:
        raise DevClusterError(
            f"this machine lacks what Debian packages as {names}, and has no apt-get: install it by hand"
        )
    require_root(f"installing the Debian packages {names}")
    quiet = environment(DEBIAN_FRONTEND="noninteractive")
    apt_get = ("apt-get", "-qq", "-o", "DPkg::Lock::Timeout=600", "-o", "Acquire::Retries=3")
    with locked(locks_root() / "apt", what="installing Debian packages"), step(f"installing {names} from Debian"):
        run(*apt_get, "update", env=quiet)
        with _services_kept_stopped():
            run(*apt_get, "install", "--yes", "--no-install-recommends", *missing, env=quiet)


@contextlib.contextmanager
def _services_kept_stopped() -> Iterator[None]:
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)


def _find_cni_folder() -> Path | None:
    return next((each for each in _CNI_FOLDERS if all((each / name).exists() for name in _CNI_PLUGINS)), None)
