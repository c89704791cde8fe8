"""MATLAB files, read by SciPy in a child process: a broken one crashes SciPy's reader, not ours."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.errors import DataError
from okdhp_edge.system.child import limit_memory, read_last_words, run_module

_READ_TIMEOUT_S = 120
# What a compressed variable claims is allocated before it is read.
_MAX_BYTES = 3 << 29


def read_matlab(path: Path, variable: str) -> NDArray[np.float64]:
    """The array `variable` of a `.mat` file, as float64.

    Raises:
        DataError: the file is no MATLAB file, is broken, or lacks the variable.
    """
    import scipy.io  # noqa: F401  # where it is missing, the command says so

    remedy = "download it again"
    try:
        child = run_module(
            "okdhp_edge.data.matlab", str(path.resolve()), variable, timeout_s=_READ_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{path} could not be read within {_READ_TIMEOUT_S} s", remedy) from error
    if child.returncode < 0:
        raise DataError(f"{path} is damaged: it crashes SciPy's reader", remedy)
    if child.returncode:
        raise DataError(f"{path} has no readable '{variable}' ({read_last_words(child)})", remedy)
    return np.asarray(np.load(io.BytesIO(child.stdout), allow_pickle=False), dtype=np.float64)


def _write_array(path: str, variable: str) -> None:
    """The child: the array in NumPy's format on standard output."""
    from scipy.io import loadmat

    limit_memory(_MAX_BYTES)
    array = np.asarray(loadmat(path, variable_names=[variable])[variable], dtype=np.float64)
    # NumPy asks a buffered file for its position, which a pipe does not have.
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    sys.stdout.buffer.write(buffer.getvalue())


if __name__ == "__main__":
    _write_array(*sys.argv[1:])
