"""Run a module in a child process, so that a crash there does not end the command."""

import subprocess
import sys


def run_module(
    module: str, *arguments: str, timeout_s: float
) -> subprocess.CompletedProcess[bytes]:
    """Run `python -m module`; the exit code is the negative number of a signal that ended it.

    Raises:
        subprocess.TimeoutExpired: it took longer.
    """
    # -P: a file named numpy.py in the working directory is not imported.
    command = [sys.executable, "-P", "-m", module, *arguments]
    return subprocess.run(command, capture_output=True, timeout=timeout_s, check=False)  # noqa: S603


def limit_memory(max_bytes: int) -> None:
    """In a child: what would take this process beyond so many bytes of address space fails. Without
    effect where the system has no such limits."""
    try:
        import resource
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (max_bytes, hard))


def read_last_words(child: subprocess.CompletedProcess[bytes]) -> str:
    """The last line on its standard error, or else its exit code."""
    lines = child.stderr.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit code {child.returncode}"
