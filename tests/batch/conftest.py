"""Fixtures of the batch tests."""

import pytest


@pytest.fixture
def archive(tmp_path, exported, monkeypatch):
    """Two short videos, one broken, and other files; the tiny model."""
    from tests.helpers.archives import make_video  # needs pyarrow, without which tests skip

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    videos = tmp_path / "videos"
    videos.mkdir()
    make_video(videos / "a.mp4", 40, exported)
    make_video(videos / "b.mp4", 25, exported)
    (videos / "broken.mp4").write_text("no video")
    (videos / "notes.doc").write_text("")
    return videos
