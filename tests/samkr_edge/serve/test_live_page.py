"""The live page's pictures: shared, the newest, for those who wait; and nobody slows the network."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from served_page import HW, SCORES, served

from samkr_edge.pose_model import load_model
from samkr_edge.serve import application, server


def test_a_picture_arrives_with_everybody_and_the_times_of_the_stages() -> None:
    with served() as page, page.running():
        ((stream, facts, picture),) = page.pictures().pictures()
        assert stream == 0
        assert picture is not None
        assert picture.shape == (*HW, 3)
        assert abs(int(picture.mean()) - facts["frame"] % 256) <= 3
        # Those below the command's threshold too: the viewer's own threshold may be lower.
        assert [person[0] for person in facts["people"]] == list(SCORES)
        assert len(facts["people"][0][2]) == 17 * 3
        assert facts["people"][0][2][:3] == [100, 100, 900]
        assert facts["size"] == [HW[1], HW[0]]
        assert {"capture", "preprocess", "network", "encode"} <= facts["ms"].keys()
        assert facts["ms"]["network"] == 8.0
        assert facts["state"] == "live"


def test_each_answer_is_newer_than_the_last() -> None:
    with served() as page, page.running():
        numbers, frames = [0], []
        for _ in range(5):
            ((_, facts, _),) = page.pictures(str(numbers[-1])).pictures()
            numbers.append(facts["number"])
            frames.append(facts["frame"])
        assert numbers == sorted({*numbers})
        assert frames == sorted({*frames})


def test_two_viewers_share_one_encoding() -> None:
    with served() as page, ThreadPoolExecutor(2) as both:
        waiting = [both.submit(page.pictures, viewer=f"viewer0{i}") for i in range(2)]
        while page.live.streams[0].waiting < 2:
            time.sleep(0.001)
        page.offer()
        first, second = (each.result().body for each in waiting)
        assert first == second
        assert page.live.encoded == 1


def test_nothing_is_encoded_or_copied_while_nobody_watches() -> None:
    with served() as page:
        for _ in range(50):
            page.offer()
        assert page.live.streams[0].taken() is None
        assert page.live.encoded == 0


def test_more_than_the_rate_is_not_encoded_and_a_rate_that_is_no_divisor_is_met(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("samkr_edge.serve.live.time.perf_counter", lambda: now)
    with served(rate=15) as page:
        stream = page.live.streams[0]
        stream.waiting = 1
        taken = 0
        for _ in range(250):  # ten seconds at 25 frames/s
            now += 1 / 25
            due = stream._due
            page.offer()
            taken += stream._due != due
        stream.waiting = 0
        assert 148 <= taken <= 151


def test_a_viewer_who_stops_reading_neither_slows_the_frames_nor_the_other_viewers(
    page_kept_short: None,
) -> None:
    with (
        served() as page,
        page.running(hw=(720, 1280)),
        socket.create_connection((page.host, page.port)) as stuck,
    ):
        request = b"GET /pictures?viewer=stuckone&after=0 HTTP/1.1\r\nHost: localhost\r\n\r\n"
        stuck.sendall(200 * request)
        before, encoded = page.offered, page.live.encoded
        number = seen = 0
        while seen < 20:
            for _, facts, _ in page.pictures(str(number)).pictures():  # none in time on a busy machine
                number, seen = facts["number"], seen + 1
        assert page.offered - before >= 20
        assert page.live.encoded - encoded >= 19


@pytest.fixture
def page_kept_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "LOOKS", 10)
    monkeypatch.setattr(server, "_LOOK_S", 0.05)
    monkeypatch.setattr(application, "_WAIT_S", 0.2)


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\nX: "])
def test_a_connection_without_a_whole_request_is_cut(page_kept_short: None, sent: bytes) -> None:
    with served() as page, socket.create_connection((page.host, page.port)) as slow:
        slow.settimeout(10)
        slow.sendall(sent)
        for _ in range(3):
            time.sleep(0.1)
            if sent:
                slow.sendall(b"x")
        assert ends(slow)
        assert page.get("/").status == 200


def ends(connection: socket.socket) -> bool:
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        return True
    return True


def test_a_connection_that_waits_for_pictures_is_not_cut(page_kept_short: None) -> None:
    with served() as page:
        for _ in range(5):  # longer than the patience, all on one connection
            assert page.pictures().status == 204
        with page.running():
            assert page.pictures().status == 200


def test_a_connection_is_not_cut_because_the_machine_stood_still(page_kept_short: None) -> None:
    with served() as page, socket.create_connection((page.host, page.port)) as waiting:
        waiting.settimeout(10)
        waiting.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n")  # the server has it and waits for the rest
        assert page.get("/").status == 200
        page.stand_still(1.0)  # twice the patience
        time.sleep(0.7)
        waiting.sendall(b"\r\n")
        assert waiting.recv(12) == b"HTTP/1.1 200"


def test_a_request_that_does_not_end_is_refused() -> None:
    with served() as page:
        with socket.create_connection((page.host, page.port)) as endless:
            endless.settimeout(10)
            try:
                endless.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + (1 << 20) * b"x")
                assert endless.recv(12) == b"HTTP/1.1 400"
            except ConnectionError:  # closed before all was sent
                pass
        assert page.get("/").status == 200


def test_connections_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "CONNECTIONS", 5)
    with served() as page:
        kept = [socket.create_connection((page.host, page.port)) for _ in range(5)]
        while len(page.server._server.server_state.connections) < 5:
            time.sleep(0.001)
        with socket.create_connection((page.host, page.port)) as one_more:
            one_more.settimeout(10)
            assert ends(one_more)
        for connection in kept:
            connection.close()


def test_a_viewer_too_many_is_told_so_and_may_come_when_another_has_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with served() as page, page.running():
        for number in range(application.VIEWERS):
            assert page.pictures(viewer=f"viewer0{number}").status == 200
        refused = page.pictures(viewer="onemore1")
        assert refused.status == 503
        assert b"8 viewers" in refused.body
        assert page.pictures(viewer="viewer00").status == 200
        monkeypatch.setattr(application, "_LEFT_S", 0.0)
        assert page.pictures(viewer="onemore1").status == 200


def test_the_end_waits_for_viewers_between_two_requests_until_they_are_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    viewers = application.Viewers()
    assert not viewers.untold()
    for name in ("viewer01", "viewer02"):
        assert viewers.admit(name)
    viewers.tell("viewer01")
    assert viewers.untold()
    viewers.tell("viewer02")
    assert not viewers.untold()
    assert viewers.admit("viewer03")
    monkeypatch.setattr(application, "_RECENTLY_S", -1.0)  # who asked long ago has left
    assert not viewers.untold()


def test_streams_are_asked_for_together_or_one_alone() -> None:
    with served("a.mp4", "camera0") as page, page.running():
        alone = {stream for stream, _, _ in page.pictures("-,0").pictures()}
        assert alone == {1}
        found: set[int] = set()
        after = [0, 0]
        while found != {0, 1}:
            for stream, facts, _ in page.pictures(",".join(map(str, after))).pictures():
                found.add(stream)
                after[stream] = facts["number"]


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?viewer=viewer01",
        "?after=0",
        "?viewer=viewer01&after=x",
        "?viewer=viewer01&after=0,0",
        "?viewer=viewer01&after=-1",
        "?viewer=../../etc&after=0",
        "?viewer=viewer01&after=" + "9" * 5000,
    ],
)
def test_what_the_page_never_asks_is_refused(query: str) -> None:
    with served() as page:
        assert page.get(f"/pictures{query}").status == 400


def test_a_large_frame_is_sent_smaller_and_its_people_stay_in_its_own_pixels() -> None:
    with served() as page, page.running(hw=(1080, 1920)):
        ((_, facts, picture),) = page.pictures().pictures()
        assert picture is not None
        assert picture.shape == (720, 1280, 3)
        assert facts["size"] == [1920, 1080]


def test_who_waits_is_told_of_the_end_and_who_comes_later_sees_the_last_picture() -> None:
    with served() as page, ThreadPoolExecutor(1) as other:
        with page.running():
            ((_, _facts, _),) = page.pictures().pictures()
        while page.live.streams[0].taken():
            pass
        waiting = other.submit(page.pictures, str(page.live.streams[0].number))
        while not page.live.streams[0].waiting:
            time.sleep(0.001)
        page.live.streams[0].end()
        ((_, told, picture),) = waiting.result().pictures()
        assert told["state"] == "ended"
        assert picture is not None
        ((_, late, picture),) = page.pictures(viewer="latecome").pictures()
        assert late["state"] == "ended"
        assert picture is not None


def test_the_server_ends_while_viewers_wait() -> None:
    with ThreadPoolExecutor(3) as others:
        with served() as page:
            waiting = [others.submit(page.pictures, viewer=f"viewer0{i}") for i in range(3)]
            while page.live.streams[0].waiting < 3:
                time.sleep(0.001)
            thread = page.server._thread
        assert not thread.is_alive()
        assert [facts["state"] for each in waiting for _, facts, _ in each.result().pictures()] == 3 * [
            "ended"
        ]
        assert "page-server" not in {thread.name for thread in threading.enumerate()}


def test_who_watches_one_of_several_streams_is_told_when_all_are_over() -> None:
    with served("a.mp4", "b.mp4") as page, ThreadPoolExecutor(1) as other:
        first, second = page.live.streams
        first.end()
        waiting = other.submit(page.pictures, f"{first.number},-")
        while not first.waiting:
            time.sleep(0.001)
        second.end()
        ((stream, told, _),) = waiting.result().pictures()
        assert (stream, told["state"]) == (1, "ended")


def test_the_same_frame_goes_through_both_models(red_dot_model: Path) -> None:
    with load_model(red_dot_model) as second, served(compared=second) as page, page.running():
        ((_, facts, _),) = page.pictures().pictures()
        assert facts["compared"]["people"] == []  # nothing is red
        assert {"preprocess", "network", "decode"} == facts["compared"]["ms"].keys()


def test_a_second_model_that_fails_is_named_and_the_first_goes_on(red_dot_model: Path) -> None:
    second = load_model(red_dot_model)
    second.close()
    with served(compared=second) as page, page.running():
        ((_, facts, picture),) = page.pictures().pictures()
        assert picture is not None
        assert len(facts["people"]) == len(SCORES)
        assert facts["compared"]["problem"]
