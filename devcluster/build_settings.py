"""What an image build on this machine needs to reach packages: its certificate authorities and pip's settings.

They are mounted into the build and never become part of the image: another machine has others.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CERTIFICATES: Final = Path("/etc/ssl/certs/ca-certificates.crt")
"""Where Debian's programs, hence those in the images, look for certificate authorities."""
PIP_CONFIG: Final = Path("/etc/pip.conf")
_LOCATIONS: Final = frozenset(
    {"extra-index-url", "find-links", "index-url", "no-index", "proxy", "retries", "timeout", "trusted-host"}
)
"""The settings that say where packages come from; what pip does with them is the Dockerfile's matter."""


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """Files and folders of the host, and where a build is to see them, read-only."""

    mounts: tuple[tuple[Path, Path], ...] = ()


def read_build_settings(scratch: Path) -> BuildSettings:
    """Gather the settings of this machine and user; a pip configuration is written into `scratch`."""
    mounts: list[tuple[Path, Path]] = []
    named = (os.environ.get(name, "") for name in ("PIP_CERT", "SSL_CERT_FILE"))
    certificates = next((Path(path) for path in (*named, str(CERTIFICATES)) if path and Path(path).is_file()), None)
    if certificates is not None:
        mounts.append((certificates, CERTIFICATES))
    files = [read_pip_config(path.read_text()) for path in _pip_config_files() if path.is_file()]
    settings = merge_pip_settings(files, os.environ)
    if settings or certificates is not None:
        written = scratch / PIP_CONFIG.name
        written.write_text(format_pip_config(settings, has_certificates=certificates is not None))
        mounts.append((written, PIP_CONFIG))
    folders = [Path(word) for word in settings.get("find-links", "").split() if word.startswith("/")]
    mounts += [(folder, folder) for folder in folders if folder.exists()]
    return BuildSettings(tuple(mounts))


def read_pip_config(text: str) -> dict[str, str]:
    """What a pip configuration says for `install`."""
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    return {
        name.replace("_", "-"): value
        for section in ("global", "install")
        if parser.has_section(section)
        for name, value in parser.items(section)
    }


def merge_pip_settings(files: Iterable[Mapping[str, str]], environment: Mapping[str, str]) -> dict[str, str]:
    """Where packages come from: later files win over earlier ones, PIP_… variables over files, as pip has it."""
    merged: dict[str, str] = {}
    for each in files:
        merged.update(each)
    prefix = "PIP_"
    for name, value in environment.items():
        if name.startswith(prefix) and value:
            merged[name.removeprefix(prefix).lower().replace("_", "-")] = value
    return {name: value for name, value in merged.items() if name in _LOCATIONS}


def format_pip_config(settings: Mapping[str, str], *, has_certificates: bool) -> str:
    """A pip configuration for inside a build."""
    lines = ["[global]"]
    for name, value in sorted(settings.items()):
        words = value.split()
        lines += [f"{name} = {words[0]}"] if len(words) == 1 else [f"{name} =", *(f"    {word}" for word in words)]
    if has_certificates:
        lines.append(f"cert = {CERTIFICATES}")
    return "\n".join(lines) + "\n"


def _pip_config_files() -> tuple[Path, ...]:
    home = Path.home()
    named = os.environ.get("PIP_CONFIG_FILE", "")
    return (PIP_CONFIG, home / ".pip/pip.conf", home / ".config/pip/pip.conf", *((Path(named),) if named else ()))
