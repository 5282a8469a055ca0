"""Where `bench` writes, and what must not be there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from samkr_edge.cli.places import file_to_write
from samkr_edge.errors import SamkrError

if TYPE_CHECKING:
    from benchmarks.schema import Results


def refuse_foreign_files(out: Path | None, target: Path | None, report: bool) -> None:
    """Refuse to replace files of other origin in the folder ``--out``; a file named by it may be replaced."""
    from benchmarks.report.page import is_report
    from benchmarks.schema import is_results
    from samkr_edge.files.own_files import refuse_foreign

    if target is not None and target != out:
        refuse_foreign([target], made=is_results, fix="choose another --out")
        if report:
            refuse_foreign([page_beside(target)], made=is_report, fix="choose another --out")


def require_places(target: Path | None, report: bool, baseline: Path | None) -> None:
    """Check that the output can be written at the end and does not replace the results ``baseline``."""
    from benchmarks.report.page import require_jinja2
    from samkr_edge.files.one_file import is_same_file

    if target is None:
        if report:
            raise SamkrError("SE-U63", "--report needs a folder to write to", fix="add --out results")
        return
    if baseline is not None and is_same_file(target, results_path(baseline)):
        # Otherwise the next run would be compared with the failed one.
        raise SamkrError(
            "SE-U74",
            f"--out would replace {target}, the results that this run is compared with",
            fix="choose another --out",
        )
    file_to_write(target)
    if report:
        file_to_write(page_beside(target))
        require_jinja2()


def results_path(out: Path) -> Path:
    """The file of results that ``--out`` means: itself, or the one in the folder."""
    from benchmarks.schema import FILE_NAME

    return out if out.suffix == ".json" else out / FILE_NAME


def page_beside(target: Path) -> Path:
    """Where ``--report`` goes."""
    return target.with_name("report.html")


def samples_folder(target: Path) -> Path:
    """``samples`` next to ``results.json``; for any other name a folder named after it, so that runs can share one."""
    from benchmarks.sample_pictures import FOLDER
    from benchmarks.schema import FILE_NAME

    return target.with_name(FOLDER if target.name == FILE_NAME else f"{target.stem}-{FOLDER}")


def results_in(target: Path | None) -> Results | None:
    """The results of an earlier run in the same place, for reuse; None if anything is wrong with them."""
    from benchmarks.schema import read_results

    if target is None or not target.is_file():
        return None
    try:
        return read_results(target)
    except SamkrError:
        return None
