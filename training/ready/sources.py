"""Where the file of a ready network comes from: its publisher, a mirror, or a folder of a host without internet."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from samkr_edge.files.named import missing_file
from training.ready.table import ReadyNetwork

# Names a mirror or a folder for all ready networks, as --from does for one.
VARIABLE = "SAMKR_EDGE_ZOO"


def places(network: ReadyNetwork, source: str | None) -> list[str] | Path:
    """The addresses to try in this order, or the file itself.

    A mirror, or a folder, has the files side by side or in their publisher's folders.

    Args:
        network: whose file.
        source: a file, a folder, or the address of either; None: the variable's, else the publisher's.

    Raises:
        SamkrError: SE-A23 the file or the folder is not there.
    """
    source = source or os.environ.get(VARIABLE)
    if not source:
        return [network.address]
    beside = (network.file, urlsplit(network.address).path.lstrip("/"))
    if re.match("https?://", source, re.IGNORECASE):
        if source.endswith(".pth"):
            return [source]
        return [f"{source.rstrip('/')}/{name}" for name in beside]
    path = Path(source).expanduser()
    found = [path, *(path / name for name in beside)]
    for file in found:
        if file.is_file():
            return file
    if not path.is_dir():
        raise missing_file(
            path, "file or folder of ready networks", fix="samkr-edge zoo --json   # has the addresses"
        )
    raise missing_file(found[1], "published file", fix=f"copy {network.address} into {path}")
