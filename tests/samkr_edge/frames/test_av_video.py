"""With PyAV, AV1 is read and overlays are H.264 at their own times; without it the codec and the extra are named."""

import contextlib
import signal
import struct
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mp4_boxes import edit
from red_dot import dots, write_video

from samkr_edge.cli import run
from samkr_edge.errors import SamkrError
from samkr_edge.frames.av_video import AvCapture, AvWriter, h264_encoder
from samkr_edge.frames.opening import open_video
from samkr_edge.frames.recording import Recording
from samkr_edge.pose.poses import Poses

TIMES = [0.0, 0.04, 0.08, 0.5, 2.0, 2.033]


def codec_of(path: Path) -> str:
    capture = cv2.VideoCapture(str(path))
    return int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode()


def test_a_codec_that_nothing_decodes_is_named(
    red_dot_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = write_video(tmp_path / "a.mp4", [dots((30, 40))] * 3)
    path.write_bytes(path.read_bytes().replace(b"mp4v", b"av01").replace(b"esds", b"skip"))
    monkeypatch.setitem(sys.modules, "av", None)  # type: ignore[arg-type]
    assert run(["predict", str(red_dot_model), str(path), "-o", str(tmp_path / "o")]) == 3
    said = capfd.readouterr().err
    assert "SE-D97" in said
    assert "codec AV1" in said
    assert 'pip install "samkr-edge[video]"' in said


def test_without_pyav_overlays_are_what_opencv_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)  # type: ignore[arg-type]
    with Recording(tmp_path, "a", 25.0) as recording:
        recording.write(0, 0.0, Poses.empty(17), dots())
    assert codec_of(tmp_path / "a.mp4") == "FMP4"


@pytest.fixture
def av() -> Any:
    return pytest.importorskip("av")


def test_a_codec_that_pyav_decodes_is_read(av: Any, tmp_path: Path) -> None:
    if "libsvtav1" not in av.codecs_available or "libdav1d" not in av.codecs_available:
        pytest.skip("this PyAV has no AV1")
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libsvtav1", rate=25, options={"preset": "12"})
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 90_000)
        for seconds in TIMES:
            frame = av.VideoFrame.from_ndarray(dots((30 + 20 * seconds, 40)), format="bgr24")
            frame.pts, frame.time_base = round(seconds * 90_000), Fraction(1, 90_000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    source = open_video(str(path))
    frames = list(source)
    np.testing.assert_allclose([frame.seconds for frame in frames], TIMES, atol=1e-3)
    assert not source.broken
    assert frames[4].image is not None
    y, x = np.unravel_index(frames[4].image[:, :, 2].argmax(), (96, 128))
    np.testing.assert_allclose([x, y], [70, 40], atol=4)


def test_pyav_turns_pictures_as_opencv_does(av: Any, tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", [dots((20, 20))] * 2)
    for a, b, c, d in ((1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0)):
        matrix = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
        edit(path, {b"tkhd": lambda content, m=matrix: content[:40] + m + content[76:]})  # type: ignore[misc]
        ok, image = AvCapture(path).read()
        assert ok
        expected = cv2.VideoCapture(str(path)).read()[1]
        assert image.shape == expected.shape
        assert np.abs(image.astype(int) - expected).mean() < 3


@pytest.mark.parametrize("size", [(96, 128), (95, 127)])
def test_with_pyav_overlays_are_h264_at_the_frames_own_times(
    av: Any, tmp_path: Path, size: tuple[int, int]
) -> None:
    if h264_encoder() is None:
        pytest.skip("this PyAV has no H.264 encoder")
    with Recording(tmp_path, "a", 25.0) as recording:
        for index, seconds in enumerate(TIMES):
            recording.write(index, seconds, Poses.empty(17), dots((30, 40), size=size))
    source = open_video(str(tmp_path / "a.mp4"))
    np.testing.assert_allclose([frame.seconds for frame in source], TIMES, atol=1e-3)
    assert codec_of(tmp_path / "a.mp4") in ("avc1", "h264")
    with av.open(str(tmp_path / "a.mp4")) as container:
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"


def test_ctrl_c_does_not_cut_the_encoder_s_work_in_two(
    av: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes while the first packet is about to be written, behind the header."""
    if (encoder := h264_encoder()) is None:
        pytest.skip("this PyAV has no H.264 encoder")
    writer = AvWriter(tmp_path / "a.mp4", encoder, (128, 96), 25.0)
    encode = writer._encode

    def interrupted(frame: Any) -> None:
        if frame is not None and frame.pts == 2 * 3600:
            signal.raise_signal(signal.SIGINT)
        encode(frame)

    monkeypatch.setattr(writer, "_encode", interrupted)
    writer.write(dots(), 0.0)
    writer.write(dots(), 0.04)
    with pytest.raises(KeyboardInterrupt), contextlib.closing(writer):
        writer.write(dots(), 0.08)
    assert len(list(open_video(str(tmp_path / "a.mp4")))) == 3


def test_a_damaged_file_is_no_exception(av: Any, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(bytes(5000))
    with pytest.raises(ValueError, match=r"."):
        AvCapture(path)
    with pytest.raises(SamkrError):
        open_video(str(path))


def test_a_place_that_cannot_be_written_to_is_an_os_error(av: Any, tmp_path: Path) -> None:
    """FFmpeg opens a file for its first packet, and a writer that failed can still be closed."""
    writer = AvWriter(tmp_path / "none" / "a.mp4", h264_encoder() or "mpeg4", (128, 96), 25.0)

    def write() -> None:
        for seconds in range(99):
            writer.write(dots(), seconds)

    with pytest.raises(OSError, match="No such file"):
        write()
    with contextlib.suppress(OSError):
        writer.close()
