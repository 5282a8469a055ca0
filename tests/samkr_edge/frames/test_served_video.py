"""Videos that come from a server or through a pipe are files: read whole, with an end, and known by their codec."""

import os
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from red_dot import dots, write_video

from samkr_edge.errors import SamkrError
from samkr_edge.frames.opening import open_video
from samkr_edge.stream_address import in_small_letters

FRAMES = [dots((20 + i, 30)) for i in range(12)]


class Quiet(SimpleHTTPRequestHandler):
    """Breaks off before the last part of what is called ``broken``; knows no ranges, and serves ``once`` once."""

    served: ClassVar[list[str]] = []

    def send_head(self) -> Any:
        self.served.append(self.path)
        if "once" in self.path and self.served.count(self.path) > 1:
            return self.send_error(410)
        return super().send_head()

    def log_message(self, *_: object) -> None: ...

    def copyfile(self, source: Any, outputfile: Any) -> None:
        data = source.read()
        outputfile.write(data[: len(data) // 2] if "broken" in self.path else data)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Host and port of a server of the test's folder."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path))) as serving:
        threading.Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield f"127.0.0.1:{serving.server_port}"
        serving.shutdown()


@pytest.mark.parametrize("scheme", ["http", "HTTP"])
def test_a_file_on_a_server_is_read_whole(tmp_path: Path, server: str, scheme: str) -> None:
    write_video(tmp_path / "A.mp4", FRAMES)
    source = open_video(f"{scheme}://{server}/A.mp4")
    assert [frame.index for frame in source] == list(range(len(FRAMES)))
    assert not source.live
    assert not source.broken
    assert source.note is None


@pytest.mark.parametrize("name", ["once.ts", "once.mp4", "once.ts?token=a.b"])
def test_a_file_is_a_file_where_the_server_knows_no_ranges_and_serves_it_once(
    tmp_path: Path, server: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Quiet, "served", [])
    write_video(tmp_path / name.split("?")[0], FRAMES)
    source = open_video(f"http://{server}/{name}")
    frames = list(source)
    assert len(frames) == len(FRAMES)
    assert frames[0].image is not None
    assert np.abs(frames[0].image.astype(int) - FRAMES[0]).mean() < 8  # the first is the first
    assert (source.live, source.broken) == (False, False)


def test_a_server_that_breaks_off_is_an_error(tmp_path: Path, server: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 96, 128, 3), dtype=np.uint8)
    write_video(tmp_path / "broken.avi", list(noise), "MJPG")
    source = open_video(f"http://{server}/broken.avi")
    assert 10 < len(list(source)) < 30
    assert source.broken
    error = source.ended_early()
    assert "s of 1.6 s" in error.message
    assert "network" in error.facts["usual"]
    assert error.fix.startswith(f"curl -fLO http://{server}/broken.avi")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("RTSP://Me:Secret@Cam/Live?A=B", "rtsp://Me:Secret@Cam/Live?A=B"),
        ("Rtmp://h/x", "rtmp://h/x"),
        ("A:B.mp4", "A:B.mp4"),
        ("videotestsrc ! appsink", "videotestsrc ! appsink"),
    ],
)
def test_only_the_scheme_of_an_address_may_be_in_capitals(source: str, expected: str) -> None:
    assert in_small_letters(source) == expected


def test_a_codec_that_nothing_decodes_is_named_of_a_file_on_a_server_too(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", FRAMES)
    path.write_bytes(path.read_bytes().replace(b"mp4v", b"av01").replace(b"esds", b"skip"))
    monkeypatch.setitem(sys.modules, "av", None)  # type: ignore[arg-type]
    with pytest.raises(SamkrError, match="codec AV1") as caught:
        open_video(f"http://{server}/a.mp4")
    assert caught.value.code == "SE-D97"
    assert caught.value.facts["usual"].endswith("or a server without range requests")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names")
def test_a_pipe_is_read_whole_and_its_end_is_no_loss(tmp_path: Path) -> None:
    data = write_video(tmp_path / "a.ts", FRAMES).read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_bytes, args=(data,), daemon=True).start()
    source = open_video(str(pipe))
    assert len(list(source)) == len(FRAMES)
    assert not source.live
    assert not source.broken


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names")
@pytest.mark.parametrize("name", ["good.png", "pipe"])
def test_a_pipe_without_a_video_is_neither_a_damaged_disk_nor_a_camera(tmp_path: Path, name: str) -> None:
    pipe = tmp_path / name
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_bytes, args=(b"no video\n" * 99,), daemon=True).start()
    with pytest.raises(SamkrError, match="no frame came through the pipe") as caught:
        open_video(str(pipe))
    assert caught.value.code == "SE-D97"
