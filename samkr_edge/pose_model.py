"""Any kind of model in; image -> poses. Every command that runs a model opens it here."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from samkr_edge.decoding import get_ready_for, in_image, people_in_image, people_of
from samkr_edge.errors import SamkrError, reason_of
from samkr_edge.files.file_kind import kind_by_ending
from samkr_edge.files.named import missing_file
from samkr_edge.fixes import SPREAD_GLOB
from samkr_edge.machine.cpu import require_cores
from samkr_edge.memory_errors import short_of_memory
from samkr_edge.model_card import ModelCard
from samkr_edge.packages import PACKAGES, does_not_import, foreign_behind, not_installed, resolve
from samkr_edge.pose.geometry import Fit, fit_matrix, require_image, warp
from samkr_edge.pose.poses import Poses
from samkr_edge.ready_name import model_file, ready_instead
from samkr_edge.runtime.runner import Runner

# Suffix -> "module:function" of (path, threads) -> Runner; those in WITH_GRAPH also take ``cuda_graph``. Strings, since
# no import runs upward.
OPENERS = {
    ".pt": "training.torch_runner:open_checkpoint",
    ".onnx": "samkr_edge.runtime.onnx_runtime:open_onnx",
    ".engine": "samkr_edge.runtime.tensorrt:open_engine",
    ".samkr": "samkr_edge.deploy.bundle_cache:open_bundle",
}

WITH_GRAPH = (".engine", ".samkr")

# Least score of a person; "sure" is the card's, None none.
Threshold = float | Literal["sure"] | None

# Most inputs that PoseModel.batch gives to a runner at a time; it bounds the memory of their maps.
BATCH = 8


@dataclass(frozen=True)
class StageTimes:
    """Milliseconds spent on one image; copies are between host and device, where the runtime has a device."""

    preprocess: float
    network: float
    decode: float
    copy_in: float = 0.0
    copy_out: float = 0.0

    @property
    def total(self) -> float:
        return self.preprocess + self.copy_in + self.network + self.copy_out + self.decode


class _Buffers(threading.local):
    """Buffers reused from image to image, made once in every thread that calls the model."""

    def __init__(self, input_size: tuple[int, int]) -> None:
        self.input = np.zeros((1, *input_size, 3), np.uint8)
        self.fit = Fit(np.zeros((2, 3)), (0, 0))
        self.scratch: dict[tuple[int, int], np.ndarray] = {}


class PoseModel:
    """A loaded model: ``model(image)`` -> ``Poses`` in image pixels.

    Several threads may call it at once, and each gets the poses of its own image. Each thread has its own buffers,
    reused from image to image. It may be opened by ``with``; a closed one raises ValueError.
    """

    def __init__(self, runner: Runner, path: Path, *, cuda_graph: bool = False) -> None:
        self.runner = runner
        self.path = path
        self.cuda_graph = cuda_graph
        self._buffers = _Buffers(self.card.input_size)
        get_ready_for(self.card)

    @property
    def card(self) -> ModelCard:
        return self.runner.card

    @property
    def kind(self) -> str:
        return self.runner.kind

    @property
    def graph_note(self) -> str | None:
        """Why there is no CUDA graph although one was requested."""
        if not self.cuda_graph:
            return None
        reason = self.runner.graph_note
        return reason and f"{self.path.name} runs without a CUDA graph: {reason}"

    @property
    def notes(self) -> list[str]:
        """Remarks: that it knows certain images only, an engine of another power mode, a CUDA graph that failed."""
        found = (self._knows(), self.runner.power_note, self.graph_note)
        return [note for note in found if note]

    def _knows(self) -> str | None:
        ready = self.card.provenance.get("ready")
        knows = ready.get("knows") if isinstance(ready, dict) else None
        if knows is None:
            return None
        return f"{self.path.name} knows {knows} only; `samkr-edge zoo` lists networks that know photographs"

    def __call__(self, image: np.ndarray, threshold: Threshold = "sure") -> Poses:
        """People in a uint8 (H, W, 3) RGB image of any size.

        Args:
            image: the image (H, W, 3).
            threshold: least score of a person; "sure": the card's, as of `predict`; None gives all candidates, which
                evaluation needs.

        Raises:
            ValueError: not such an image or threshold, or the model is closed.
        """
        return self._chosen(self.timed(image)[0], threshold)

    def batch(self, images: Iterable[np.ndarray], threshold: Threshold = "sure") -> list[Poses]:
        """The same for images (H, W, 3) that may differ in size; at most ``BATCH`` inputs are held at a time."""
        if not isinstance(images, Iterable) or isinstance(images, str | bytes):
            raise ValueError(f"expected several images, found {type(images).__name__}")
        found: list[Poses] = []
        waiting = iter(images)
        while part := list(islice(waiting, BATCH)):
            found += self.timed_batch(part, self.new_input(len(part)))[0]
        return [self._chosen(poses, threshold) for poses in found]

    def _chosen(self, poses: Poses, threshold: Threshold) -> Poses:
        if threshold is None:
            return poses
        if threshold == "sure":
            return poses.above(self.card.sure_person)
        if isinstance(threshold, str) or np.isnan(threshold):
            raise ValueError(f'expected a least score, "sure" or None, found {threshold!r}')
        return poses.above(threshold)

    def timed(self, image: np.ndarray) -> tuple[Poses, StageTimes]:
        """All candidates in an image (H, W, 3), and the time of each stage by a monotonic clock."""
        (poses,), times = self.timed_batch([image], self._buffers.input)
        return poses, times

    def timed_batch(self, images: Sequence[np.ndarray], inputs: np.ndarray) -> tuple[list[Poses], StageTimes]:
        """One run over several images (H, W, 3): all candidates of each, and the times of all together.

        ``inputs`` (N, H, W, 3) is overwritten: ``new_input`` makes one.
        """
        started = time.perf_counter()
        fits = [self.preprocess(image, out) for image, out in zip(images, inputs, strict=True)]
        prepared = time.perf_counter()
        outputs = self.runner.run(inputs)
        ran = time.perf_counter()
        poses = [self.poses(one, fit) for *one, fit in zip(*outputs, fits, strict=True)]
        done = time.perf_counter()
        # A runtime with a device measures better than a clock around it: (copy in, network, copy out) in ms.
        copy_in, network, copy_out = self.runner.last_run_ms or (0.0, (ran - prepared) * 1e3, 0.0)
        return poses, StageTimes((prepared - started) * 1e3, network, (done - ran) * 1e3, copy_in, copy_out)

    def new_input(self, count: int = 1) -> np.ndarray:
        """A buffer for ``count`` inputs, uint8 (N, h, w, 3)."""
        return np.zeros((count, *self.card.input_size, 3), np.uint8)

    def preprocess(self, image: np.ndarray, out: np.ndarray, *, bgr: bool = False) -> Fit:
        """Write an image uint8 (H, W, 3), resized, into ``out`` (h, w, 3) RGB; returns how it lies there.

        ``bgr`` is for frames as OpenCV reads them: the small input is converted to RGB, not the large frame.
        """
        require_image(image)
        own, size = self._buffers, (image.shape[0], image.shape[1])
        if size != own.fit.image_hw:
            own.fit = Fit(fit_matrix(size, self.card.input_size), size)
            own.scratch.clear()
        warp(image, own.fit.matrix, self.card.input_size, out, own.scratch)
        if bgr:
            cv2.cvtColor(out, cv2.COLOR_BGR2RGB, dst=out)
        return own.fit

    def poses(self, outputs: Sequence[np.ndarray], fit: Fit) -> Poses:
        """The network's outputs for one image, in the order of ``card.outputs`` -> all candidates in image pixels.

        Two maps (C, h, w) as ``card.maps`` says, or candidates (P, K, 3) and scores (P,): without the batch.
        """
        return people_in_image(outputs, self.card, fit)

    def decode(self, heatmap: np.ndarray, association: np.ndarray, fit: Fit) -> Poses:
        """Maps of one image -> poses in image pixels.

        Heatmap (K+1, h, w) and offset (2K, h, w); with grouping, heatmap (K, h, w) and tag (K, h/2, w/2).
        """
        return in_image(people_of(heatmap, association, self.card), self.card, fit)

    def close(self) -> None:
        """Free the runtime's memory; a second call does nothing."""
        self.runner.close()

    def __enter__(self) -> PoseModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load_model(path: str | Path, *, threads: int = 1, cuda_graph: bool = False) -> PoseModel:
    """Open a checkpoint (.pt), an ONNX file (.onnx, plain or built), a TensorRT engine (.engine) or a bundle (.samkr).

    ``zoo:NAME`` is the checkpoint of a ready network, which is fetched once.

    ``cuda_graph`` launches an engine's kernels as one graph; if that fails, the model works without, and its
    ``graph_note`` says why.

    Raises:
        SamkrError: SE-A23 missing file, SE-U24 unknown kind or no path at all, SE-U55 more threads than this machine
            has cores, SE-U70 a package that this kind needs is not installed, SE-U91 another package has the name of
            one of ours, SE-V52 too little memory; and what the runtime itself refuses.
    """
    try:
        path = Path(os.fsdecode(path))
    except TypeError as error:
        raise SamkrError(
            "SE-U24",
            f"a model is opened by its path, and {path!r:.100} is none",
            {"reason": reason_of(error)},
            fix='samkr_edge.load("model.onnx")',
        ) from error
    path = model_file(path)
    if not path.is_file():
        raise missing_file(path, "model", ready_instead(path))
    opener = OPENERS.get(path.suffix)
    if opener is None:
        raise SamkrError(
            "SE-U24",
            f"{path} is not a kind of model that samkr-edge knows",
            {"known": ", ".join(OPENERS), "usual": SPREAD_GLOB if kind_by_ending(path) else None},
            fix="name such a file, or zoo:NAME of `samkr-edge zoo`; weights of other programs: samkr-edge import",
        )
    threads = require_cores(threads)
    try:
        options = {"cuda_graph": cuda_graph} if path.suffix in WITH_GRAPH else {}
        runner: Runner = resolve(opener)(path, threads, **options)
        return PoseModel(runner, path, cuda_graph=cuda_graph)
    except Exception as error:
        known = short_of_memory(error)
        if known is None and isinstance(error, SamkrError):
            raise
        known = known or foreign_behind(error)
        if known is not None:
            raise known from error
        if not isinstance(error, ImportError):
            raise
        if not isinstance(error, ModuleNotFoundError):
            raise does_not_import(error) from error
        missing = (error.name or "?").split(".")[0]
        if missing in PACKAGES:
            raise
        extra = {".pt": "quantize" if missing == "modelopt" else "train", ".engine": "tensorrt"}.get(
            path.suffix, "build"
        )
        raise not_installed(f"opening {path.name}", missing, f'pip install "samkr-edge[{extra}]"') from error
