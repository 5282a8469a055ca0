"""A network without its attention: what is left is the same, and it is left out only where that costs nothing."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from small_run import SMALL
from torch import Tensor, nn

from samkr_edge.cli import run
from samkr_edge.dataset.keypoint_dataset import KeypointDataset, open_dataset
from samkr_edge.errors import SamkrError
from samkr_edge.evaluation.scores import Interval
from samkr_edge.files.artefact import sha256_of
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.decode_settings import DecodeSettings
from samkr_edge.pose.skeleton import COCO17
from samkr_edge.pose_model import load_model
from training import attention_worth
from training.attention_worth import judge_by_ap, judge_by_joints
from training.checkpoint import Checkpoint, save_checkpoint
from training.data.rendered.probe import rendered_probe
from training.models.pose_net import PoseNet
from training.models.subspace_attention import SubspaceAttention
from training.models.zoo import build_model
from training.without_attention import without_attention

Captured = pytest.CaptureFixture[str]
SIZE, MAP, CENTER = 64, 16, 8
CARD = ModelCard("small", COCO17, (SIZE, SIZE), decode=DecodeSettings(max_people=5))
# Joints of the person in every picture, map pixels from its centre.
JOINTS = 3 * np.stack(
    [np.cos(np.arange(17) * 2 * np.pi / 17), np.sin(np.arange(17) * 2 * np.pi / 17)], axis=1
)


class Painted(nn.Module):
    """Sees one person in every picture, whose joints are all ``right`` input pixels too far right."""

    def __init__(self, right: float = 0.0, center: float = 1.0) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))
        heatmap = torch.ones(18, MAP, MAP)
        heatmap[-1] = 0.0
        heatmap[-1, CENTER, CENTER] = center
        offset = -torch.tensor(JOINTS, dtype=torch.float32) - torch.tensor([right / 4, 0.0])
        self.maps = heatmap, offset.reshape(34, 1, 1).expand(34, MAP, MAP)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        heatmap, offset = self.maps
        return heatmap.expand(len(image), -1, -1, -1), offset.expand(len(image), -1, -1, -1)


@pytest.fixture(scope="module")
def painted_people(tmp_path_factory: pytest.TempPathFactory) -> KeypointDataset:
    """Four pictures of the person that ``Painted`` sees, in COCO's layout."""
    root = tmp_path_factory.mktemp("painted") / "people"
    (root / "annotations").mkdir(parents=True)
    (root / "images" / "val2017").mkdir(parents=True)
    images, people = [], []
    keypoints = [v for x, y in 4 * (CENTER + JOINTS) for v in (float(x), float(y), 2)]
    for number in range(1, 5):
        name = f"{number}.png"
        cv2.imwrite(str(root / "images" / "val2017" / name), np.full((SIZE, SIZE, 3), 40 * number, np.uint8))
        images.append({"id": number, "file_name": name, "width": SIZE, "height": SIZE})
        person = {"id": number, "image_id": number, "category_id": 1, "iscrowd": 0, "num_keypoints": 17}
        people.append({**person, "keypoints": keypoints, "area": 400.0, "bbox": [20, 20, 24, 24]})
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoints), "skeleton": []}
    content = {"images": images, "annotations": people, "categories": [category]}
    (root / "annotations" / "person_keypoints_val2017.json").write_text(json.dumps(content))
    return open_dataset(root, "val")


def small_network(seed: int = 0) -> PoseNet:
    torch.manual_seed(seed)
    return build_model(SMALL).eval()


def attention_of(network: PoseNet) -> SubspaceAttention:
    attention = network.offset_head.attention
    assert isinstance(attention, SubspaceAttention)
    return attention


def test_what_is_left_has_the_same_bits() -> None:
    network = small_network()
    left = without_attention(network)
    whole, rest = network.state_dict(), left.state_dict()
    assert {name for name in whole if name not in rest} == {
        f"offset_head.attention.{name}" for name in attention_of(network).state_dict()
    }
    assert all(torch.equal(whole[name], tensor) for name, tensor in rest.items())
    assert left.config == replace(SMALL, groups=0)
    build_model(left.config).load_state_dict(rest)
    assert network.config == SMALL


def test_an_even_attention_is_a_factor_and_without_it_there_is_none() -> None:
    """A softmax of zeros is 1 / (H * W) everywhere."""
    network = small_network()
    norm = attention_of(network).pointwise_bn
    for parameter in (norm.weight, norm.bias):
        nn.init.zeros_(parameter)
    image = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        heatmap, offset = network(image)
        left_heatmap, left_offset = without_attention(network)(image)
        assert network.offset_head.final.bias is not None
        bias = SMALL.offset_scale * network.offset_head.final.bias.view(1, -1, 1, 1)
    assert torch.equal(heatmap, left_heatmap)
    assert float((offset - left_offset).abs().max()) > 0
    torch.testing.assert_close(offset - bias, (left_offset - bias) * (1 + 1 / MAP**2), rtol=1e-4, atol=1e-6)


def test_a_network_that_has_none_is_refused() -> None:
    with pytest.raises(SamkrError) as refused:
        without_attention(build_model(replace(SMALL, groups=0)))
    assert refused.value.code == "SE-U80"


def test_joints_that_move_within_the_budget_are_told() -> None:
    facts = judge_by_joints(Painted(), Painted(0.2), CARD, rendered_probe())  # type: ignore[arg-type]
    assert facts["people"] == 4
    assert facts["joints_largest"] == pytest.approx(0.2, abs=1e-4)
    assert "largest 0.2 px without it, of 4 people on 4 rendered images" in facts["judged"]


@pytest.mark.parametrize(
    ("without", "fact"),
    [
        (Painted(0.3), "largest 0.3 px"),
        (Painted(float("nan")), "largest nan px"),
        (Painted(center=0.05), "0 of 4 stay"),
    ],
    ids=["moved", "nan", "lost"],
)
def test_joints_that_move_too_far_are_refused(without: nn.Module, fact: str) -> None:
    with pytest.raises(SamkrError, match=fact) as refused:
        judge_by_joints(Painted(), without, CARD, rendered_probe())  # type: ignore[arg-type]
    assert refused.value.code == "SE-Q68"
    assert refused.value.exit_code == 6


def test_nobody_to_judge_by_is_no_proof() -> None:
    with pytest.raises(SamkrError) as refused:
        judge_by_joints(Painted(center=0.05), Painted(center=0.05), CARD, rendered_probe())  # type: ignore[arg-type]
    assert refused.value.code == "SE-Q69"
    assert "--data" in str(refused.value.fix)


def test_ap_decides_where_there_are_labels(painted_people: KeypointDataset) -> None:
    facts = judge_by_ap(Painted(), Painted(0.5), CARD, painted_people)  # type: ignore[arg-type]
    assert facts["ap"] == pytest.approx(100.0)
    assert facts["difference"] == [0.0, 0.0, 0.0]
    assert (facts["images"], facts["data"], facts["split"]) == (4, "people", "val")
    with pytest.raises(SamkrError, match=r"allowed    0\.1 AP") as refused:
        judge_by_ap(Painted(), Painted(3.0), CARD, painted_people, limit=2)  # type: ignore[arg-type]
    assert refused.value.code == "SE-Q68"
    judge_by_ap(Painted(), Painted(3.0), CARD, painted_people, max_drop=100)  # type: ignore[arg-type]


def test_images_that_it_learned_from_prove_nothing_about_others(painted_people: KeypointDataset) -> None:
    digest = sha256_of(painted_people.annotation_path)
    card = CARD.with_provenance(training={"split": "val", "annotations_sha256": digest})
    with pytest.raises(SamkrError) as refused:
        judge_by_ap(Painted(), Painted(), card, painted_people)  # type: ignore[arg-type]
    assert refused.value.code == "SE-D45"
    facts = judge_by_ap(Painted(), Painted(), card, painted_people, anyway=True)  # type: ignore[arg-type]
    assert facts["trained_on"]
    assert "100.00 train-fit AP with it" in facts["judged"]


def test_the_drop_is_the_difference_and_not_the_end_of_its_interval(
    painted_people: KeypointDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_worth, "paired_bootstrap", lambda *_, **__: Interval(-0.09, -0.3, 0.1))
    facts = judge_by_ap(Painted(), Painted(), CARD, painted_people)  # type: ignore[arg-type]
    assert "-0.09 [-0.30, +0.10]" in facts["judged"]


def test_ap_near_zero_is_no_proof(painted_people: KeypointDataset) -> None:
    with pytest.raises(SamkrError) as refused:
        judge_by_ap(Painted(40.0), Painted(40.0), CARD, painted_people)  # type: ignore[arg-type]
    assert refused.value.code == "SE-Q69"


def saved(path: Path, network: PoseNet) -> Path:
    """A checkpoint of a network that sees somebody wherever its centre heatmap has a peak."""
    assert network.heatmap_head.final.bias is not None
    nn.init.constant_(network.heatmap_head.final.bias, 1.0)
    save_checkpoint(path, Checkpoint(CARD, SMALL, network.state_dict()))
    return path


def test_export_leaves_it_out_and_the_file_says_so(tmp_path: Path, capsys: Captured) -> None:
    checkpoint, out = saved(tmp_path / "c.pt", small_network()), tmp_path / "m.onnx"
    assert run(["export", str(checkpoint), "-o", str(out), "--without", "attention"]) == 0
    assert "without its attention: joints move median" in capsys.readouterr().out
    assert not any(node.op_type == "Softmax" for node in onnx.load(out).graph.node)
    card = load_model(out).card
    assert (card.model, card.left_out.keys()) == ("small", {"attention"})
    facts = card.provenance["without"]["attention"]
    assert (facts["people"] > 0, facts["max_moved"]) == (True, 0.25)
    bundle = tmp_path / "m.samkr"
    assert run(["bundle", str(out), "-o", str(bundle)]) == 0
    for file in (out, bundle):
        capsys.readouterr()
        assert run(["inspect", str(file)]) == 0
        assert f"its attention: {facts['judged']}" in capsys.readouterr().out


def test_export_refuses_where_the_attention_matters(tmp_path: Path, capsys: Captured) -> None:
    network = small_network()
    with torch.no_grad():
        network.offset_head.final.weight *= 1000  # 1 / (H * W) of what it adds is then some pixels
    checkpoint, out = saved(tmp_path / "c.pt", network), tmp_path / "m.onnx"
    command = ["export", str(checkpoint), "-o", str(out), "--without", "attention"]
    assert run(command) == 6
    assert "SE-Q68" in capsys.readouterr().err
    assert not out.exists()
    assert run([*command, "--max-moved", "1000"]) == 0


def test_export_asks_the_labels_that_it_is_given(
    tmp_path: Path, painted_people: KeypointDataset, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint, out = saved(tmp_path / "c.pt", small_network()), tmp_path / "m.onnx"
    command = ["export", str(checkpoint), "-o", str(out), "--without", "attention"]
    command += ["--data", str(painted_people.root), "--limit", "2", "--max-drop", "3"]
    assert run(command) == 6
    assert "SE-Q69" in capsys.readouterr().err
    assert not out.exists()
    monkeypatch.setattr(attention_worth, "LEAST_AP", 0.0)
    assert run(command) == 0
    facts = load_model(out).card.provenance["without"]["attention"]
    assert (facts["data"], facts["split"], facts["images"], facts["max_drop"]) == ("people", "val", 2, 3.0)


def test_random_weights_are_not_judged(tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "m.onnx"
    command = ["export", "samkr_tiny", "--untrained", "-o", str(out), "--size", "32x32"]
    assert run([*command, "--without", "attention", "--json"]) == 0
    card = json.loads(capsys.readouterr().out)["card"]
    assert "not judged" in card["provenance"]["without"]["attention"]["judged"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (["--max-drop", "1"], "SE-U78"),
        (["--data", "people"], "SE-U78"),
        (["--anyway"], "SE-U78"),
        (["--without", "attention", "--limit", "3"], "SE-U78"),
        (["--without", "attention", "--data", "people", "--max-moved", "1"], "SE-U77"),
    ],
    ids=" ".join,
)
def test_an_option_that_nothing_would_read_is_refused(
    options: list[str], code: str, tmp_path: Path, capsys: Captured
) -> None:
    assert run(["export", "c.pt", "-o", str(tmp_path / "m.onnx"), *options]) == 2
    assert code in capsys.readouterr().err


@pytest.mark.parametrize("without", [None, 5, [], {"attention": None}, {"attention": []}])
def test_a_card_edited_by_hand_leaves_nothing_out(without: object) -> None:
    assert CARD.with_provenance(without=without).left_out == {}
