"""Results to one self-contained HTML page: no network, no script, below 2 MB."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.paper import TABLES
from benchmarks.report.overview import chosen, overview, run_names
from benchmarks.report.paper_tables import ours
from benchmarks.report.pareto_plot import pareto_plots
from benchmarks.report.pictures import Budget
from benchmarks.report.run import STAGES_SHOWN, run_part
from benchmarks.report.sensitivity import SensitivityPart, read_sensitivity
from benchmarks.schema import FILE_NAME, Results, common_ap_label, read_results
from benchmarks.sweep.index import INDEX, cell_files
from samkr_edge import __version__
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import replacing
from samkr_edge.fixes import quoted
from samkr_edge.packages import not_installed

MAX_BYTES = 2_000_000
# Room for the pictures of all runs together; the rest of a page is far below the remaining half megabyte.
_PICTURE_BYTES = 1_400_000
_TEMPLATES = Path(__file__).parent


@dataclass(frozen=True)
class Written:
    """What was written."""

    size: int
    verdicts: list[str]


@dataclass(frozen=True)
class Asked:
    """What the page must answer or show besides the runs.

    Attributes:
        max_latency, min_ap: constraints of the recommendation: milliseconds of the p90, and AP.
        sensitivity: file or folder of `samkr-edge sensitivity`.
        paper: show the paper's tables next to our measurements.
    """

    max_latency: float | None = None
    min_ap: float | None = None
    sensitivity: Path | None = None
    paper: bool = False


def is_report(path: Path) -> bool:
    """Whether a file is a page written by this module."""
    try:
        with open(path, "rb") as stream:
            return b'content="samkr-edge"' in stream.read(2048)
    except OSError:
        return False


def write_report(paths: Sequence[Path], output: Path, wishes: Asked | None = None) -> Written:
    """Read results files and write the page, atomically.

    Args:
        paths: ``results.json`` files, their folders, or folders of sweeps; each run becomes a part of the page, all
            share one plot.
        output: the HTML file.
        wishes: constraints and further parts.

    Raises:
        SamkrError: those of ``read_results``; SE-U70 when jinja2 is not installed; SE-A69 when a sweep has no
            finished cell.
    """
    wishes = wishes or Asked()
    runs = [(read_results(path), path.parent) for path in _results_files(paths)]
    sensitivity = None if wishes.sensitivity is None else read_sensitivity(wishes.sensitivity)
    page = render(runs, wishes, sensitivity)
    with replacing(output) as temporary:  # a page is UTF-8, file names need not be
        temporary.write_text(page, encoding="utf-8", errors="backslashreplace")
    verdicts = [results.verdict for results, _ in runs]
    choice = chosen(_named([results for results, _ in runs]), wishes.max_latency, wishes.min_ap)
    if choice is not None:
        verdicts = [choice.sentence, *verdicts]
    return Written(output.stat().st_size, verdicts)


def _results_files(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if (path / INDEX).is_file():
            cells = cell_files(path)
            if not cells:
                raise SamkrError(
                    "SE-A69",
                    f"the sweep {path} has no finished cell, so there is nothing to report",
                    fix=f"samkr-edge sweep SUITE --out {quoted(path)}",
                )
            files += cells
        else:
            files.append(path / FILE_NAME if path.is_dir() else path)
    # A folder and the file in it are one run.
    return list({os.path.realpath(file): file for file in files}.values())


def _named(runs: Sequence[Results]) -> list[tuple[str, Results]]:
    return list(zip(run_names(runs), runs, strict=True)) if runs else []


def require_jinja2() -> None:
    """SE-U70 if pages cannot be made; checked before anything is measured for one."""
    try:
        import jinja2  # noqa: F401
    except ModuleNotFoundError as error:
        raise not_installed("a report", "jinja2", 'pip install "samkr-edge[report]"') from error


def render(
    runs: Sequence[tuple[Results, Path]],
    wishes: Asked | None = None,
    sensitivity: SensitivityPart | None = None,
) -> str:
    """The page for (results, folder of its samples) pairs."""
    require_jinja2()
    import jinja2
    from markupsafe import Markup

    wishes = wishes or Asked()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["safe_svg"] = Markup
    budget = Budget(_PICTURE_BYTES)
    named = _named([results for results, _ in runs])
    parts = [
        run_part(number, results, folder, budget, name if len(runs) > 1 else "")
        for number, ((name, results), (_, folder)) in enumerate(zip(named, runs, strict=True))
    ]
    return environment.get_template("report.html.j2").render(
        title=_title([results for results, _ in runs]),
        version=__version__,
        runs=parts,
        overview=overview(named, wishes.max_latency, wishes.min_ap),
        plots=pareto_plots(named),
        ap_label=common_ap_label([results for results, _ in runs]),
        stages=STAGES_SHOWN,
        sensitivity=sensitivity,
        tables=[(table, [(row, ours(table, row, named)) for row in table.rows]) for table in TABLES]
        if wishes.paper
        else [],
    )


def _title(runs: Sequence[Results]) -> str:
    networks = sorted({model.network for results in runs for model in results.models})
    return f"{', '.join(networks)}: accuracy against latency" if networks else "SAMKR: the paper's tables"
