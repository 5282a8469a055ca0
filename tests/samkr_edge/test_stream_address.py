"""No part of a password is shown, wherever it stands in a source, and a source is one in capitals too."""

import json
from pathlib import Path

import pytest
from red_dot import dots, write_video

from samkr_edge.cli import run
from samkr_edge.cli.predict_stream import stream_names
from samkr_edge.errors import SamkrError
from samkr_edge.frames.live_capture import is_live
from samkr_edge.frames.opening import open_video
from samkr_edge.stream_address import hide_secrets, is_stream_address, mark_of, without_secrets

SECRETS = ("p@ssw0rd", "ssw0rd", "s3cret", "w0rd", "admin", "5544")


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("rtsp://cam.local:554/live/ch1", "rtsp://cam.local:554/live/ch1"),
        ("rtsp://admin:s3cret@cam/live", "rtsp://cam/live"),
        ("RTSP://admin:p@ssw0rd@cam:554/live", "rtsp://cam:554/live"),
        ("rtsp://admin:p@ss/w0rd@cam/live", "rtsp://..."),
        ("rtsp://admin:5544/w0rd@cam/live", "rtsp://..."),
        ("rtsp://admin:s3cret", "rtsp://..."),
        ("rtsp://[fe80::1]:554/live", "rtsp://[fe80::1]:554/live"),
        ("rtsp://cam:554/user=admin_password=s3cret_channel=1.sdp?real_stream", "rtsp://cam:554/..."),
        ("http://cam/cgi-bin/snap.cgi?usr=admin&pwd=s3cret", "http://cam/cgi-bin/snap.cgi"),
        ("http://cam/token/s3cret/video", "http://cam/..."),
        ("rtmp://live.example.com/app/s3cret", "rtmp://live.example.com/..."),
        ("srt://cam:9000?passphrase=s3cret", "srt://cam:9000"),
        ("rtps://admin:s3cret@cam/live", "rtps://cam/live"),  # misspelt
        ("rtsp:/admin:s3cret@cam/live", "rtsp://cam/live"),  # as a path
        ("admin:p@ssw0rd@cam/live", "cam/live"),
        (
            "rtspsrc location=rtsp://admin:s3cret@cam user-pw=s3cret ! decodebin ! appsink",
            "rtspsrc ! decodebin ! appsink",
        ),
        ("rtsp//admin:s3cret@cam/live", "rtsp//..."),
        ("http//cam/s3cret", "http//..."),
        ("rtsp;//admin:s3cret@cam/live", "rtsp;//..."),
        (" rtsp://admin:s3cret@cam/live", "rtsp://cam/live"),
        ("'rtsp://admin:s3cret@cam/live'", "..."),
        ("ffmpeg:rtsp://cam/s3cret", "..."),
        ("rtspsrc location=rtsp://admin:s3cret@cam!appsink", "rtspsrc ! appsink"),
        ("rtspsrc location=rtsp://admin:s3cret@cam", "..."),
        ("rtspsrc user-pw=s3cret!decodebin", "rtspsrc ! decodebin"),
        ("rtspsrc ! location=rtsp://admin:s3cret@cam", "rtspsrc ! location"),
        ("rtsp://admin:a!s3cret=1@cam/live", "rtsp://cam/live"),
        ("rtsps://cam:7441/HZh2Lv2l0WwSNLMM?enableSrtp", "rtsps://cam:7441/..."),
        ("rtsp://cam/S3CRETTOKEN", "rtsp://cam/..."),
        ("rtsp://cam/5b3fa0c1d2e4f6a7b8c9d0e1/1", "rtsp://cam/..."),
        ("rtsp://cam/Streaming/Channels/101", "rtsp://cam/Streaming/Channels/101"),
        ("http://cam:8000/videos/walk_2-fast.mp4", "http://cam:8000/videos/walk_2-fast.mp4"),
        ("ssh://pi@jetson:22/opt", "ssh://pi@jetson:22/opt"),
        ("ssh://pi:s3cret@jetson", "ssh://jetson"),
        ("//admin:s3cret@cam/live", "..."),
        ("/clips/12:30:05/a@2x.png", "/clips/12:30:05/a@2x.png"),
        ("rtsp:cam/s3cret", "rtsp:..."),
        (r"https:\\cam\s3cret", r"https:\\..."),
        ("rtsp://cam/ISAPI/Streaming/channels/101", "rtsp://cam/ISAPI/Streaming/channels/101"),
        ("rtsp://cam/h264Preview_01_main", "rtsp://cam/h264Preview_01_main"),
        ("rtsp://cam/MediaInput/videoMain", "rtsp://cam/MediaInput/videoMain"),
        ("http://cam/videos/20261128_123005.mp4", "http://cam/videos/20261128_123005.mp4"),
        ("http://cam/IMG_20261128T123005.mp4", "http://cam/IMG_20261128T123005.mp4"),
        ("http://cam/2026-11-28T12_30.mp4", "http://cam/2026-11-28T12_30.mp4"),
        ("http://cam/5b3fa0c1d2e4f6a7b8c9d0e1.mp4", "http://cam/..."),
        ("clips/12:30:05/a@2x.png", "clips/12:30:05/a@2x.png"),
        ("C:/photos/a.png", "C:/photos/a.png"),
        ("k=1!.jpg", "k=1!.jpg"),
        ("bad!k=v.jpg", "bad!k=v.jpg"),
        ("/a!b=c.png", "/a!b=c.png"),
        ("http/a.jpg", "http/a.jpg"),
        (" a.png ", " a.png "),
        ("hello world!.png", "hello world!.png"),
        ("clips/12:30:05.mp4", "clips/12:30:05.mp4"),
        ("12:30:05.mp4", "12:30:05.mp4"),
        ("a@2x.png", "a@2x.png"),
    ],
)  # fmt: skip
def test_only_what_cannot_be_a_secret_is_shown(source: str, shown: str) -> None:
    assert without_secrets(source) == shown
    assert not any(secret in name for secret in SECRETS for name in stream_names([source], None))


def test_addresses_that_are_shown_alike_write_to_files_of_their_own() -> None:
    hidden = [f"http://cam/clips/5b3fa0c1d2e4f6a7b8c9d0e{digit}.mp4" for digit in "12"]
    assert len({without_secrets(source) for source in hidden}) == 1
    names = [stream_names([source], None)[0] for source in hidden]
    assert len({*names}) == 2
    assert names == [stream_names([f"{source}?token=s3cret"], None)[0] for source in hidden]
    # A hash would confirm a guess at a password.
    for secret in ("rtsp://cam/user=admin_password=s3cret", "rtmp://cam/app/s3cret", "rtsp://a:s3cret@cam"):
        assert mark_of(secret) == ""
    long = "http://cam/" + "recordings/" * 9
    assert len({stream_names([f"{long}walk{number}.mp4"], None)[0] for number in (1, 2)}) == 2


def test_a_file_that_is_there_is_named_whatever_its_name_is_like(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name, said = "12:30@2x.jpg", "the image 12:30@2x.jpg could not be read"
    assert name not in hide_secrets(said, [name])
    Path(name).write_bytes(b"")
    assert hide_secrets(said, [name]) == said


def test_an_address_is_one_in_capitals_too() -> None:
    assert is_stream_address("RTSP://cam/1")
    assert is_live("HTTP://cam/video.mjpg")
    assert not is_stream_address("rtsp:/cam/1")
    assert not is_live("SSH://cam")


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "MODEL", "RTSP://admin:p@ssw0rd@127.0.0.1:1/live"],
        ["predict", "MODEL", "rtps://admin:p@ssw0rd@127.0.0.1:1/live"],
        ["predict", "MODEL", "http://127.0.0.1:1/user=admin_password=s3cret?a", "rtps://admin:s3cret@cam"],
        ["inspect", "rtsp://admin:p@ssw0rd@cam/live"],
        ["predict", "rtsp://admin:p@ssw0rd@cam/live", "0"],
        ["doctor", "rtsp://admin:p@ssw0rd@cam/live"],
        ["predict", "MODEL", "rtsp//admin:p@ssw0rd@cam/live"],
        ["predict", "MODEL", " rtsp://admin:p@ssw0rd@127.0.0.1:1/live"],
        ["predict", "MODEL", "rtspsrc location=rtsp://admin:p@ssw0rd@cam/live!appsink"],
        ["predict", "MODEL", "0", "-o", "rtsp://admin:p@ssw0rd@cam/live"],
        ["inspect", " rtsp://admin:p'@ssw0rd@cam/live"],
        ["inspect", "rtsp://admin:p@ssw0rd@cam/" + "live/" * 60],
        ["bench", "MODEL", "--on", "ssh://admin:p@ssw0rd@cam"],
        ["bench", "MODEL", "--on=ssh://admin:p@ssw0rd@cam"],
    ],
)
@pytest.mark.parametrize("as_json", [False, True])
def test_no_output_of_a_command_holds_a_part_of_a_password(
    words: list[str],
    as_json: bool,
    red_dot_model: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    words = [str(red_dot_model) if word == "MODEL" else word for word in words]
    monkeypatch.chdir(tmp_path)
    out = ["-o", str(tmp_path / "out")] if words[0] == "predict" and "-o" not in words else []
    assert run([*words, *out, *(["--json"] if as_json else [])]) != 0
    printed = capfd.readouterr()
    said = printed.out + printed.err
    assert said
    assert not [secret for secret in SECRETS if secret in said]
    assert not any(tmp_path.iterdir())


def test_an_unknown_error_is_shown_without_the_password(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(name: str) -> None:
        raise RuntimeError("cannot open rtsp://admin:p@ssw0rd@cam/live")

    monkeypatch.setattr("samkr_edge.cli.load_command", fail)
    assert run(["predict", "m.onnx", "rtsp://admin:p@ssw0rd@cam/live"]) == 1
    said = capsys.readouterr().err
    assert "cannot open rtsp://cam/live" in said
    assert "ssw0rd" not in said


def test_a_file_name_like_an_address_is_a_file(
    red_dot_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """FFmpeg takes what stands before the first colon for a protocol; read, and written into the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in" / "12:30:05.mp4", [dots((30 + i, 40)) for i in range(4)])
    monkeypatch.chdir(tmp_path / "in")
    with pytest.raises(SamkrError):
        open_video("12:30:06.mp4")
    assert run(["predict", str(red_dot_model), "12:30:05.mp4", "-o", ".", "--json"]) == 0
    (stream,) = json.loads(capsys.readouterr().out)["streams"]
    assert stream["frames"] == 4
    assert Path(stream["video"]).name == "12:30:05-2.mp4"
    assert Path(stream["video"]).is_file()
