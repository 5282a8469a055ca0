"""`samkr-edge doctor`."""

from __future__ import annotations

from samkr_edge.cli.options import AsJson


def doctor(as_json: AsJson = False) -> None:
    """What works on this machine, and how to fix the rest. What is ok was imported, and opened on the GPU.

    Examples:

      samkr-edge doctor

      samkr-edge doctor --json
    """
    from dataclasses import asdict

    from rich.table import Table
    from rich.text import Text

    from samkr_edge.cli.console import emit
    from samkr_edge.doctor.environment import environment
    from samkr_edge.doctor.findings import findings, try_gpu, try_packages
    from samkr_edge.terminal import console

    with console(stderr=True).status("importing what is installed") as status:
        facts = environment()
        trials = try_packages()
        status.update("opening what is for the GPU")
        found = findings(facts, trials, try_gpu(facts, trials))
    table = Table(
        title=f"samkr-edge {facts['samkr_edge']}, Python {facts['python']}, {facts['cpu']}, {facts['cores']} cores",
        title_justify="left",
    )
    for column in ("", "what", "found", "fix"):
        table.add_column(column, overflow="fold")
    for finding in found:
        mark = Text("ok", "green") if finding.works else Text("no", "red")
        table.add_row(mark, finding.what, finding.detail, finding.fix)
    emit({"environment": facts, "findings": [asdict(finding) for finding in found]}, table, as_json)
