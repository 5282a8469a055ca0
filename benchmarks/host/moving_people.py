"""A video of rendered people who move, for the animation in the README.

    samkr-edge export demo/qat.pt -o wide.onnx --size 128x192
    python -m benchmarks.host.moving_people moving.mp4
    samkr-edge predict wide.onnx moving.mp4 -o poses --track --smooth --no-boxes
    python -m benchmarks.host.moving_people docs/predict.webp --from poses/moving.mp4

Every frame is the scene of one seed (``training.data.rendered.scene.render_scene``); only the draws that set the
joints' angles sway around their values, so that the video loops. The second form turns a video into an animated WebP.
Both need PyAV (the extra ``video``).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from samkr_edge.files.artefact import replacing
from training.data.rendered.scene import SceneSettings, render_scene

# `sample_figure` uses 80 numbers per person, last to first: the kind of pose, then lean and tilt, then the angles of
# arms and legs. The numbers that choose between arm down and arm up do not sway.
_BODY = 80
_SWAYING = [index for index in range(59, 79) if index not in (69, 74)]


class _Swaying(np.random.Generator):
    """A generator whose draws for people's joint angles vary with ``phase`` (0 to 1)."""

    def __init__(self, seed: int, phase: float, extent: float) -> None:
        super().__init__(np.random.PCG64(seed))
        self._phase = phase
        self._extent = extent

    def random(self, size: Any = None, *args: Any, **kwargs: Any) -> Any:
        drawn = super().random(size, *args, **kwargs)
        if size != _BODY:
            return drawn
        # Every draw starts at a different phase. Its value serves as the phase; it is random already.
        turns = 1 + np.arange(_BODY) % 2
        moved = drawn + self._extent * np.sin(2 * math.pi * (turns * self._phase + 7 * drawn))
        # Reflected at both ends, so that every angle stays anatomically possible.
        moved = 1 - np.abs(1 - np.abs(moved))
        return np.where(np.isin(np.arange(_BODY), _SWAYING), moved, drawn)


def moving_people(
    seed: int, settings: SceneSettings, frames: int, extent: float
) -> Iterator[npt.NDArray[np.uint8]]:
    """Images of one scene, uint8 (H, W, 3) RGB, over one cycle of its people's motion."""
    for number in range(frames):
        yield render_scene(_Swaying(seed, number / frames, extent), settings).image


def frames_of(video: Path) -> Iterator[npt.NDArray[np.uint8]]:
    """Every frame of a video, uint8 (H, W, 3) RGB."""
    import av

    with av.open(str(video)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format="rgb24")


def write(path: Path, images: Iterator[npt.NDArray[np.uint8]], fps: int, quality: int) -> int:
    """Write images, uint8 (H, W, 3) RGB, as a video (.mp4) or an animated WebP; returns the number of frames."""
    import av

    written = 0
    with replacing(path) as temporary, av.open(str(temporary), "w", format=path.suffix[1:]) as container:
        is_webp = path.suffix == ".webp"
        stream: Any = container.add_stream("libwebp_anim" if is_webp else "libx264", rate=fps)
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, fps)
        stream.options = {"quality": str(quality), "loop": "0"} if is_webp else {"crf": "14"}
        for image in images:
            if not written:
                stream.height, stream.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = written
            container.mux(stream.encode(frame))
            written += 1
        container.mux(stream.encode())
    return written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=Path, help=".mp4 or .webp")
    parser.add_argument("--from", dest="video", type=Path, help="take the frames of this video")
    parser.add_argument("--seed", type=int, default=24)
    parser.add_argument("--size", type=int, default=320, help="height of the image")
    parser.add_argument("--people", type=int, default=3)
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--fps", type=int, default=12)
    parser.add_argument("--extent", type=float, default=0.2, help="of the movement")
    parser.add_argument("--quality", type=int, default=60, help="of a WebP")
    options = parser.parse_args()
    settings = SceneSettings(
        size=options.size, aspect=1.5, people=(options.people,) * 2, person_height=(0.7, 0.9), crowded=0,
        truncated=0, occluders=0, liveliness=0.3,
    )  # fmt: skip
    images = (
        frames_of(options.video)
        if options.video
        else moving_people(options.seed, settings, options.frames, options.extent)
    )
    print(f"{options.out}: {write(options.out, images, options.fps, options.quality)} frames")


if __name__ == "__main__":
    main()
