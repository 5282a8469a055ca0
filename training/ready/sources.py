"""Where the file of a ready network comes from: its publisher, a mirror, or a folder of a host without internet."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

from samkr_edge.files.named import missing_file
from samkr_edge.stream_address import without_secrets
from training.ready.table import ReadyNetwork

# Names a mirror or a folder for all ready networks, as --from does for one.
VARIABLE = "SAMKR_EDGE_ZOO"
_MIRROR = "samkr-edge zoo get NAME --from https://mirror.example/mmpose"


def places(network: ReadyNetwork, source: str | None) -> list[str] | Path:
    """The addresses to try in this order, or the file itself.

    A mirror, or a folder, has the files side by side or in their publisher's folders.

    Args:
        network: whose file.
        source: a file, a folder, or the address of either; None: the variable's, else the publisher's.

    Raises:
        SamkrError: SE-A23 the file or the folder is not there, or the address is none.
    """
    source = source or os.environ.get(VARIABLE)
    if not source:
        return [network.address]
    publisher = urlsplit(network.address)
    path_there = publisher.path.lstrip("/")
    beside = (network.file, path_there, f"{publisher.netloc}/{path_there}")
    if re.match("https?://", source, re.IGNORECASE):
        try:
            mirror = urlsplit(source)
        except ValueError as error:
            raise missing_file(without_secrets(source), "address", fix=_MIRROR) from error
        if mirror.path.endswith(".pth"):  # a signature may follow
            return [source]
        root = mirror.path.rstrip("/")
        return [mirror._replace(path=f"{root}/{name}").geturl() for name in beside]
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
