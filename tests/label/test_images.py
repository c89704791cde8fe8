import cv2
import numpy as np
import pytest

from okdhp_edge.data.video import VideoReader
from okdhp_edge.errors import DataError
from okdhp_edge.label.images import (
    DuplicateFilter,
    ImageItem,
    difference_hash,
    get_frame_path,
    list_items,
    read_images,
)


def scene(seed):
    rng = np.random.default_rng(seed)
    return cv2.resize(rng.integers(0, 255, (12, 12, 3), dtype=np.uint8), (160, 120),
                      interpolation=cv2.INTER_CUBIC)  # fmt: skip


def write_video(path, scenes, frames):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (160, 120))
    for number in range(frames):
        writer.write(scene(scenes[number % len(scenes)]))
    writer.release()


def test_a_folder_gives_pictures_and_every_nth_frame_of_its_videos(tmp_path):
    cv2.imwrite(str(tmp_path / "a.jpg"), scene(0))
    (tmp_path / "notes.txt").write_text("x")
    write_video(tmp_path / "b.avi", range(12), 12)
    items = list_items([tmp_path], every=5)
    assert [(i.path.name, i.frame) for i in items] == [
        ("a.jpg", None), ("b.avi", 0), ("b.avi", 5), ("b.avi", 10)]  # fmt: skip
    pictures = dict(read_images(items))
    for item, picture in pictures.items():
        assert np.abs(picture.astype(int) - scene(item.frame or 0)).mean() < 8


def test_a_video_that_announces_no_length_is_read_to_its_end(tmp_path, monkeypatch):
    write_video(tmp_path / "b.avi", range(12), 12)
    monkeypatch.setattr(VideoReader, "count_frames", lambda _: 0)
    assert [i.frame for i in list_items([tmp_path], every=5)] == [0, 5, 10]


def test_a_broken_picture_is_an_error_in_its_place(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8 no picture")
    cv2.imwrite(str(tmp_path / "b.png"), scene(1))
    (tmp_path / "c.mp4").write_bytes(b"no video")
    found = [picture for _, picture in read_images(list_items([tmp_path], every=1))]
    assert isinstance(found[0], DataError) and isinstance(found[2], DataError)
    assert found[1].shape == (120, 160, 3)


@pytest.mark.parametrize("make", [lambda p: p / "none", lambda p: p])
def test_nothing_to_label_is_said(tmp_path, make):
    with pytest.raises(DataError):
        list_items([make(tmp_path)], every=1)


def test_the_hash_knows_a_picture_again_and_tells_others_apart():
    seen = DuplicateFilter(5)
    first = scene(0)
    seen.add(difference_hash(first))
    smaller = cv2.resize(first, (80, 60), interpolation=cv2.INTER_AREA)
    brighter = cv2.convertScaleAbs(first, alpha=1.0, beta=12)
    assert seen.like(difference_hash(smaller)) and seen.like(difference_hash(brighter))
    assert not any(seen.like(difference_hash(scene(seed))) for seed in range(1, 30))


def test_more_pictures_than_the_first_table_holds():
    seen = DuplicateFilter(0)
    for number in range(3000):
        seen.add(number * 0x9E3779B97F4A7C15 % 2**64)
    assert seen.like(2999 * 0x9E3779B97F4A7C15 % 2**64) and not seen.like(12345)


def test_videos_of_one_name_keep_their_own_frames(tmp_path):
    places = {
        get_frame_path(tmp_path / "labels.json", ImageItem(tmp_path / folder / name, 3))
        for folder in ("a", "b")
        for name in ("clip.mp4", "clip.avi")
    }
    assert len(places) == 4
    assert {place.parent.name for place in places} == {"labels_frames"}
