"""Every model's people on photographs against those of the FP32 model, which is the baseline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from benchmarks.schema import AgainstFp32, Spread

if TYPE_CHECKING:
    from samkr_edge.evaluation.against_reference import ReferencePeople
    from samkr_edge.pose_model import PoseModel


def measure_against_fp32(
    models: Mapping[str, PoseModel],
    baseline: str,
    reference: ReferencePeople,
    advance: Callable[..., Any] | None = None,
) -> dict[str, AgainstFp32]:
    """The row of each model; that of the baseline, which is not run again, is of no change.

    Args:
        models: name -> model.
        baseline: the name of the FP32 model.
        reference: what it finds on the photographs.
        advance: called after each photograph, of each model.
    """
    from samkr_edge.evaluation.against_reference import against
    from samkr_edge.evaluation.ap import predict_dataset

    found = {}
    for name, model in models.items():
        if name == baseline:
            predictions = reference.predictions
            if advance is not None:
                advance(len(reference.dataset))
        else:
            predictions = predict_dataset(model, reference.dataset, advance=advance)
        other = against(reference, predictions, least=model.card.sure_person)
        found[name] = AgainstFp32(
            ap=Spread(value=other.ap, low=other.ap_low, high=other.ap_high),
            kept=other.kept,
            lost=other.lost,
            new=other.new,
            moved_px=other.moved_px,
            moved_px_p95=other.moved_px_p95,
            oks=other.oks,
            oks_p5=other.oks_p5,
        )
    return found
