import struct
import zlib
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from okdhp_edge.data.image_file import read_image
from okdhp_edge.errors import DataError, SourceError
from okdhp_edge.run.sources.images import ImageSource
from okdhp_edge.run.sources.videos import VideoSource

PICTURE = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)


def video(path, times, rate=30):
    """Frames at these seconds."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, seconds in enumerate(times):
            picture = np.full((48, 64, 3), 10 * number % 256, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="bgr24")
            frame.pts, frame.time_base = round(1000 * seconds), Fraction(1, 1000)
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def read_all(source):
    frames = []
    while (frame := source.read()) is not None:
        frames.append(frame)
    source.close()
    return frames


def test_a_video_of_variable_rate_has_the_times_of_its_frames(tmp_path):
    times = [0.0, 0.03, 0.06, 1.0, 1.03, 3.5, 3.9]
    frames = read_all(VideoSource(video(tmp_path / "v.mp4", times)))
    assert np.allclose([f.seconds for f in frames], times, atol=0.002)


def test_frames_passed_over_keep_their_time(tmp_path):
    times = [0.0, 0.1, 0.5, 0.6]
    source = VideoSource(video(tmp_path / "v.mp4", times))
    assert source.skip() and source.skip()
    assert source.read().seconds == pytest.approx(0.5, abs=0.002)


def test_a_video_of_constant_rate_is_as_before(tmp_path):
    frames = read_all(VideoSource(video(tmp_path / "v.mp4", [i / 25 for i in range(50)], 25)))
    assert np.allclose([f.seconds for f in frames], np.arange(50) / 25, atol=0.002)


def test_a_video_that_is_cut_off_is_told_with_its_counts(tmp_path):
    whole = video(tmp_path / "v.mkv", [i / 30 for i in range(300)])
    data = whole.read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(data[: len(data) // 3])
    source = VideoSource(cut)
    frames = []
    with pytest.raises(SourceError, match=r"is truncated: \d+ of 300 announced frames"):
        while (frame := source.read()) is not None:
            frames.append(frame)
    assert 20 < len(frames) < 250
    assert len(read_all(VideoSource(whole))) == 300


def test_one_broken_picture_of_a_folder_costs_no_other(tmp_path):
    for name in ("a.png", "c.png"):
        cv2.imwrite(str(tmp_path / name), PICTURE)
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8 broken")
    (tmp_path / "._a.png").write_bytes(b"resource fork")
    (tmp_path / "notes.txt").write_text("x")
    source = ImageSource(tmp_path)
    frames = read_all(source)
    assert [(f.name, f.number) for f in frames] == [("a.png", 0), ("c.png", 1)]
    assert len(source.notes) == 2
    assert any("b.jpg" in note for note in source.notes)
    assert any("1 files of other types (.txt)" in note for note in source.notes)


def test_a_folder_of_broken_pictures_is_an_error(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8 broken")
    with pytest.raises(SourceError, match="none of the 1 images"):
        read_all(ImageSource(tmp_path))


@pytest.mark.parametrize(("suffix", "says"), [(".jpg", "truncated"), (".png", "truncated")])
def test_half_a_picture_is_no_picture(tmp_path, suffix, says):
    data = cv2.imencode(suffix, PICTURE)[1].tobytes()
    (tmp_path / f"half{suffix}").write_bytes(data[: len(data) // 2])
    with pytest.raises(SourceError, match=says):
        read_all(ImageSource(tmp_path / f"half{suffix}"))
    (tmp_path / f"whole{suffix}").write_bytes(data)
    assert read_image(tmp_path / f"whole{suffix}").shape == PICTURE.shape


def test_what_cameras_write_behind_a_picture_does_not_matter(tmp_path):
    data = cv2.imencode(".jpg", PICTURE)[1].tobytes()
    (tmp_path / "a.jpg").write_bytes(data + b"\x00" * 100 + b"a video clip")
    assert read_image(tmp_path / "a.jpg").shape == PICTURE.shape


def _png(width, height):
    """Claims a size; its rows compress to next to nothing."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
            + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b""))  # fmt: skip


def test_an_absurd_size_is_refused_before_it_takes_memory(tmp_path):
    (tmp_path / "bomb.png").write_bytes(_png(50_000, 50_000))
    with pytest.raises(DataError, match="more than 67108864 pixels"):
        read_image(tmp_path / "bomb.png")


@pytest.mark.parametrize(
    ("head", "kind"), [(b"\x00\x00\x00\x18ftypheic", "HEIC"), (b"GIF89a", "GIF")]
)
def test_kinds_that_cannot_be_decoded_are_named(tmp_path, head, kind):
    (tmp_path / "p.jpg").write_bytes(head + bytes(100))
    with pytest.raises(DataError) as caught:
        read_image(tmp_path / "p.jpg")
    assert kind in str(caught.value) or "not an image" in str(caught.value)


def test_grey_alpha_and_sixteen_bits_become_colours(tmp_path):
    grey = PICTURE[..., 0]
    alpha = np.dstack([PICTURE, grey])
    deep = PICTURE.astype(np.uint16) * 257
    for name, image in {"g.png": grey, "a.png": alpha, "d.png": deep}.items():
        cv2.imwrite(str(tmp_path / name), image)
        read = read_image(tmp_path / name)
        assert read.shape == (60, 80, 3) and read.dtype == np.uint8
    assert np.array_equal(read_image(tmp_path / "d.png"), PICTURE)
