"""Files on any file system, whole or not at all."""

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

pytest.importorskip("pyarrow", reason="needs pyarrow: pip install okdhp-edge[batch]")

from okdhp_edge.batch.storage import Storage
from okdhp_edge.errors import OutputError


@pytest.mark.parametrize("place", ["local", "memory"])
def test_results_go_to_any_file_system(tmp_path, place):
    storage = Storage(str(tmp_path / "o") if place == "local" else f"memory://{tmp_path.name}")
    storage.write("a/b.parquet", b"12")
    assert storage.exists("a/b.parquet") and storage.read("a/b.parquet") == b"12"
    assert storage.list("a") == ["b.parquet"] and storage.list("gone") == ()
    storage.remove("a")
    assert not storage.exists("a/b.parquet")


def test_what_cannot_be_reached_is_one_line(tmp_path):
    with pytest.raises(OutputError, match="cannot be reached"):
        Storage("nowhere://x")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        Storage(str(tmp_path / "file")).write("a.parquet", b"")


class _Plain(MemoryFileSystem):
    """A file system on which an upload appears before it is complete, as SFTP is."""

    protocol = "plain"
    store, pseudo_dirs, broken = {}, [""], False

    def put_file(self, lpath, rpath, **options):
        if self.broken:
            self.pipe_file(rpath, b"ha")
            raise OSError("connection lost")
        super().put_file(lpath, rpath, **options)


def test_an_upload_that_breaks_off_leaves_what_was_there(monkeypatch):
    fsspec.register_implementation("plain", _Plain, clobber=True)
    storage = Storage("plain://out")
    storage.write("a.parquet", b"first")
    storage.write("a.parquet", b"second")
    monkeypatch.setattr(_Plain, "broken", True)
    with pytest.raises(OutputError, match="connection lost"):
        storage.write("a.parquet", b"third")
    assert storage.read("a.parquet") == b"second"
    assert storage.list("") == ["a.parquet"]
