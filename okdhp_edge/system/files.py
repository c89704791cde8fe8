"""Writing so that whatever happens leaves the old or the new, whole: renames, rights, locks."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from okdhp_edge.errors import OutputError

_OLD = "-old"


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
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with writing(path):
        try:
            temporary.write_bytes(content)
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
def writing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal to write `path` into one clear line."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"cannot write {path} ({error.strerror or error})",
            "check permissions and free space, or choose another place",
        ) from error


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
def exclusive(folder: Path) -> Iterator[None]:
    """While the block runs, nobody else who asks works in `folder`; the lock ends with the process,
    however that ends.

    Raises:
        OutputError: somebody does, or the place cannot be written.
    """
    lock = _lock_of(folder)
    with writing(lock):
        lock.parent.mkdir(mode=0o700, exist_ok=True)
        handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if not _locked(handle):
            holder = os.read(handle, 20).decode("ascii", "replace").strip() or "another one"
            raise OutputError(
                f"{folder} is being written by process {holder}", "wait for it, or choose --out"
            )
        with writing(lock):
            os.ftruncate(handle, 0)
            os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)


def _lock_of(folder: Path) -> Path:
    """Not in the folder itself, where it would be one file more to wonder about."""
    user = os.getuid() if hasattr(os, "getuid") else 0
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:32]
    return Path(tempfile.gettempdir()) / f"okdhp-edge-{user}" / f"{name}.lock"


def _locked(handle: int) -> bool:
    """Take the lock of an open file; where the system has none it is taken."""
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # file systems without locks
        return True
    return True


@contextmanager
def staged_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes `target` when the block succeeds, and vanishes otherwise;
    what processes that were killed have left of theirs goes too.

    Raises:
        OutputError: the place cannot be written.
    """
    new_parent = not target.parent.exists()
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target)
        prefix = f".{target.name}-{os.getpid()}-"
        staging = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    old = staging.with_name(f"{staging.name}{_OLD}")
    try:
        with writing(target):
            yield staging
            _finalize(staging)
            if target.exists():
                # Aside first: whatever fails now, the old one or the new one is whole.
                target.rename(old)
            staging.rename(target)
            _sync(target.parent)
    finally:
        if old.exists() and not target.exists():
            old.rename(target)
        shutil.rmtree(old, ignore_errors=True)
        shutil.rmtree(staging, ignore_errors=True)
        if new_parent and not any(target.parent.iterdir()):
            target.parent.rmdir()


def _sweep(target: Path) -> None:
    """Put the old result back where a process was killed between two renames, and remove the
    temporary folders of processes that are no more."""
    for path in sorted(target.parent.glob(f".{target.name}-*-*")):
        number = path.name.removeprefix(f".{target.name}-").split("-")[0]
        if not number.isdigit() or _runs(int(number)):
            continue
        if path.name.endswith(_OLD) and not target.exists():
            path.rename(target)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's, or no number of a process
        return True
    return True
