"""Folders on any file system that fsspec knows; a file appears whole or not at all."""

import posixpath
import secrets
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO, cast

import fsspec

from okdhp_edge.errors import OkdhpError, OutputError, SourceError
from okdhp_edge.system.files import create_file, lock_folder

# An upload appears when it is complete.
_ATOMIC_UPLOADS = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "memory"}


def find_file_system(url: str, refusal: type[OkdhpError]) -> tuple[Any, str]:
    """The file system of a path or URL, and the path in it.

    Args:
        refusal: raised where the file system is unknown, or its package is not installed.
    """
    try:
        if "://" not in url:  # `::` in a file's name is no chain of file systems
            return fsspec.filesystem("file"), str(Path(url).absolute())
        fs, path = fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise refusal(f"{url} cannot be reached ({error})", "install its package") from error
    return fs, str(path)


@contextmanager
def wrap_read_errors(url: str, fs: Any) -> Iterator[None]:
    """Turn whatever the package of a remote file system raises into one line."""
    try:
        yield
    except (OkdhpError, MemoryError):
        raise
    except Exception as error:
        if is_local(fs) and not isinstance(error, OSError):
            raise
        reason = getattr(error, "strerror", None) or error
        raise SourceError(
            f"{url} cannot be read ({reason})", "check the file and its permissions"
        ) from error


@contextmanager
def _wrap_errors(path: str) -> Iterator[None]:
    """Turn whatever a file system's package raises into one line: not all of it is an OSError."""
    try:
        yield
    except Exception as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(
            f"{path} cannot be written ({reason})", "check permissions and free space"
        ) from error


def is_local(fs: Any) -> bool:
    """Whether a file system is this machine's."""
    return "file" in _get_protocols(fs)


def _get_protocols(fs: Any) -> set[str]:
    return {fs.protocol} if isinstance(fs.protocol, str) else set(fs.protocol)


class Storage:
    """A folder by its path or URL (`out`, `s3://bucket/out`, `memory://out`).

    Raises:
        OutputError: the file system is unknown, or its package is not installed.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self._fs, root = find_file_system(url, OutputError)
        self._root = root.rstrip("/")
        self._local = is_local(self._fs)

    def _path(self, name: str) -> str:
        return posixpath.join(self._root, name) if name else self._root

    def exists(self, name: str) -> bool:
        """Whether a file or folder is there."""
        return bool(self._fs.exists(self._path(name)))

    def read(self, name: str) -> bytes:
        """A file's content.

        Raises:
            OSError: it cannot be read.
        """
        return bytes(self._fs.cat_file(self._path(name)))

    def open(self, name: str) -> BinaryIO:
        """A file for reading.

        Raises:
            OSError: it cannot be read.
        """
        return cast(BinaryIO, self._fs.open(self._path(name), "rb"))

    def write(self, name: str, content: bytes) -> None:
        """Write a file.

        Raises:
            OutputError: it cannot be written.
        """
        with self.create(name) as file:
            file.write(content)

    @contextmanager
    def create(self, name: str) -> Iterator[BinaryIO]:
        """A file for writing, which appears whole when the block succeeds. On object stores the
        upload completes at its end; elsewhere it is written under another name and renamed.

        Raises:
            OutputError: it cannot be written.
        """
        path = self._path(name)
        with _wrap_errors(path):
            self._fs.makedirs(posixpath.dirname(path), exist_ok=True)
        if self._local:
            with create_file(Path(path)) as file:
                yield file
            return
        with tempfile.NamedTemporaryFile() as copy:
            yield cast(BinaryIO, copy)
            with _wrap_errors(path):
                copy.flush()
                self._upload(copy.name, path)

    def _upload(self, local: str, path: str) -> None:
        if _ATOMIC_UPLOADS & _get_protocols(self._fs):
            self._fs.put_file(local, path)
            return
        temporary = f"{path}.{secrets.token_hex(8)}.tmp"
        try:
            self._fs.put_file(local, temporary)
            if self._fs.exists(path):  # not all rename onto a file
                self._fs.rm_file(path)
            self._fs.mv(temporary, path)
        except Exception:
            with suppress(Exception):
                self._fs.rm_file(temporary)
            raise

    def lock(self) -> AbstractContextManager[None]:
        """While it is held no other process of this machine that asks writes here; other file
        systems have no locks.

        Raises:
            OutputError: another one does.
        """
        # Inside: what it lies in may be another's, such as a container's root.
        return lock_folder(Path(self._root), inside=True) if self._local else nullcontext()

    def list(self, name: str) -> Sequence[str]:
        """Names of the files in a folder, sorted; none where it does not exist."""
        try:
            found = self._fs.ls(self._path(name), detail=False)
        except FileNotFoundError:
            return ()
        return sorted(posixpath.basename(str(path).rstrip("/")) for path in found)

    def remove(self, name: str) -> None:
        """Remove a file or folder; nothing where it does not exist."""
        if self.exists(name):
            self._fs.rm(self._path(name), recursive=True)
