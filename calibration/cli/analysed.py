"""What `sensitivity` and `search` start from: a network to analyse, and images to judge it on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration.cli.options import JUDGED_PHOTOS
from samkr_edge.cli.photos import chosen_photos, require_one

if TYPE_CHECKING:
    from calibration.analysis.judge import Judge
    from calibration.analysis.start import Analysis


@contextmanager
def analysed(
    checkpoint: Path,
    data: Path | None,
    photos: Sequence[str] | None,
    *,
    policy: str,
    split: str,
    limit: int | None,
    anyway: bool,
    images: int,
    seed: int,
    threads: int | None,
    **changes: Any,
) -> Iterator[tuple[Analysis, Judge]]:
    """Both, from the options of a command; copies of photographs are there until the end of ``with``.

    Args:
        checkpoint: the FP32 network.
        data: the data set, calibrated on by its training split and judged on ``split``.
        photos: or photographs, of which some calibrate and others judge.
        policy: its name or file.
        split: to judge on.
        limit: how many images judge; None: all of a split, or 200 photographs.
        anyway: judge although the network was trained on these images.
        images: how many calibrate.
        seed: of the choice.
        threads: of the CPU; None: all.
        changes: fields of the policy.
    """
    from calibration.analysis.judge import by_labels, by_photos
    from calibration.analysis.start import Analysis
    from calibration.inputs import calibrating_and_judging
    from samkr_edge.pose_model import PoseModel
    from training.torch_runner import TorchRunner

    require_one(photos, data, split)
    with chosen_photos(photos, data, images + (limit or JUDGED_PHOTOS), seed=seed) as pictures:
        calibrating, judging = calibrating_and_judging(pictures, images) if pictures else (None, None)
        analysis = Analysis.of(
            checkpoint, data, policy, images, seed, threads, split=split, photos=calibrating, **changes
        )
        cards = {str(checkpoint): analysis.card}
        if judging is not None:
            fp32 = PoseModel(TorchRunner(analysis.network, analysis.card), checkpoint)
            judge = by_photos(fp32, judging, cards, anyway=anyway)
        else:
            assert data is not None
            judge = by_labels(data, split, limit, cards, anyway=anyway)
        yield analysis, judge
