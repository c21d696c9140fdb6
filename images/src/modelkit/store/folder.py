"""A store in a folder of a mounted volume, which pods of several images and users share.

Every path is walked from the root's descriptor, one name at a time, and no symlink is followed: whoever may
write to the volume can't make another pod read or write outside of it, not even by swapping a folder during
the walk.
Files are group-writable, because the pods share the volume through fsGroup and run as different users.
"""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from modelkit.errors import StoreError, StoreObjectExistsError, StoreObjectNotFoundError, StorePermissionError
from modelkit.store.backend import StoredObject
from modelkit.store.paths import TEMPORARY_PREFIX

_FILE_MODE = 0o660
_PRIVATE_MODE = 0o600
_FOLDER_MODE = 0o770
_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class FolderBackend:
    """Objects as files: written under a temporary name, synced, then linked (new) or renamed (replace)."""

    __slots__ = ("_root",)

    def __init__(self, root: Path) -> None:
        self._root = root

    def read(self, segments: tuple[str, ...]) -> bytes:
        """See Backend."""
        return self._read(segments, 0, -1)

    def read_part(self, segments: tuple[str, ...], start: int, length: int) -> bytes:
        """See Backend."""
        return self._read(segments, start, length)

    def _read(self, segments: tuple[str, ...], start: int, length: int) -> bytes:
        with self._errors("read", segments), self._folder(segments[:-1]) as folder:
            descriptor = os.open(
                segments[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder
            )
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise FileNotFoundError(errno.ENOENT, "not a regular file")
                file.seek(start)
                return file.read(length)

    def write(self, segments: tuple[str, ...], data: bytes, *, replace: bool, private: bool = False) -> None:
        """See Backend."""
        name, temporary = segments[-1], TEMPORARY_PREFIX + secrets.token_hex(8)
        with self._errors("write", segments), self._folder(segments[:-1], create=True) as folder:
            try:
                _write_synced(temporary, data, folder, _PRIVATE_MODE if private else _FILE_MODE)
                if replace:
                    os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
                else:
                    _link_new(temporary, name, folder)
                os.fsync(folder)
            finally:
                with suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=folder)

    def size(self, segments: tuple[str, ...]) -> int | None:
        """See Backend."""
        with self._errors("read", segments):
            try:
                with self._folder(segments[:-1]) as folder:
                    found = os.stat(segments[-1], dir_fd=folder, follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                return None
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def list(self, segments: tuple[str, ...]) -> Iterator[StoredObject]:
        """See Backend."""
        with self._errors("list", segments):
            try:
                with self._folder(segments) as folder:
                    found = _entries(folder)
            except (FileNotFoundError, NotADirectoryError):
                return
        for name, info in found:
            below = (*segments, name)
            if stat.S_ISDIR(info.st_mode):
                yield from self.list(below)
            elif stat.S_ISREG(info.st_mode):
                yield StoredObject("/".join(below), info.st_size, datetime.fromtimestamp(info.st_mtime, tz=UTC))

    def delete(self, segments: tuple[str, ...]) -> None:
        """See Backend."""
        with (
            self._errors("delete", segments),
            suppress(FileNotFoundError),
            self._folder(segments[:-1]) as folder,
        ):
            os.unlink(segments[-1], dir_fd=folder)

    def remove_empty(self, segments: tuple[str, ...]) -> None:
        """See Backend."""
        with self._errors("delete", segments):
            try:
                with self._folder(segments[:-1]) as parent:
                    os.rmdir(segments[-1], dir_fd=parent)
            except (FileNotFoundError, NotADirectoryError):
                return
            except OSError as exc:
                # POSIX allows either for a folder that isn't empty.
                if exc.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                    raise

    @contextmanager
    def _folder(self, segments: tuple[str, ...], *, create: bool = False) -> Iterator[int]:
        if create:
            self._root.mkdir(parents=True, exist_ok=True)
        # The root itself may be reached through symlinks: the cluster's administrator mounted it.
        descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for segment in segments:
                if create:
                    _make_folder(segment, descriptor)
                below = os.open(segment, _OPEN_FOLDER, dir_fd=descriptor)
                os.close(descriptor)
                descriptor = below
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def _errors(self, verb: str, segments: tuple[str, ...]) -> Iterator[None]:
        address = f"file://{self._root.joinpath(*segments)}"
        try:
            yield
        except FileExistsError as exc:
            raise StoreObjectExistsError(f"{address} exists already") from exc
        except (FileNotFoundError, IsADirectoryError) as exc:
            raise StoreObjectNotFoundError(f"there is nothing at {address}") from exc
        except PermissionError as exc:
            raise StorePermissionError(
                f"no permission to {verb} {address}: user {os.geteuid()}, groups {os.getgroups()}; "
                "check the pod's fsGroup and the volume's access mode"
            ) from exc
        except OSError as exc:
            raise StoreError(f"can't {verb} {address}: {_explain(exc)}") from exc


def _write_synced(name: str, data: bytes, folder: int, mode: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(name, flags, mode, dir_fd=folder), "wb") as file:
        os.fchmod(file.fileno(), mode)  # whatever the umask is
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _link_new(temporary: str, name: str, folder: int) -> None:
    try:
        os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except OSError as exc:
        # link(2) answers EPERM when the file system has none; the permission to write was shown just before.
        if exc.errno in {errno.EPERM, errno.EOPNOTSUPP}:
            raise OSError(
                errno.EOPNOTSUPP,
                "the volume's file system has no hard links, which writing without overwriting needs; "
                "use another storage class",
            ) from exc
        raise


def _entries(folder: int) -> list[tuple[str, os.stat_result]]:
    found = []
    for name in sorted(os.listdir(folder)):
        # A file may be deleted, or its temporary name renamed, while the folder is read.
        with suppress(FileNotFoundError):
            if not name.startswith(TEMPORARY_PREFIX):
                found.append((name, os.stat(name, dir_fd=folder, follow_symlinks=False)))
    return found


def _make_folder(name: str, parent: int) -> None:
    try:
        os.mkdir(name, _FOLDER_MODE, dir_fd=parent)
    except FileExistsError:
        return
    # The kernel hands down the parent's setgid bit and group; a plain chmod would drop the bit.
    inherited = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode & stat.S_ISGID
    os.chmod(name, _FOLDER_MODE | inherited, dir_fd=parent)
    os.fsync(parent)


def _explain(exc: OSError) -> str:
    if exc.errno in {errno.ELOOP, errno.ENOTDIR}:
        return "a part of the path is a symlink or a file, where a folder was expected"
    if exc.errno in {errno.ENOSPC, errno.EDQUOT}:
        return "the volume is full; enlarge its claim or delete old versions and captures"
    if exc.errno == errno.EROFS:
        return "the volume is mounted read-only"
    return exc.strerror or type(exc).__name__
