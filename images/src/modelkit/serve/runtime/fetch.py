"""`python -m modelkit.serve.runtime.fetch`: lay a verified version out for another model server, as an init container.

It has the configuration of the server beside it (MODELLOOP_CONFIG) and its exit codes: 0 when the files are there,
2 when the version can't be served, 1 when the store can't be reached; the reason is left in the termination log.

Every file's size and sha256 are checked against the manifest, whose digest the operator named (and, with a public key,
whose signature is verified), before the file gets its name. Files are written as a stream: a model may be larger than
the container's memory. They are read-only and never executable.
"""

import hashlib
import logging
import os
import shutil
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from modelkit.artifact.signing import verify_version
from modelkit.artifact.version import (
    DigestMismatchError,
    FileEntry,
    Manifest,
    VersionNotFoundError,
    read_manifest_of,
)
from modelkit.contract import files
from modelkit.contract.config import RuntimeConfig, ServerConfig, VersionRef
from modelkit.contract.environment import ExitCode
from modelkit.errors import ModelKitError, RefusedError, StoreError
from modelkit.logs import set_up_logging
from modelkit.serve.outcome import exit_code_of, reason_of, write_reason
from modelkit.serve.runtime.layout import lay_out, model_path
from modelkit.serve.settings import read_settings, termination_log
from modelkit.store.store import Store

logger = logging.getLogger(__name__)

MODELS = "MODELLOOP_MODELS"
"""Environment variable: another folder of models than RUNTIME_MODELS."""
_PART_BYTES = 8 * 1024 * 1024
_READ_ONLY = 0o444


def main(environ: Mapping[str, str]) -> int:
    """Fetch the configured version; returns the exit code."""
    signal.signal(signal.SIGTERM, _stop)
    set_up_logging()
    os.umask(0o022)  # The runtime may run as another user.
    try:
        config = read_settings(environ).config
        folder = Path(environ.get(MODELS, files.RUNTIME_MODELS))
        found = fetch_for_runtime(config, Store.open(config.store, environ), folder)
    except ModelKitError as exc:
        logger.error("the version isn't laid out", extra={"reason": reason_of(exc), "cause": str(exc)})
        write_reason(termination_log(environ), exc)
        return exit_code_of(exc)
    logger.info("the version is laid out", extra={"folder": str(found), "digest": config.version.digest})
    return ExitCode.DONE


def fetch_for_runtime(config: ServerConfig, store: Store, folder: Path) -> Path:
    """Lay the version of `config` out below `folder`; returns the version's own folder.

    What an earlier attempt left of the model is removed first. Raises ArtifactError when what is stored isn't the
    version, RefusedError for a configuration without a runtime or a key that can't be used, StoreError when the store
    can't be read or the volume not be written.
    """
    runtime = _runtime_of(config)
    if config.public_key is not None:
        verify_version(store, config.version, Path(config.public_key))
    manifest = read_manifest_of(store, config.version)
    places = lay_out(manifest.files, runtime.model_name, config.version.number)
    try:
        shutil.rmtree(folder / runtime.model_name, ignore_errors=True)
        for name in sorted(places):
            _fetch(store, config.version, manifest, name, folder / places[name])
    except OSError as exc:
        raise StoreError(
            f"the version can't be written to {folder} ({exc.strerror}); it takes "
            f"{sum(manifest.files[name].size for name in places)} bytes",
        ) from exc
    return folder / model_path(runtime.model_name, config.version.number)


def _runtime_of(config: ServerConfig) -> RuntimeConfig:
    if config.runtime is None:
        raise RefusedError("BadConfig", "the configuration names no runtime to lay the version out for")
    return config.runtime


def _fetch(store: Store, ref: VersionRef, manifest: Manifest, name: str, target: Path) -> None:
    """Stream one file to a temporary name, and give it its own when its digest is right."""
    entry, path = manifest.files[name], f"{ref.path}/{name}"
    found = store.size(path)
    if found is None:
        raise VersionNotFoundError(f"the file {name} of the version {ref.path} is missing; train again")
    if found != entry.size:
        raise _changed(name, ref, entry)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name[:200]}.part")
    digest = hashlib.sha256()
    with temporary.open("wb") as out:
        for start in range(0, entry.size, _PART_BYTES):
            part = store.read_part(path, start, min(_PART_BYTES, entry.size - start))
            digest.update(part)
            out.write(part)
    if digest.hexdigest() != entry.sha256:
        temporary.unlink()
        raise _changed(name, ref, entry)
    temporary.chmod(_READ_ONLY)
    temporary.replace(target)


def _changed(name: str, ref: VersionRef, entry: FileEntry) -> DigestMismatchError:
    return DigestMismatchError(
        f"the file {name} of the version {ref.path} isn't what its manifest says ({entry.size} bytes with sha256 "
        f"{entry.sha256}): it was changed after it was written"
    )


def _stop(sig: int, frame: FrameType | None) -> None:
    del sig, frame
    raise SystemExit(ExitCode.DONE)


if __name__ == "__main__":
    sys.exit(main(os.environ))
