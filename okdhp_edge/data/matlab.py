"""MATLAB files, read by SciPy in a child process: a broken one crashes SciPy's reader, not ours."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from okdhp_edge.errors import DataError

_LONGEST_S = 120


def read_matlab(path: Path, variable: str) -> NDArray[np.float64]:
    """The array `variable` of a `.mat` file, as float64.

    Raises:
        DataError: the file is no MATLAB file, is broken, or lacks the variable.
    """
    import scipy.io  # noqa: F401  # where it is missing, the command says so

    # -P: a file named numpy.py in the working directory is not imported.
    command = [sys.executable, "-P", "-m", "okdhp_edge.data.matlab", str(path.resolve()), variable]
    remedy = "download it again"
    try:
        child = subprocess.run(  # noqa: S603
            command, capture_output=True, timeout=_LONGEST_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise DataError(f"{path} is not read within {_LONGEST_S} s", remedy) from error
    if child.returncode < 0:
        raise DataError(f"{path} is broken: it crashes SciPy's reader", remedy)
    if child.returncode:
        cause = child.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise DataError(f"{path} holds no readable '{variable}' ({cause[-1]})", remedy)
    return np.asarray(np.load(io.BytesIO(child.stdout), allow_pickle=False), dtype=np.float64)


def _write_array(path: str, variable: str) -> None:
    """The child: the array in NumPy's format on standard output."""
    from scipy.io import loadmat

    array = np.asarray(loadmat(path, variable_names=[variable])[variable], dtype=np.float64)
    np.save(sys.stdout.buffer, array, allow_pickle=False)


if __name__ == "__main__":
    _write_array(*sys.argv[1:])
