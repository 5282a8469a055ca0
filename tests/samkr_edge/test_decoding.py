"""A network is decoded as its card says, and the card is checked against it."""

from __future__ import annotations

import numpy as np
import pytest

from samkr_edge.decoding import people_of
from samkr_edge.errors import SamkrError
from samkr_edge.model_card import ModelCard
from samkr_edge.model_card_check import check_first_outputs
from samkr_edge.pose.grouping_settings import GroupingSettings
from samkr_edge.pose.skeleton import COCO17, CROWDPOSE14

CARD = ModelCard("swahr_tiny", COCO17, (64, 96), stride=2, grouping=GroupingSettings(joint_threshold=0.2))


def test_the_card_says_how_it_is_decoded_and_what_the_maps_are() -> None:
    assert (CARD.decoding, CARD.maps, CARD.outputs) == ("grouping", ("heatmap", "tag"), ("heatmap", "tag"))
    assert CARD.map_shapes == {"heatmap": (17, 32, 48), "tag": (17, 16, 24)}
    data = CARD.to_dict()
    assert data["decoding"] == "grouping"
    assert data["decode"]["joint_threshold"] == 0.2
    assert ModelCard.from_json(CARD.to_json()) == CARD
    offsets = ModelCard("samkr_w32", CROWDPOSE14, (64, 96))
    assert offsets.map_shapes == {"heatmap": (15, 16, 24), "offset": (28, 16, 24)}


def test_a_card_from_before_there_was_grouping_is_of_offsets() -> None:
    data = ModelCard("samkr_w32", COCO17, (64, 64)).to_dict()
    assert "decoding" not in data
    assert ModelCard.from_dict(data).decoding == "offsets"
    assert ModelCard.from_dict({**data, "decoding": "offsets"}).decoding == "offsets"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"decoding": "guessing"}, "decoding is 'guessing', known are offsets, grouping"),
        ({"decode_in": "graph"}, "people are grouped on the host"),
        ({"decode": {"candidates": 40}}, "40 candidates per keypoint are more than the 30 people allowed"),
        ({"decode": {"tag_threshold": -1}}, "decode.tag_threshold is '-1'"),
        ({"decode": {"candidates": 2.5}}, "decode.candidates is '2.5'"),
        ({"decode": {"refine": 2}}, "decode.refine is '2', expected true or false"),
        ({"decode": {"joint_threshold": float("nan")}}, "decode.joint_threshold is 'nan'"),
        (
            {"decode": {"center_threshold": 0.1}},
            "decode.center_threshold is no setting of grouping; known are max_",
        ),
        ({"decode": {"adjsut": True}}, "decode.adjsut is no setting of grouping"),
        ({"decoding": "offsets", "decode": {"adjust": True}}, "decode.adjust is no setting of offsets"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ModelCard.from_dict({**CARD.to_dict(), **changes})


def test_maps_of_another_decoding_are_not_taken_for_its_own() -> None:
    with pytest.raises(SamkrError) as refused:
        check_first_outputs("model.onnx", CARD, {"heatmap": (1, 18, 16, 24)}, "export it again")
    assert refused.value.code == "SE-A27"


@pytest.mark.parametrize("broken", ["heatmap", "tag"])
def test_maps_that_are_not_finite_are_one_error(broken: str) -> None:
    maps = {name: np.zeros(shape, np.float32) for name, shape in CARD.map_shapes.items()}
    maps[broken][3, 4, 5] = np.nan
    with pytest.raises(SamkrError, match="NaN or infinity") as refused:
        people_of(maps["heatmap"], maps["tag"], CARD)
    assert refused.value.code == "SE-A20"
    assert "eval CHECKPOINT" in str(refused.value.fix)
