"""A publisher on the loopback: a file of mmpose's layout with drawn weights, and a server of it that can fail."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import torch

from training.models.zoo import build_model, model_config
from training.ready.table import ReadyNetwork

_HEAD = {
    "heatmap_head.transition.0.": "head.heatmap_conv_layers.0.conv.",
    "heatmap_head.transition.1.": "head.heatmap_conv_layers.0.bn.",
    "heatmap_head.block.": "head.heatmap_conv_layers.1.",
    "heatmap_head.final.": "head.heatmap_conv_layers.2.",
}


def write_published(folder: Path) -> Path:
    """What mmpose publishes, as small as samkr_tiny: backbone, heatmap head and rescoring network, next to plain facts;
    its name ends in the first digits of its hash.
    """
    torch.manual_seed(3)
    state = {}
    for name, tensor in build_model(model_config("samkr_tiny")).state_dict().items():
        theirs = next(
            (new + name.removeprefix(old) for old, new in _HEAD.items() if name.startswith(old)), None
        )
        if name.startswith("backbone.") or theirs:
            state[theirs or name] = tensor
    for layer, shape in {"l1": (256, 74), "l2": (256, 256), "l3": (1, 256)}.items():
        state[f"head.rescore_net.{layer}.weight"] = torch.randn(shape)
        state[f"head.rescore_net.{layer}.bias"] = torch.randn(shape[0])
    drawn = folder / "drawn.pth"
    torch.save({"meta": {"epoch": 140, "mmpose_version": "1.0.0"}, "state_dict": state}, drawn)
    digits = hashlib.sha256(drawn.read_bytes()).hexdigest()[:8]
    return drawn.rename(folder / f"dekr_tiny_{digits}-20221228.pth")


def entry_of(file: Path, address: str) -> ReadyNetwork:
    """The list's line for it."""
    return ReadyNetwork(
        "dekr_tiny",
        "samkr_tiny",
        17,
        by="nobody",
        trained_on="nothing",
        licence="Apache-2.0",
        address=address,
        sha256=file.name.split("_")[2][:8],
        published="12.3 AP on drawn images, by nobody",
    )


@dataclass
class Publisher:
    """What the server has, how it behaves, and what it was asked.

    Attributes:
        files: path -> content.
        resumes: whether it answers to ranges.
        cuts: bytes after which the next connections end.
        lacking: code for what it does not have.
        kind: Content-Type of what it sends.
        asked: (method, path, headers) of every request.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    resumes: bool = True
    cuts: list[int] = field(default_factory=list)
    lacking: int = 404
    kind: str = "application/octet-stream"
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    root: str = ""

    @property
    def ranges(self) -> list[str | None]:
        return [headers.get("Range") for method, _, headers in self.asked if method == "GET"]


@contextmanager
def serving() -> Iterator[Publisher]:
    publisher = Publisher()

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer(b"")

        def do_GET(self) -> None:
            self._answer(None)

        def _answer(self, body: bytes | None) -> None:
            publisher.asked.append((self.command, self.path, dict(self.headers)))
            content = publisher.files.get(self.path)
            self.close_connection = True
            if content is None:
                self.send_error(publisher.lacking)
                return
            asked, begin = self.headers.get("Range"), 0
            if asked and publisher.resumes:
                begin = int(asked.removeprefix("bytes=").rstrip("-"))
                if begin >= len(content):
                    self.send_response(416)
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
            else:
                self.send_response(200)
            self.send_header("Content-Type", publisher.kind)
            self.send_header("Content-Length", str(len(content) - begin))
            self.end_headers()
            if body is None:
                end = publisher.cuts.pop(0) if publisher.cuts else len(content)
                self.wfile.write(content[begin : begin + end])

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    publisher.root = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield publisher
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
