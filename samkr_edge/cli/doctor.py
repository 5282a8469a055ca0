"""`samkr-edge doctor`."""

from __future__ import annotations

from typing import Annotated

import typer


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False) -> None:
    """What works on this machine, and how to fix the rest.

    Examples:

      samkr-edge doctor

      samkr-edge doctor --json
    """
    from dataclasses import asdict

    from rich.table import Table

    from samkr_edge.cli.console import emit
    from samkr_edge.doctor import environment, findings

    facts = environment()
    found = findings(facts)
    table = Table(
        title=f"samkr-edge {facts['samkr_edge']}, Python {facts['python']}, {facts['cpu']}, {facts['cores']} cores",
        title_justify="left",
    )
    for column in ("", "what", "found", "fix"):
        table.add_column(column, overflow="fold")
    for finding in found:
        table.add_row("[green]ok" if finding.works else "[red]no", finding.what, finding.detail, finding.fix)
    emit({"environment": facts, "findings": [asdict(finding) for finding in found]}, table, as_json)
