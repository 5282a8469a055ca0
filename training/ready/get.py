"""A ready network as a checkpoint of ours, from the cache where it has been fetched before."""

from __future__ import annotations

from pathlib import Path

from samkr_edge.evaluation.rescoring import save_rescoring
from samkr_edge.files.artefact import undisturbed
from samkr_edge.files.cache import made_in_cache
from samkr_edge.files.named import missing_file
from samkr_edge.fixes import quoted
from samkr_edge.printable import counted
from samkr_edge.ready_name import PREFIX
from samkr_edge.terminal import say
from training.checkpoint import save_checkpoint
from training.imported import import_network, rescoring_beside
from training.ready.download import fetch
from training.ready.place import place_of
from training.ready.shipped_file import FOLDER, read_shipped
from training.ready.table import ReadyNetwork, ready_network


def checkpoint_of(name: str) -> Path:
    """The checkpoint of this ready network; it is fetched the first time, and needs no network from then on.

    Raises:
        SamkrError: SE-U08 there is none; and what ``get`` raises.
    """
    return get(ready_network(name))


def rescoring_of(name: str) -> Path:
    """The rescoring network that came with this ready network.

    Raises:
        SamkrError: SE-A23 none came with it; and what ``checkpoint_of`` raises.
    """
    file = rescoring_beside(checkpoint_of(name))
    if not file.is_file():
        raise missing_file(
            PREFIX + name,
            "rescoring network",
            fix=f"samkr-edge rescore {quoted(PREFIX + name)} --data DIR -o rescore.npz   # trains one",
        )
    return file


def get(network: ReadyNetwork, source: str | None = None) -> Path:
    """A ready network's checkpoint, in the cache; its rescoring network, if any, is beside it.

    Args:
        network: which.
        source: where its file is: a file, a folder or the address of a mirror; None: ``SAMKR_EDGE_ZOO``, else where it
            was published.

    Raises:
        SamkrError: what fetching and importing raise.
    """
    out = place_of(network)
    if out.is_file():
        return out
    made_in_cache(out.parent)
    if network.shipped:
        save_checkpoint(out, read_shipped(FOLDER / network.shipped))
        return out
    downloads = made_in_cache(out.with_name("download"))
    waiting = f"another process is getting {network.name}: waiting for it"
    with undisturbed(downloads, alone=True, waiting=waiting):
        if not out.is_file():
            _import(network, fetch(network, downloads, source), out)
            (downloads / network.file).unlink(missing_ok=True)
    return out


def _import(network: ReadyNetwork, weights: Path, out: Path) -> None:
    facts = {
        "ready": network.name,
        "source": network.address,
        "by": network.by,
        "published": network.published,
        "trained": network.trained_on,
        "licence": network.licence,
    }
    imported = import_network(
        weights, network.model, network.keypoints, facts=facts, input_size=network.input_size
    )
    if network.whole and (fresh := len(imported.report.unfinished)):
        say(f"{network.name} is not finished: its file has no weights for {counted(fresh, 'tensor')}")
    if imported.rescoring is not None:
        save_rescoring(rescoring_beside(out), imported.rescoring)
    save_checkpoint(out, imported.checkpoint)  # last: where it is, all is there
