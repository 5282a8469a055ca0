"""A checkpoint whose card is of another network is refused when it is opened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from samkr_edge.errors import SamkrError
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.skeleton import COCO17, CROWDPOSE14
from training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, untrained_checkpoint
from training.weight_import.reading import read_weights


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return replace(untrained_checkpoint("samkr_tiny"), state={})


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"skeleton": CROWDPOSE14}, "SE-A27"),
        ({"stride": 8}, "SE-A27"),
        ({"decode_in": "graph"}, "SE-A27"),
        ({"input_size": (100, 128)}, "SE-A31"),
        ({"precision": "int3"}, "SE-A21"),
    ],
)
def test_a_card_of_another_network(
    tmp_path: Path, checkpoint: Checkpoint, change: dict[str, object], code: str
) -> None:
    save_checkpoint(tmp_path / "x.pt", replace(checkpoint, card=replace(checkpoint.card, **change)))  # type: ignore[arg-type]
    with pytest.raises(SamkrError) as caught:
        load_checkpoint(tmp_path / "x.pt")
    assert caught.value.code == code


def test_a_card_that_cannot_be_is_not_taken_for_other_weights(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(tmp_path / "x.pt", checkpoint)
    whole = torch.load(tmp_path / "x.pt", weights_only=True)
    whole["card"] |= {"decoding": "grouping", "decode": {"candidates": 99}}
    torch.save(whole, tmp_path / "x.pt")
    with pytest.raises(SamkrError) as caught:
        load_checkpoint(tmp_path / "x.pt")
    assert caught.value.code == "SE-A21"
    assert "99 candidates per keypoint are more than the 30 people" in str(caught.value.facts["reason"])
    # `import` refuses a checkpoint of ours.
    assert caught.value.fix == "use the checkpoint as train or import wrote it"


def test_its_own_card_is_taken(tmp_path: Path, checkpoint: Checkpoint) -> None:
    save_checkpoint(tmp_path / "x.pt", checkpoint)
    assert load_checkpoint(tmp_path / "x.pt").card == checkpoint.card


@pytest.mark.parametrize(
    ("name", "code", "fix"),
    [
        ("typo/a.pt", "SE-A23", "ls '{folder}'"),
        ("runs", "SE-A23", "name a file in it: ls '{folder}/runs'"),
        ("a.onnx", "SE-A30", "name the checkpoint that a.onnx was exported from"),
        ("a.json", "SE-A30", "name a checkpoint, as train, import, quantize and qat write them (.pt)"),
        ("a.pt", "SE-A30", "use another copy; a file cut off while being copied cannot be repaired"),
    ],
)
def test_what_is_no_checkpoint_has_its_own_way_out(tmp_path: Path, name: str, code: str, fix: str) -> None:
    folder = tmp_path / "my project"
    (folder / "runs").mkdir(parents=True)
    for file in ("a.onnx", "a.json", "a.pt"):
        (folder / file).write_bytes(b"no weights")
    with pytest.raises(SamkrError) as caught:
        load_checkpoint(folder / name)
    assert (caught.value.code, caught.value.fix) == (code, fix.format(folder=folder))


def test_the_name_of_a_network_is_told_from_a_missing_file() -> None:
    with pytest.raises(SamkrError) as caught:
        load_checkpoint("samkr_w32")
    assert "--untrained" in str(caught.value.fix)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"RIFF a picture WEBP", "not a file that torch.save wrote"),
        (b"\x80\x02.", "not a file that torch.save wrote"),
        (b"PK\x03\x04 the start of a zip", "PytorchStreamReader failed reading zip archive"),
    ],
)
@pytest.mark.parametrize("read", [load_checkpoint, read_weights])
def test_why_a_file_holds_no_weights_is_said_without_the_words_of_the_unpickler(
    tmp_path: Path, read: Callable[[Path], object], content: bytes, reason: str
) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(SamkrError) as caught:
        read(tmp_path / "a.pt")
    assert str(caught.value.facts["reason"]).startswith(reason)


@pytest.mark.parametrize(
    ("precision", "stage", "title"),
    [
        ("fp32", "fp32", "samkr_tiny, fp32, 17 keypoints, input 96x64"),
        ("int8", "qat", "samkr_tiny, int8 (qat), 17 keypoints, input 96x64"),
    ],
)
def test_a_card_s_title_says_how_weights_were_quantized_and_of_float_ones_nothing(
    precision: str, stage: str, title: str
) -> None:
    card = ModelCard("samkr_tiny", COCO17, (96, 64), precision=precision, stage=stage)
    assert card.title == title
