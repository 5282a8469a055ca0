"""What TensorRT wrote to read again: timing caches and calibration ranges of builds, runtime caches of engines.

With a timing cache (what was measured for one GPU and version) a second build takes a fraction of the time; with a
runtime cache TensorRT for RTX finishes no kernel twice. A file holds the SHA-256 of the cache and then the cache: it is
read with native code, so one that was cut off or edited is ignored and made again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from samkr_edge.files.artefact import replacing

_DIGEST = hashlib.sha256().digest_size


def load_cache(path: Path) -> bytes:
    """The cache's bytes; empty where there is none, or none that is whole."""
    try:
        data = path.read_bytes()
    except OSError:
        return b""
    digest, cache = data[:_DIGEST], data[_DIGEST:]
    return cache if hashlib.sha256(cache).digest() == digest else b""


def store_cache(path: Path, cache: bytes) -> None:
    """Write it atomically; a build that is killed meanwhile leaves the old one whole."""
    with replacing(path) as temporary:
        temporary.write_bytes(hashlib.sha256(cache).digest() + cache)
