import subprocess

import numpy as np
import pytest
from scipy.io import savemat

from okdhp_edge.data.matlab import read_matlab
from okdhp_edge.errors import DataError


def test_an_array_comes_back(tmp_path):
    savemat(str(tmp_path / "a.mat"), {"joints": np.arange(6).reshape(2, 3)})
    np.testing.assert_array_equal(read_matlab(tmp_path / "a.mat", "joints"), [[0, 1, 2], [3, 4, 5]])
    with pytest.raises(DataError, match="no readable 'heads'"):
        read_matlab(tmp_path / "a.mat", "heads")


def test_a_file_that_crashes_the_reader_is_one_line(tmp_path, monkeypatch):
    def crash(command, **_):
        return subprocess.CompletedProcess(command, -11, b"", b"")

    monkeypatch.setattr(subprocess, "run", crash)
    with pytest.raises(DataError, match="crashes SciPy's reader"):
        read_matlab(tmp_path / "a.mat", "joints")


def test_a_file_named_as_a_module_is_not_imported(tmp_path, monkeypatch):
    """The child runs where the user is: among files from strangers."""
    savemat(str(tmp_path / "a.mat"), {"joints": np.ones(2)})
    (tmp_path / "numpy.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    assert read_matlab(tmp_path / "a.mat", "joints").sum() == 2
