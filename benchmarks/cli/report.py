"""`samkr-edge report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from samkr_edge.cli.options import AsJson, out_file
from samkr_edge.cli.places import file_to_write
from samkr_edge.errors import SamkrError


def report(
    results: Annotated[
        list[Path] | None,
        typer.Argument(metavar="RESULTS...", help="results.json files, their folders, or folders of sweeps."),
    ] = None,
    output: Annotated[
        Path | None, out_file("The HTML file to write [default: report.html].", "--output")
    ] = None,
    max_latency: Annotated[
        float | None,
        typer.Option(min=0, metavar="MS", help="Recommend the most accurate model within this p90."),
    ] = None,
    min_ap: Annotated[
        float | None, typer.Option(min=0, metavar="AP", help="Recommend the fastest model with this AP.")
    ] = None,
    sensitivity: Annotated[
        Path | None,
        typer.Option(help="sensitivity.json, for a chart of what each group of layers costs in INT8."),
    ] = None,
    paper: Annotated[
        bool, typer.Option("--paper", help="Show the paper's Tables 1 to 6, ours next to them.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """One self-contained HTML page: verdict, accuracy against latency, the table, sample predictions.

    The page needs no network and no script, is below 2 MB, and prints well.

    Examples:

      samkr-edge report results/results.json -o report.html

      samkr-edge report laptop/results.json jetson/results.json --max-latency 33 -o both.html

      samkr-edge report sweep-paper --paper -o paper.html
    """
    from benchmarks.report.page import Asked, is_report, write_report
    from samkr_edge.cli.console import emit
    from samkr_edge.files.own_files import refuse_foreign

    if not results and not paper:
        raise SamkrError("SE-U67", "a report needs results", fix="samkr-edge report results/results.json")
    if output is None:
        output = Path("report.html")
        refuse_foreign([output], made=is_report)
        file_to_write(output)
    written = write_report(results or [], output, Asked(max_latency, min_ap, sensitivity, paper))
    emit(
        {"report": str(output), "bytes": written.size, "verdicts": written.verdicts},
        "\n".join([*written.verdicts, f"wrote {output} ({written.size / 1e3:.0f} kB)"]),
        as_json,
    )
