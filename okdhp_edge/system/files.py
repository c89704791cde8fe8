"""Atomic file and folder writes, permissions and locks."""

import errno
import glob
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from okdhp_edge.errors import OutputError

MANIFEST = ".okdhp-edge-files"
"""In a folder that a command replaces as a whole: the names of the files it wrote, a line each."""
CLOSED_PIPE_REMEDY = "the program reading the output has exited"
_OLD_SUFFIX = "-old"
_STAGING_MARKER = ".okdhp-edge-"
# Names of files that are open already.
_DESCRIPTORS = ("/dev/stdout", "/dev/stderr", "/dev/fd/", "/proc/")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically.

    Raises:
        OutputError: no permission, no space.
    """
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically.

    Raises:
        OutputError: no permission, no space.
    """
    with create_file(path) as file:
        file.write(content)


@contextmanager
def create_file(path: Path) -> Iterator[BinaryIO]:
    """A binary file that appears at `path` when the block succeeds; else nothing changes. What a
    link leads to is replaced, and into a pipe or device is written.

    Raises:
        OutputError: no permission, no space, or a folder.
    """
    if (path.exists() and not path.is_file()) or str(path).startswith(_DESCRIPTORS):
        with wrap_write_errors(path), path.open("wb") as file:
            yield file
        return
    path = Path(os.path.realpath(path))
    # Not made of the file's name, to which a file system allows no further letter.
    temporary = path.with_name(f".{os.getpid()}-{secrets.token_hex(8)}.tmp")
    with wrap_write_errors(path):
        try:
            with temporary.open("wb") as file:
                yield file
            replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def replace(temporary: Path, target: Path) -> None:
    """Rename a file that was written into its place, once its content is on the disk: after a power
    loss the old one or the new one is there, whole."""
    _sync(temporary)
    temporary.replace(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:  # a folder on file systems that cannot
        if not path.is_dir():
            raise
    finally:
        os.close(handle)


@contextmanager
def wrap_write_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write `path` into one clear line."""
    try:
        yield
    except OSError as error:
        remedy = (
            CLOSED_PIPE_REMEDY
            if error.errno == errno.EPIPE
            else "check permissions and free space, or choose another location"
        )
        raise OutputError(f"cannot write {path} ({error.strerror or error})", remedy) from error


def apply_umask(path: Path) -> None:
    """Give a file or folder the rights that this user's others get: libraries that write to
    temporary files make them private."""
    mask = os.umask(0)
    os.umask(mask)
    path.chmod((0o777 if path.is_dir() else 0o666) & ~mask)


def _finalize(folder: Path) -> None:
    """Readable as files of this user are, and on the disk."""
    for path in (*folder.rglob("*"), folder):
        apply_umask(path)
        _sync(path)


@contextmanager
def lock_folder(folder: Path, *, inside: bool = False) -> Iterator[None]:
    """While the block runs, no other process that asks works in `folder`; the lock ends with the
    process, however that ends. It lies next to the folder, so that all who can write there see the
    same one, and a link in its place is refused.

    Args:
        inside: it lies in the folder, which is not replaced as a whole.

    Raises:
        OutputError: another process does, or the place cannot be written.
    """
    path = folder.resolve()
    file = path / ".lock" if inside else path.with_name(f".{path.name}.lock")
    with wrap_write_errors(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_symlink():
            raise OutputError(f"{file} is a link", "remove it: the lock must be a regular file")
        lock = FileLock(file, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise OutputError(
                f"{folder} is being written by another process", "wait for it, or use another --out"
            ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def stage_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes `target` when the block succeeds, and vanishes otherwise;
    what killed processes have left of theirs goes too.

    `MANIFEST` in the folder lists what was written. Of a `target` that is there already only what
    its list names is replaced or removed; other files stay.

    Raises:
        OutputError: the place cannot be written, or a file of the same name is not on the list.
    """
    new_parent = not target.parent.exists()
    with wrap_write_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        prefix = f".{target.name}{_STAGING_MARKER}{os.getpid()}-"
        staging = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    old = staging.with_name(f"{staging.name}{_OLD_SUFFIX}")
    try:
        with wrap_write_errors(target):
            yield staging
            _write_manifest(staging, _list_names(staging))
            if target.exists():
                _check_replaceable(target, staging)
            _finalize(staging)
            if target.exists():
                # Aside first: whatever fails now, the old one or the new one is whole.
                target.rename(old)
            staging.rename(target)
            _sync(target.parent)
    finally:
        if old.exists() and not target.exists():
            old.rename(target)
        if old.exists():
            _retire(old, target)
        shutil.rmtree(staging, ignore_errors=True)
        if new_parent and not any(target.parent.iterdir()):
            target.parent.rmdir()


def _list_names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}


def _write_manifest(folder: Path, names: set[str]) -> None:
    write_bytes(folder / MANIFEST, "".join(f"{name}\n" for name in sorted(names)).encode())


def _read_manifest(folder: Path) -> set[str]:
    """What `stage_folder` wrote there."""
    try:
        names = (folder / MANIFEST).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return set()
    return {*names, MANIFEST}


def add_to_manifest(folder: Path, files: Sequence[Path]) -> None:
    """List files that were written into a folder of `stage_folder` afterwards as its own."""
    names = _read_manifest(folder) | {file.relative_to(folder).as_posix() for file in files}
    _write_manifest(folder, names - {MANIFEST})


def copy_listed(folder: Path, below: str, target: Path) -> None:
    """Copy the files that `folder` lists as its own, and that lie in its subfolder `below`."""
    for name in sorted(_read_manifest(folder) & _list_names(folder)):
        if name.startswith(f"{below}/"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(folder / name, target / name)


def _check_replaceable(target: Path, staging: Path) -> None:
    if not target.is_dir() or target.is_symlink():
        raise OutputError(f"{target} is not a separate folder", "choose another location")
    foreign = sorted((_list_names(target) - _read_manifest(target)) & _list_names(staging))
    if foreign:
        raise OutputError(
            f"{target / foreign[0]} was not written by this program", "move it, or change --out"
        )


def _retire(old: Path, target: Path) -> None:
    """Remove from a replaced folder what its list names; what is not ours moves to the new one."""
    ours = _read_manifest(old)
    for name in sorted(_list_names(old)):
        if name in ours:
            (old / name).unlink(missing_ok=True)
        elif not (target / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (old / name).rename(target / name)
    for folder in sorted((p for p in old.rglob("*") if p.is_dir()), reverse=True):
        with suppress(OSError):
            folder.rmdir()
    with suppress(OSError):  # something of this name was made meanwhile: it stays where it is
        old.rmdir()


def _sweep(target: Path) -> None:
    """Put the old result back where a process was killed between two renames, and remove the
    temporary folders of processes that are no more."""
    prefix = f".{target.name}{_STAGING_MARKER}"
    for path in sorted(target.parent.glob(f"{glob.escape(prefix)}*-*")):
        number = path.name.removeprefix(prefix).split("-")[0]
        if not number.isdecimal() or _is_running(int(number)):
            continue
        if not path.name.endswith(_OLD_SUFFIX):
            shutil.rmtree(path, ignore_errors=True)
        elif target.exists():
            _retire(path, target)
        else:
            path.rename(target)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's, or no number of a process
        return True
    return True
