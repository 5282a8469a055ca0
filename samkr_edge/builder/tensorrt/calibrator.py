"""Implicit INT8 for TensorRT up to 10: its entropy calibrator, fed with images, with a cache of known origin.

The usual way to INT8 is Q/DQ in the graph (``samkr-edge quantize``); this is for networks without it, and for DLA.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import sha256_of
from samkr_edge.files.cache import cache_folder
from samkr_edge.files.refused import not_opened
from samkr_edge.fixes import quoted
from samkr_edge.images import read_image
from samkr_edge.pose.geometry import fit_matrix, warp
from samkr_edge.runtime.cuda import Cuda
from samkr_edge.runtime.tensorrt_caches import load_cache, store_cache

# Absolute paths work from any folder, and there may be more than fit on a command line.
_DATA = "\"$(realpath DIR)\" -name '*.jpg'"


class CalibrationImages:
    """The images listed in a text file, one path a line, relative to the file.

    Raises:
        SamkrError: SE-A23 there is no list, SE-D87 it cannot be read, is empty, or names a missing file.
    """

    def __init__(self, listing: Path, input_size: tuple[int, int]) -> None:
        try:
            lines = [line.strip() for line in listing.read_text(encoding="utf-8").splitlines()]
        except (OSError, UnicodeDecodeError) as error:
            raise not_opened(error, listing, "list of calibration images") or SamkrError(
                "SE-D87",
                f"the list of calibration images {listing} cannot be read",
                {"reason": error},
                fix=f"find {_DATA} | shuf -n 500 > {quoted(listing)}",
            ) from error
        self.paths = [listing.parent / line for line in lines if line and not line.startswith("#")]
        self.input_size = input_size
        missing = [path for path in self.paths if not path.is_file()]
        if missing or not self.paths:
            raise SamkrError(
                "SE-D87",
                f"{listing} lists no images"
                if not self.paths
                else f"{listing} lists images that are not there",
                {"missing": missing[:3]},
                fix=f"correct these lines: relative paths start at {listing.absolute().parent}"
                if missing
                else f"find {_DATA} | shuf -n 500 > {quoted(listing)}",
            )

    def digest(self) -> str:
        """One hash over the bytes of all images, in order."""
        return hashlib.sha256("".join(sha256_of(path) for path in self.paths).encode()).hexdigest()

    def batches(self, size: int) -> Iterator[np.ndarray]:
        """uint8 (N, H, W, 3) of ``size`` images, preprocessed as for inference; an incomplete batch is left out."""
        for start in range(0, len(self.paths) - size + 1, size):
            part = []
            for path in self.paths[start : start + size]:
                image = read_image(path)
                matrix = fit_matrix((image.shape[0], image.shape[1]), self.input_size)
                part.append(warp(image, matrix, self.input_size))
            yield np.stack(part)


def calibration_cache(prepared: bytes, images: CalibrationImages, version: str) -> Path:
    """Cache file for the ranges of this graph, these images and this TensorRT."""
    key = hashlib.sha256(f"{hashlib.sha256(prepared).hexdigest()} {images.digest()} {version}".encode())
    return cache_folder() / f"calibration-{key.hexdigest()[:24]}.cache"


def make_calibrator(trt: Any, cuda: Cuda, images: CalibrationImages, batch: int, cache: Path) -> Any:
    """An ``IInt8EntropyCalibrator2`` over ``images``; ``close()`` frees its buffer and ``cuda``.

    TensorRT prints an exception of a calibrator, treats it as the end of the images and continues: engine and cache
    would get the ranges of some of the images only. So no ranges are cached then, and ``close()`` raises the exception.
    """

    class Calibrator(trt.IInt8EntropyCalibrator2):
        def __init__(self) -> None:
            trt.IInt8EntropyCalibrator2.__init__(self)
            self._batches = images.batches(batch)
            self._address = self._stream = 0
            self.failure: Exception | None = None

        def get_batch_size(self) -> int:
            return batch

        def get_batch(self, names: list[str], p_str: Any = None) -> list[int] | None:
            try:
                return self._next_batch()
            except Exception as error:
                self.failure = error
                return None

        def _next_batch(self) -> list[int] | None:
            found = next(self._batches, None)
            if found is None:
                return None
            values = np.ascontiguousarray(found, np.float32)
            with cuda.bound():
                if not self._address:
                    self._address, self._stream = cuda.alloc(values.nbytes), cuda.stream()
                cuda.to_device(self._address, values, self._stream)
                cuda.synchronize(self._stream)
            return [self._address]

        def read_calibration_cache(self) -> bytes | None:
            return load_cache(cache) or None

        def write_calibration_cache(self, ranges: Any) -> None:
            if self.failure is None:
                store_cache(cache, bytes(ranges))

        def close(self) -> None:
            """Free the buffer and ``cuda``; raises ``failure`` if there is one, else any error of freeing."""
            try:
                if self._address:
                    address, self._address = self._address, 0
                    with cuda.bound():
                        cuda.free(address)
                        cuda.free_stream(self._stream)
            except SamkrError as error:
                self.failure = self.failure or error  # report the first one
            finally:
                cuda.close()
            if self.failure is not None:
                raise self.failure

    return Calibrator()
