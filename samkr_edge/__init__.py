"""samkr-edge: from a PyTorch SAMKR pose network to an INT8 engine on the device.

This package is the device side: it imports neither torch nor modelopt, and heavy parts load only when used:

    pose = samkr_edge.load("model.cpu.onnx", threads=2)
    poses = pose(image)            # uint8 (H, W, 3) RGB -> Poses in image pixels
    several = pose.batch(images)   # a list of Poses
    for frame, time, poses in samkr_edge.watch("walk.mp4", pose):
        ...
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 10):  # noqa: UP036 - pip refuses too; this is for a copied source tree
    raise ImportError(
        f"samkr-edge needs Python 3.10 to 3.14, this is {sys.version_info[0]}.{sys.version_info[1]}. "
        "JetPack 5 has 3.8, and its TensorRT works only with that: use JetPack 6, or write the graph on another "
        "machine, `samkr-edge build MODEL.onnx --target NAME --tensorrt jetpack-5.1 --prepared trt.onnx`, and build it "
        "there, by the trtexec command that this prints"
    )

__version__ = "0.1.0"

# As in `typing`, which is not imported: under `python -m` a user's typing.py could still hide it here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path
    from typing import Any

    from samkr_edge.errors import SamkrError
    from samkr_edge.pose.poses import Poses
    from samkr_edge.pose.watched_frame import WatchedFrame
    from samkr_edge.pose_model import PoseModel

__all__ = ["PoseModel", "Poses", "SamkrError", "__version__", "load", "watch"]

# Name -> module. Importing the package costs milliseconds; NumPy and OpenCV load with the first of these names.
_LAZY = {
    "PoseModel": "samkr_edge.pose_model",
    "Poses": "samkr_edge.pose.poses",
    "SamkrError": "samkr_edge.errors",
}


def load(model: str | Path, *, threads: int = 1, cuda_graph: bool = False) -> PoseModel:
    """Open a checkpoint, an ONNX file, a built model or a bundle; ``pose(image)`` then returns ``Poses``.

    ``cuda_graph`` launches a TensorRT engine's kernels as one graph; if that fails, ``pose.graph_note`` says why.

    Raises:
        SamkrError: the file is missing, of an unknown kind, or does not match its passport.
    """
    load_model = _import("samkr_edge.pose_model").load_model
    return load_model(model, threads=threads, cuda_graph=cuda_graph)


def watch(
    source: str | Path | int | Sequence[str | Path | int],
    model: str | Path | PoseModel,
    *,
    track: bool = True,
    smooth: bool = True,
    threshold: float | None = None,
    max_people: int | None = None,
    every: int = 1,
    start: float = 0.0,
    stop: float | None = None,
    reconnect: bool = True,
    threads: int = 1,
) -> Iterator[WatchedFrame]:
    """Loop over frames and their people: ``for frame, time, poses in samkr_edge.watch(0, "model.cpu.onnx")``.

    Capturing, the network and decoding work at the same time in threads, as in `predict`. Of a file every frame comes,
    of a camera the newest. Leaving the loop, in whatever way, stops the threads and releases the camera.

    Args:
        source: a video file, a camera's number, an address, ``csi``, a GStreamer pipeline; or several of them, which
            run at the same time: ``seen.source`` is then the number of the one that a frame is from.
        model: a file as for ``load``, or what that returned, which stays open.
        track: give people ids.
        smooth: steady their joints.
        threshold: least score of a person; as `predict`'s if it is None.
        max_people: keep the best ones.
        every: of a file, take only every N-th frame.
        start: of a file, begin at this time in seconds.
        stop: of a file, end before this time in seconds.
        reconnect: open a camera or stream again that dropped.
        threads: CPU threads for a model that is opened here.

    Raises:
        SamkrError: when the loop begins, what does not open; later, a camera that is lost without ``reconnect``, or a
            file that was cut off, after its last frame.
    """
    watching = _import("samkr_edge.frames.watch")
    frames: Iterator[WatchedFrame] = watching.watch(
        source,
        model,
        track=track,
        smooth=smooth,
        max_people=max_people,
        excerpt=watching.excerpt_of(every, start, stop),
        reconnect=reconnect,
        threads=threads,
        threshold=threshold,
    )
    return frames


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_import(_LAZY[name]), name)


def _import(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != "cv2":
            raise
        from samkr_edge.doctor.opencv_install import missing_opencv

        raise missing_opencv() from error
