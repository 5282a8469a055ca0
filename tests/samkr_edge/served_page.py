"""The page of `predict --serve` with frames from a test, and a plain HTTP client that reads it as the browser does."""

from __future__ import annotations

import http.client
import json
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np

from samkr_edge.frames.pose_stages import FrameInFlight
from samkr_edge.frames.video import Frame
from samkr_edge.pose.poses import Poses
from samkr_edge.pose_model import PoseModel
from samkr_edge.serve.address import listen
from samkr_edge.serve.facts import page_facts
from samkr_edge.serve.live import LivePictures
from samkr_edge.serve.server import PageServer

HW = (90, 160)
# Scores of the people in every frame.
SCORES = (0.9, 0.3, 0.05)


@dataclass
class Answer:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def pictures(self) -> list[tuple[int, dict[str, Any], np.ndarray | None]]:
        """Number of the stream, facts, and the picture (H, W, 3) BGR, of each record."""
        found, at = [], 0
        while at < len(self.body):
            stream, text, jpeg = struct.unpack_from(">III", self.body, at)
            start = at + 12
            facts = json.loads(self.body[start : start + text])
            data = np.frombuffer(self.body[start + text : start + text + jpeg], np.uint8)
            found.append((stream, facts, cv2.imdecode(data, cv2.IMREAD_COLOR) if jpeg else None))
            at = start + text + jpeg
        return found


def ask(
    host: str, port: int, path: str, *, method: str = "GET", timeout: float = 20, **headers: str
) -> Answer:
    """One request on a connection of its own; an underscore in a header's name is a hyphen."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): v for name, v in headers.items()})
        answer = connection.getresponse()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def people(scores: tuple[float, ...] = SCORES) -> Poses:
    """A person a score, (P, 17, 2) joints along a line."""
    count = len(scores)
    joints = (
        np.linspace((10, 10), (60, 80), 17, dtype=np.float32)[None] + 20 * np.arange(count)[:, None, None]
    )
    each = np.array(scores, np.float32)
    return Poses(joints.astype(np.float32), np.repeat(each[:, None], 17, axis=1), each)


class Page:
    """A served page.

    Attributes:
        offered: frames that its streams were offered.
    """

    def __init__(self, server: PageServer, live: LivePictures, host: str, port: int) -> None:
        self.server, self.live, self.host, self.port = server, live, host, port
        self.offered = 0

    def get(self, path: str, **options: Any) -> Answer:
        return ask(self.host, self.port, path, **options)

    def stand_still(self, seconds: float) -> None:
        """Keep the server's thread from doing anything, as on a machine that has no time for it."""
        (listener,) = self.server._server.servers
        listener.get_loop().call_soon_threadsafe(time.sleep, seconds)

    def pictures(self, after: str = "0", viewer: str = "viewer01", **options: Any) -> Answer:
        return self.get(f"/pictures?viewer={viewer}&after={after}", **options)

    def offer(self, stream: int = 0, *, hw: tuple[int, int] = HW, threshold: float = 0.1) -> None:
        """One frame, (H, W, 3) BGR, whose brightness is its number."""
        image = np.full((*hw, 3), self.offered % 256, np.uint8)
        frame = Frame(
            self.offered, image, seconds=self.offered / 25, captured=time.perf_counter(), read_ms=1.0
        )
        everybody = people()
        seen = FrameInFlight(frame, poses=everybody.above(threshold), ms={"preprocess": 1.0, "network": 8.0})
        self.live.streams[stream].offer(seen, everybody)
        self.offered += 1

    @contextmanager
    def running(self, **options: Any) -> Iterator[None]:
        """Offer frames to every stream in turn inside ``with``, as a pipeline does."""
        stop = threading.Event()

        def run() -> None:
            while not stop.wait(0.002):
                for stream in range(len(self.live.streams)):
                    self.offer(stream, **options)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


@contextmanager
def served(
    *names: str,
    place: str = "127.0.0.1:0",
    rate: float = 1000.0,
    model: PoseModel | None = None,
    compared: PoseModel | None = None,
) -> Iterator[Page]:
    """A page of these streams that takes every frame unless ``rate`` is lower; a browser needs the ``model`` too."""
    names = names or ("walk.mp4",)
    listening = listen(place)
    live = LivePictures(names, rate=rate, threshold=0.1, compared=compared)
    host = listening.host.strip("[]")
    models = [each for each in (model, compared) if each is not None]
    facts = page_facts(models, names, threads=1, threshold=0.1, boxes=True, writes=True, rate=rate)
    hurried = patch("samkr_edge.serve.server._LINGER_S", 0.0)
    with hurried, live, PageServer(listening, live, facts) as server:
        yield Page(server, live, host, listening.port)
