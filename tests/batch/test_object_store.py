"""Sources and results in an object store: a real S3 protocol, spoken by a server of its own."""

import shutil
from pathlib import Path

import pytest

fsspec = pytest.importorskip("fsspec", reason="needs fsspec: pip install okdhp-edge[batch]")
pytest.importorskip("pyarrow", reason="needs pyarrow: pip install okdhp-edge[batch]")
pytest.importorskip("s3fs", reason="needs s3fs: pip install s3fs 'moto[server]'")
moto_server = pytest.importorskip("moto.server", reason="needs moto: pip install 'moto[server]'")
import pyarrow.parquet as pq  # noqa: E402

from okdhp_edge.batch.table import read_metadata  # noqa: E402
from tests.helpers.archives import make_video, run  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture
def store(monkeypatch):
    """An S3 server with an empty bucket, known to workers by the usual variables."""
    server = moto_server.ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    files = fsspec.filesystem("s3", skip_instance_cache=True)
    files.mkdir("archive")
    yield files
    server.stop()


def test_a_batch_reads_and_writes_s3(store, exported, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_video(Path("a.mp4"), 30, exported)
    shutil.copy("a.mp4", "b.mp4")
    for name in ("a.mp4", "b.mp4"):
        store.put(name, f"archive/recordings/{name}")
    words = ["batch", "s3://archive/recordings", "--out", "s3://archive/poses", "--model", exported,
             "--backend", "onnxruntime", "--precision", "fp32", "--workers", 2]  # fmt: skip
    first = run(*words)
    assert first.exit_code == 0, first.stderr
    for name in ("a", "b"):
        content = store.cat(f"archive/poses/{name}.mp4.parquet")
        assert read_metadata(content)["frames"] == 30
    local = run("batch", "a.mp4", "--out", "out", *words[4:])
    assert local.exit_code == 0, local.stderr
    columns = [c for c in pq.read_table("out/a.mp4.parquet").column_names if c != "source"]
    store.get("archive/poses/a.mp4.parquet", "s3.parquet")
    assert pq.read_table("s3.parquet", columns=columns).equals(
        pq.read_table("out/a.mp4.parquet", columns=columns)
    )
    again = run(*words)
    assert '"skipped": 2' in again.stdout
    assert not [f for f in store.find("archive/poses") if ".parts" in f]
