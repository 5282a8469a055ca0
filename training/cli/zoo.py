"""`samkr-edge zoo` and `samkr-edge zoo get`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from samkr_edge.cli.options import AsJson, out_file
from samkr_edge.fixes import quoted
from samkr_edge.ready_name import PREFIX

if TYPE_CHECKING:
    from rich.table import Table

    from training.ready.table import ReadyNetwork

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    invoke_without_command=True,
)


@app.callback()
def zoo(
    context: typer.Context,
    sizes: Annotated[bool, typer.Option("--sizes", help="Ask the servers how large the files are.")] = False,
    as_json: AsJson = False,
) -> None:
    """The networks that are ready to use: zoo:NAME stands for one wherever a model is named.

    The APs are their publishers', by their protocol. A network is fetched when it is first used, checked by its hash,
    imported, and kept in the cache; then it needs no connection. --json has the addresses, for a host without one.

    Examples:

      samkr-edge zoo

      samkr-edge zoo --json

      samkr-edge zoo get dekr_w32_coco -o fp32.pt

      samkr-edge predict zoo:dekr_w32_coco people.jpg
    """
    if context.invoked_subcommand is not None:
        return
    from rich.console import Group

    from samkr_edge.cli.console import emit
    from training.ready.sources import VARIABLE
    from training.ready.table import NETWORKS

    rows = [_row(network, sizes) for network in NETWORKS]
    note = (
        "Another host can copy the files: --json lists the addresses. Give them to `zoo get NAME --from DIR`, or set "
        f"{VARIABLE} to a folder or to the address of a mirror. The data sets have terms of their own."
    )
    emit({"networks": rows, "note": note}, Group(_table(rows), note), as_json)


def _row(network: ReadyNetwork, sizes: bool) -> dict[str, Any]:
    from dataclasses import asdict

    from training.ready.download import size_of
    from training.ready.place import place_of
    from training.ready.shipped_file import FOLDER, shipped_card

    row = {**asdict(network), "file": network.file}
    if network.shipped:
        file = FOLDER / network.shipped
        published = shipped_card(file).provenance["ready"]["published"]
        return {**row, "published": published, "here": True, "bytes": file.stat().st_size}
    size = size_of(network.address) if sizes else None
    return {**row, "here": place_of(network).is_file(), "bytes": size}


def _table(rows: list[dict[str, Any]]) -> Table:
    from rich.table import Table

    sized = any(row["bytes"] for row in rows if not row["shipped"])
    table = Table(title="ready networks: zoo:NAME")
    for column in (
        "name",
        "network",
        "published",
        "by",
        "trained on",
        "licence",
        *(["MB"] if sized else []),
        "here",
    ):
        table.add_column(column, overflow="fold")
    for row in rows:
        megabytes = f"{row['bytes'] / 1e6:.0f}" if row["bytes"] else "?"
        table.add_row(
            row["name"],
            row["model"] if row["whole"] else "backbone",
            row["published"] or "-",
            row["by"],
            row["trained_on"],
            row["licence"],
            *([megabytes] if sized else []),
            "yes" if row["here"] else "",
        )
    return table


@app.command("get")
def get(
    name: Annotated[str, typer.Argument(help="See `samkr-edge zoo`.")],
    out: Annotated[Path | None, out_file("Checkpoint to write [default: only the cache has it].")] = None,
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="PLACE",
            help="The downloaded file, a folder or a mirror that has it [default: SAMKR_EDGE_ZOO, else its publisher].",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Get a ready network as a checkpoint: download, check the hash, import.

    What was downloaded before is not downloaded again, and a download that was cut off goes on where it stopped. The
    rescoring network that came with it is written next to the checkpoint, as NAME.rescore.npz.

    Examples:

      samkr-edge zoo get dekr_w32_coco -o fp32.pt

      samkr-edge zoo get dekr_w32_coco --from downloads

      samkr-edge zoo get dekr_w48_crowdpose --from https://mirror.example/mmpose -o fp32.pt
    """
    from samkr_edge.cli.console import emit
    from training.checkpoint import load_checkpoint
    from training.imported import rescoring_beside
    from training.ready.get import get as get_network
    from training.ready.table import ready_network

    network = ready_network(name)
    found = get_network(network, source)
    rescoring = rescoring_beside(found) if rescoring_beside(found).is_file() else None
    if out is not None:
        found, rescoring = _copied(found, out), rescoring and _copied(rescoring, rescoring_beside(out))
    facts = load_checkpoint(found).card.provenance.get("imported", {})
    lines = [f"{found}: {network.model}, {network.keypoints} keypoints, trained on {network.trained_on}"]
    if network.published:
        lines.append(
            f"published as {network.published}; measure it here: samkr-edge eval {quoted(found)} --data DIR"
        )
    if rescoring is not None:
        lines.append(f"{rescoring}: its rescoring network, for `eval --protocol paper --rescore`")
    lines.append(
        f"samkr-edge predict {quoted(PREFIX + network.name)} SOURCE   # its name in any command"
        if network.whole
        else f"samkr-edge train RECIPE --data DIR --out RUN --set init={quoted(PREFIX + network.name)}   # a start"
    )
    payload = {
        "checkpoint": str(found),
        "rescoring": str(rescoring) if rescoring else None,
        "imported": facts,
    }
    emit(payload, "\n".join(lines), as_json)


def _copied(file: Path, out: Path) -> Path:
    import shutil

    from samkr_edge.files.artefact import replacing

    with replacing(out) as temporary:
        shutil.copyfile(file, temporary)
    return out
