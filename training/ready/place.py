"""Where the cache keeps a ready network."""

from __future__ import annotations

from pathlib import Path

from samkr_edge.files.cache import cache_folder
from training.ready.table import ReadyNetwork

# What `import` makes of a file; raised when that changes, so that nothing older is used.
_IMPORT = 1


def place_of(network: ReadyNetwork) -> Path:
    """Its checkpoint, which may not be there yet: by the hash of the published file, or as it is shipped."""
    if network.shipped:
        return Path(__file__).with_name("shipped") / network.shipped
    folder = f"{network.name}-{network.sha256[:8]}.{_IMPORT}"
    return cache_folder() / "zoo" / folder / f"{network.name}.pt"
