"""Where the cache keeps a ready network."""

from __future__ import annotations

from pathlib import Path

from samkr_edge.files.artefact import sha256_of
from samkr_edge.files.cache import cache_folder
from training.ready.shipped_file import FOLDER
from training.ready.table import ReadyNetwork

# What `import` makes of a file; raised when that changes, so that nothing older is used.
_IMPORT = 1


def place_of(network: ReadyNetwork) -> Path:
    """Its checkpoint, which may not be there yet, by the hash of the published file or of the shipped one."""
    digest = sha256_of(FOLDER / network.shipped) if network.shipped else network.sha256
    folder = f"{network.name}-{digest[:8]}.{_IMPORT}"
    return cache_folder() / "zoo" / folder / f"{network.name}.pt"
