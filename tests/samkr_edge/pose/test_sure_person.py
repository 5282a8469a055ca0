"""Who is shown: the least score is that of the network's decoding, wherever nobody chose another."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.measure.samples import _shown
from samkr_edge.cli.predict_options import Options
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.decode_settings import DecodeSettings
from samkr_edge.pose.grouping_settings import GroupingSettings
from samkr_edge.pose.skeleton import Skeleton
from samkr_edge.pose_model import PoseModel
from samkr_edge.runtime.runner import Runner
from samkr_edge.serve.facts import page_facts

HEAD = Skeleton("head", ("head",), (), (), (0.1,))
CARDS = {
    "offsets": ModelCard("heads", HEAD, (64, 64), decode=DecodeSettings(nms_joints=0)),
    "grouping": ModelCard("heads", HEAD, (64, 64), stride=2, grouping=GroupingSettings()),
}
BLACK = np.zeros((64, 64, 3), np.uint8)


class Sees(Runner):
    """Heads that score 0.2 and 0.4, whatever the picture."""

    kind = "onnx"

    def __init__(self, decoding: str) -> None:
        self.card = CARDS[decoding]

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        heatmap, association = (
            np.zeros((len(batch), *shape), np.float32) for shape in self.card.map_shapes.values()
        )
        if self.card.grouping is None:
            heatmap[:, 0] = 1
        for place, score in (((4, 4), 0.2), ((12, 12), 0.4)):
            heatmap[:, -1, place[0], place[1]] = score
        association[:, 0, :6] = 5 if self.card.grouping else 0  # two people by their tags
        return heatmap, association

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("decoding", "expected"), [("offsets", [0.4, 0.2]), ("grouping", [0.4])])
def test_what_grouping_leaves_over_is_shown_nowhere_unless_asked_for(
    decoding: str, expected: list[float]
) -> None:
    model = PoseModel(Sees(decoding), Path("heads.onnx"))
    everybody = model(BLACK, threshold=None)
    assert everybody.scores.tolist() == pytest.approx([0.4, 0.2])
    predicted, chosen = (Options(None, least).choose(everybody, model.card) for least in (None, 0.15))
    for shown in (model(BLACK), model.batch([BLACK])[0], predicted, _shown(everybody, model.card)):
        assert shown.scores.tolist() == pytest.approx(expected)
    assert len(chosen) == len(model(BLACK, threshold=0.15)) == 2


def test_two_models_on_one_page_each_begin_with_their_own_score() -> None:
    models = [PoseModel(Sees(decoding), Path("heads.onnx")) for decoding in ("grouping", "offsets")]
    for threshold, expected in ((None, [0.3, 0.1]), (0.5, [0.5, 0.5])):
        facts = page_facts(
            models, ["walk.mp4"], threads=1, threshold=threshold, boxes=True, writes=True, rate=15
        )
        assert [model["threshold"] for model in facts["models"]] == expected
