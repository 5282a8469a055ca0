"""The kernels that a card finishes for an engine of TensorRT for RTX, kept from one start to the next.

Such an engine is built ahead of time; its kernels are finished for the card at hand when a context is made and in the
first inference. TensorRT's runtime cache holds them. We keep it in our cache folder, by engine, GPU and version, and
read it before the first context. TensorRT compares it with the running GPU, driver and version and refuses one that
does not fit, which is then made again.
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from samkr_edge.errors import SamkrError
from samkr_edge.files.cache import cache_folder
from samkr_edge.passport import Passport
from samkr_edge.runtime.tensorrt_caches import load_cache, store_cache
from targets.device import Device


class FinishedKernels:
    """The runtime cache of one engine.

    Attributes:
        runtime_config: what every execution context of the engine is made with.
        reused: whether TensorRT took what an earlier start has kept.
    """

    def __init__(self, engine: Any, path: Path) -> None:
        self.runtime_config = engine.create_runtime_config()
        self._path = path
        self._runtime_cache = self.runtime_config.create_runtime_cache()
        self._kept = load_cache(path)
        self.reused = bool(self._kept) and bool(self._runtime_cache.deserialize(self._kept))
        self.runtime_config.set_runtime_cache(self._runtime_cache)
        self._done = False

    def keep(self) -> None:
        """Write the kernels finished so far, once: after the first inference nothing is left to finish."""
        if self._done:
            return
        self._done = True
        serialized = self._runtime_cache.serialize()  # None if TensorRT cannot
        finished = bytes(serialized) if serialized is not None else b""
        if finished and finished != self._kept:
            # Without it the next start takes longer, which is no reason to fail this run.
            with suppress(SamkrError):
                store_cache(self._path, finished)


def kernels_path(passport: Passport, device: Device) -> Path:
    """The file of an engine's finished kernels for this GPU."""
    gpu = re.sub(r"[^a-z0-9]+", "-", (device.gpu or "gpu").lower()).strip("-")
    return cache_folder() / f"{passport.sha256[:16]}-{gpu}-rtx{passport.runtime_version}.kernels"
