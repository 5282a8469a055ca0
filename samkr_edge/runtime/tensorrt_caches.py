"""TensorRT's caches on disk: timing caches and calibration ranges of builds, runtime caches of engines.

With a timing cache (measurements for one GPU and version) a second build takes a fraction of the time; with a runtime
cache TensorRT for RTX finishes no kernel twice. A file holds the cache's SHA-256 and then the cache. Native code reads
it, so one that was truncated or edited is ignored and made again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from samkr_edge.files.artefact import replacing

_DIGEST = hashlib.sha256().digest_size


def load_cache(path: Path) -> bytes:
    """The cache's bytes; empty if there is none, or it is damaged."""
    try:
        data = path.read_bytes()
    except OSError:
        return b""
    digest, cache = data[:_DIGEST], data[_DIGEST:]
    return cache if hashlib.sha256(cache).digest() == digest else b""


def store_cache(path: Path, cache: bytes) -> None:
    """Write it atomically: a build that is killed meanwhile leaves the old one intact."""
    with replacing(path) as temporary:
        temporary.write_bytes(hashlib.sha256(cache).digest() + cache)
