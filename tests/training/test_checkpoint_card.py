"""A checkpoint whose card is of another network is refused when it is opened."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from samkr_edge.errors import SamkrError
from samkr_edge.pose.skeleton import CROWDPOSE14
from training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, untrained_checkpoint


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
        ({"precision": "int3"}, "SE-A31"),
    ],
)
def test_a_card_of_another_network(
    tmp_path: Path, checkpoint: Checkpoint, change: dict[str, object], code: str
) -> None:
    save_checkpoint(tmp_path / "x.pt", replace(checkpoint, card=replace(checkpoint.card, **change)))  # type: ignore[arg-type]
    with pytest.raises(SamkrError) as caught:
        load_checkpoint(tmp_path / "x.pt")
    assert caught.value.code == code


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
