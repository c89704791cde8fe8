"""Which files are sources, and how one is known again."""

import errno

import pytest
from fsspec.implementations.local import LocalFileSystem

pytest.importorskip("pyarrow", reason="needs pyarrow: pip install okdhp-edge[batch]")

from okdhp_edge.batch.sources import BatchSource, compute_fingerprint, find_sources
from okdhp_edge.errors import SourceError


def test_sources_come_from_folders_globs_and_lists(tmp_path):
    for name in ("a/x.mp4", "b/x.mp4", "b/y.MKV", "c/1.jpg", "c/2.png", "d.txt", "c/readme.md"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"1")
    (tmp_path / "list.txt").write_text(f"{tmp_path}/a/x.mp4\n\n{tmp_path}/c\n")
    found = find_sources([str(tmp_path / "list.txt"), str(tmp_path / "b" / "*")])
    assert [s.name for s in found.sources] == ["a__x.mp4", "b__x.mp4", "y.MKV", "c"]
    assert found.skipped == {".md": [f"{tmp_path}/c/readme.md"]}
    with pytest.raises(SourceError, match="does not exist"):
        find_sources([str(tmp_path / "gone")])
    with pytest.raises(SourceError, match="no video and no image"):
        find_sources([str(tmp_path / "c" / "readme.md")])
    with pytest.raises(SourceError, match=r"no file matches .*\*\.mov"):
        find_sources([str(tmp_path / "a" / "x.mp4"), str(tmp_path / "a" / "*.mov")])
    with pytest.raises(SourceError, match="cannot be reached"):
        find_sources(["nowhere://bucket/x.mp4"])


def test_a_list_may_name_itself_and_links_to_folders_are_followed_once(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "x.mp4").write_bytes(b"1")
    folder = tmp_path / "recordings"
    folder.mkdir()
    (folder / "cam").symlink_to(tmp_path / "there")
    (folder / "round").symlink_to(folder)
    listed = folder / "list.txt"
    listed.write_text(f"{folder}\n{listed}\n")
    found = find_sources([str(listed)])
    assert [s.url for s in found.sources] == [f"{folder}/cam/x.mp4"]
    assert list(found.skipped) == [".txt"]


def test_a_name_with_brackets_is_a_file_and_no_pattern(tmp_path):
    video = tmp_path / "talk [dQw4w9WgXcQ].mp4"
    video.write_bytes(b"1")
    assert [s.url for s in find_sources([str(video)]).sources] == [str(video)]


def test_a_fingerprint_changes_with_an_image_of_the_same_size(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"one")
    source = BatchSource(str(tmp_path), "f", (str(tmp_path / "a.jpg"),))
    before = compute_fingerprint(source)
    (tmp_path / "a.jpg").write_bytes(b"two")
    assert compute_fingerprint(source) != before


def test_a_fingerprint_changes_with_the_file(tmp_path):
    file = tmp_path / "v.mp4"
    file.write_bytes(bytes(3 << 20))
    source = BatchSource(str(file), "v")
    first = compute_fingerprint(source)
    assert compute_fingerprint(source) == first
    content = bytearray(3 << 20)
    content[(3 << 20) // 2] = 1
    file.write_bytes(content)
    assert compute_fingerprint(source) != first


def test_a_folder_that_cannot_be_read_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "a.mp4").write_text("")
    (tmp_path / "private").mkdir()
    allowed = LocalFileSystem.ls

    def refuse(self, path, detail=True, **options):
        if "private" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return allowed(self, path, detail, **options)

    monkeypatch.setattr(LocalFileSystem, "ls", refuse)
    with pytest.raises(SourceError, match="private cannot be read .Permission denied"):
        find_sources([str(tmp_path)])


def test_hidden_files_of_a_folder_are_no_sources(tmp_path):
    for name in ("clip.mp4", "._clip.mp4"):
        (tmp_path / name).write_bytes(b"")
    assert [s.url for s in find_sources([str(tmp_path)]).sources] == [str(tmp_path / "clip.mp4")]
