"""`samkr-edge ledger`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from calibration.cli.options import JUDGED_PHOTOS
from samkr_edge.cli.options import DATA, SPLIT, AsJson, Split, Threads, out_file
from samkr_edge.cli.photos import PhotoWords, chosen_photos, require_one
from samkr_edge.cli.places import models_named
from samkr_edge.cli.protocol import Anyway
from samkr_edge.errors import SamkrError
from samkr_edge.printable import counted

if TYPE_CHECKING:
    from rich.table import Table

    from calibration.analysis.judge import Judge
    from calibration.analysis.ledger import LedgerStage
    from calibration.analysis.scoring import Followed


def ledger(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="CKPT MODEL...",
            help="FP32 checkpoint first, then its other forms in order: .pt, .onnx, ...",
            callback=models_named,
        ),
    ],
    data: Annotated[Path | None, DATA] = None,
    photos: PhotoWords = None,
    split: Split = SPLIT,
    limit: Annotated[int | None, typer.Option(min=2, help="Only the first N images, two at least.")] = None,
    anyway: Anyway = False,
    threads: Threads = 1,
    out: Annotated[Path | None, out_file("Also write it here as JSON, to keep the run.")] = None,
    as_json: AsJson = False,
) -> None:
    """The same images through every form of a network, naming the step where accuracy was lost.

    Each form is compared with the earlier one of the same precision: ONNX FP32 with torch FP32, the Q/DQ ONNX with
    the fake-quantized checkpoint, the built model with its ONNX. A checkpoint in front is also measured in memory
    without its attention: what `export --without attention` would leave out. With --photos the people that the first
    network, FP32, finds on them stand for labels; pictures that calibrated one of the others are left out.

    Examples:

      samkr-edge ledger fp32/final.pt fp32.onnx ptq.pt ptq.onnx ptq.cpu.onnx --data people

      samkr-edge ledger fp32/final.pt ptq.pt --data people --limit 100 --json

      samkr-edge ledger fp32/final.pt ptq.pt ptq.onnx --photos my_pictures

      samkr-edge ledger fp32/final.pt qat.pt qat.onnx qat.engine --data /data/coco -o ledger.json
    """
    from datetime import datetime, timezone

    from rich.console import Group

    from calibration.analysis.judge import by_labels, by_photos
    from calibration.analysis.ledger import follow, verdict, without_its_attention
    from calibration.inputs import warn_if_meaningless
    from samkr_edge import __version__
    from samkr_edge.cli.console import emit
    from samkr_edge.dataset.photos import KnownPictures
    from samkr_edge.doctor.environment import environment
    from samkr_edge.files.artefact import write_json
    from samkr_edge.files.one_file import digests_of, refuse_replaced, refuse_twice
    from samkr_edge.json_output import OUTPUT_SCHEMA_VERSION
    from samkr_edge.pose_model import load_model
    from samkr_edge.progress import progress
    from samkr_edge.terminal import say

    if len(models) < 2:
        raise SamkrError(
            "SE-U82",
            "a ledger compares at least two models",
            fix="samkr-edge ledger FP32.pt PTQ.pt --data DIR",
        )
    refuse_twice(models, "measured")
    require_one(photos, data, split)
    digests = digests_of(models)
    opened = [load_model(path, threads=threads) for path in models]
    if (bare := without_its_attention(opened[0])) is not None:
        opened.insert(1, bare)
    cards = {str(model.path): model.card for model in opened}
    known = KnownPictures.calibrating(cards.values())
    with chosen_photos(photos, data, limit or JUDGED_PHOTOS, leave_out=known) as pictures:
        if pictures is not None:
            judge = by_photos(opened[0], pictures, cards, anyway=anyway)
        else:
            assert data is not None
            judge = by_labels(data, split, limit, cards, anyway=anyway)
        images = len(judge.bench.images)
        with progress("scoring", len(opened) * images, unit="images") as advance:
            stages = follow(opened, judge.bench, advance=advance)
    refuse_replaced(digests, "nothing was written")
    warn_if_meaningless(stages[0].ap)
    text = verdict(stages, judge.metric)
    payload = {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "version": __version__,
        "environment": environment(),
        "network": opened[0].card.model,
        **judge.facts,
        "threads": threads,
        "stages": [stage.to_dict() for stage in stages],
        "verdict": text,
    }
    if out is not None:
        write_json(out, {"schema_version": OUTPUT_SCHEMA_VERSION, **payload})
        say(f"wrote {out}")
    emit(payload, Group(_table(stages, images, judge), text), as_json)


def _table(stages: Sequence[LedgerStage], images: int, judge: Judge) -> Table:
    from rich.table import Table

    against = judge.against_fp32
    named = "" if judge.metric == "AP" else f"{judge.metric}; "
    title = f"{counted(images, 'image')}; {named}differences to `after`, 95 % intervals over images"
    caption = "px of the photographs, within which 95 % of FP32's joints are found; lost people's count as not found"
    table = Table(title=title, caption=caption if against else None)
    for name in ("model", "form", "after"):
        table.add_column(name, overflow="fold")
    ap = ("AP\nagainst\nFP32", "won", "OKS x 100\nwon") if against else ("AP", "AP won", "OKS x 100 won")
    for name in (*ap, "map errors", *(("px", "lost", "new") if against else ())):
        table.add_column(name, justify="right", no_wrap=True)
    for s in stages:
        differences = (s.difference.ap.text(), s.difference.oks.text(100)) if s.difference else ("", "")
        errors = ", ".join(f"{100 * error:.1f} %" for error in s.map_errors.values() if error is not None)
        table.add_row(
            s.name, s.form, s.parent or "", f"{s.ap:.1f}", *differences, errors, *_people(s.followed)
        )
    return table


def _people(followed: Followed | None) -> tuple[str, ...]:
    if followed is None:
        return ()
    reach = "-" if followed.reach_px is None else f"{followed.reach_px:.1f}"
    return reach, f"{followed.lost} of {followed.people}", str(followed.new)
