"""HigherHRNet and SWAHR through quantization and its analyses, by the commands of all networks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch

import calibration.analysis.scoring
import calibration.analysis.start
from samkr_edge.builder.cpu.build import build_cpu
from samkr_edge.cli import run
from samkr_edge.onnx_graph.onnx_reading import read_onnx
from samkr_edge.onnx_graph.quantizers import quantized_convolutions
from samkr_edge.passport import read_passport
from samkr_edge.pose.skeleton import COCO17
from samkr_edge.pose.sure_person import SURE_PERSON
from training.checkpoint import Checkpoint, load_checkpoint, network_of, new_card, save_checkpoint
from training.loop.objective import taught
from training.loop.recipe_file import load_recipe
from training.models.config import ModelConfig
from training.models.zoo import build_model

Captured = pytest.CaptureFixture[str]
SMALL = ModelConfig(
    "small", decoding="grouping", input_size=(64, 64), width=16, stem_channels=16, bottlenecks=1,
    stage_modules=(1, 1, 1), blocks=1, deconv_blocks=1, channels=0, groups=0, adaptive_blocks=0, scale_branch=True,
    default_init=True,
)  # fmt: skip
FEW = {"stage4 fuse", "tags and heatmap", "deconvolution"}
IMAGES = ["--images", "8", "--threads", "1"]


@pytest.fixture(scope="module")
def fp32(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A float checkpoint with random weights, whose heatmaps are not 0."""
    torch.manual_seed(0)
    network = build_model(SMALL)
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.weight, 0.8, 1.5)
                torch.nn.init.normal_(module.bias, std=0.1)
    path = tmp_path_factory.mktemp("tags") / "fp32.pt"
    card = new_card(SMALL, COCO17, SMALL.input_size)
    facts = {"training": taught(load_recipe("swahr_tiny"), "grouping")}
    save_checkpoint(path, Checkpoint(replace(card, provenance=facts), SMALL, network.state_dict()))
    return path


@pytest.fixture(scope="module")
def ptq(fp32: Path, people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("ptq") / "ptq.pt"
    assert run(["quantize", str(fp32), "--data", str(people), "-o", str(out), *IMAGES]) == 0
    return out


@pytest.fixture(scope="module")
def exported(ptq: Path) -> Path:
    out = ptq.with_name("ptq.onnx")
    assert run(["export", str(ptq), "-o", str(out)]) == 0
    return out


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration.analysis.scoring, "ROUNDS", 40)
    whole = calibration.analysis.start.group_modules
    monkeypatch.setattr(
        calibration.analysis.start,
        "group_modules",
        lambda names: {group: found for group, found in whole(names).items() if group.name in FEW},
    )


def test_a_quantized_checkpoint_comes_back_and_its_onnx_is_int8_but_for_the_last_convolutions(
    ptq: Path, exported: Path
) -> None:
    checkpoint = load_checkpoint(ptq)
    assert (checkpoint.card.precision, checkpoint.card.decoding) == ("int8", "grouping")
    assert network_of(checkpoint).grouping_head.deconv[0].weight.shape == (64, 16 + 2 * 17, 2, 2)
    model = read_onnx(exported)
    floats = {node.name for node in model.nodes if node.op_type == "Conv"}
    floats -= {node.name for node, _ in quantized_convolutions(model)}
    assert floats == {"/net/grouping_head/final_low/Conv", "/net/grouping_head/final_high/Conv"}
    assert not any(node.op_type == "ConvTranspose" for node in model.nodes)


def test_inspect_finds_nothing_to_mend_in_it_and_counts_as_quantize_does(
    fp32: Path, people: Path, exported: Path, capsys: Captured
) -> None:
    """Its deconvolution reads tags in INT8, and the network gives them in float."""
    capsys.readouterr()
    assert run(["inspect", str(exported), "--strict", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert run(["quantize", str(fp32), "--data", str(people), "--dry-run", "--json"]) == 0
    planned = json.loads(capsys.readouterr().out)
    assert planned["int8_macs_share"] == pytest.approx(found["int8_share"], rel=1e-6)


def test_qat_and_its_control_learn_the_same_plain_loss_however_the_network_was_trained(
    fp32: Path, ptq: Path, people: Path, tmp_path: Path
) -> None:
    short = ["--data", str(people), "--threads", "1"]
    for setting in ("schedule.steps=2", "batch_size=2", "log_steps=1"):
        short += ["--set", setting]
    qat, control = tmp_path / "qat.pt", tmp_path / "control.pt"
    assert run(["qat", str(ptq), "--teacher", str(fp32), *short, "-o", str(qat)]) == 0
    assert run(["qat", str(fp32), "--control", *short, "-o", str(control)]) == 0
    terms = []
    for out, stage in ((qat, "qat"), (control, "control")):
        (line, *_) = (out.with_name(f"{out.stem}.work") / "log.jsonl").read_text().splitlines()
        terms.append(json.loads(line).keys() & {"heatmap", "pull", "push", "scale"})
        assert load_checkpoint(out).card.provenance[stage]["loss"]["kind"] == "higherhrnet"
    assert terms == [{"heatmap", "pull", "push"}] * 2
    assert run(["export", str(qat), "-o", str(tmp_path / "qat.onnx")]) == 0
    assert run(["qat", str(ptq), *short, "--set", "loss.kind=swahr", "-o", str(tmp_path / "no.pt")]) == 2


def test_the_build_for_a_cpu_computes_everything_between_those_in_int8(
    exported: Path, tmp_path: Path
) -> None:
    built = tmp_path / "ptq.cpu.onnx"
    assert run(["build", str(exported), "--target", "cpu", "-o", str(built)]) == 0
    assert run(["inspect", str(built), "--strict"]) == 0
    settings = read_passport(built).settings
    assert settings["interleaved_bytes"] == 1
    # Heatmaps and tags are made of a sum of four maps by a float convolution: it is summed in float.
    assert settings["quantized_sums"] == 2
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(built, options, providers=["CPUExecutionProvider"])
    fused = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert fused.count("QLinearConv") == len(quantized_convolutions(read_onnx(exported)))
    assert "ConvTranspose" not in fused


def test_the_build_for_arm_finds_the_same(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("samkr_edge.builder.cpu.build.platform.machine", lambda: "aarch64")
    built = build_cpu(exported, tmp_path / "arm.onnx")
    assert built.passport.settings["retargeted"] is False
    assert built.agreement.holds


def test_sensitivity_names_the_error_of_tags_and_has_a_row_for_each_part_of_the_head(
    fp32: Path, people: Path, tmp_path: Path, capsys: Captured, quick: None
) -> None:
    out = tmp_path / "s"
    command = ["sensitivity", str(fp32), "--data", str(people), "--limit", "3", "--bits", "3", *IMAGES]
    assert run([*command, "--out", str(out)]) == 0
    assert "tag" in capsys.readouterr().out
    found = json.loads((out / "sensitivity.json").read_text())
    assert found["without_attention"] is None
    errors = {group["group"]: group["alone"] for group in found["groups"]}
    assert errors.keys() == FEW
    assert all("offset_error" not in alone for alone in errors.values())
    # The deconvolution reads tags and writes none.
    assert errors["deconvolution"]["tag_error"] == 0 < errors["deconvolution"]["heatmap_error"]
    assert errors["tags and heatmap"]["tag_error"] > 0
    restored = {group["group"] for group in found["groups"] if group["restored"] is None}
    assert restored == {"tags and heatmap"}


def test_a_ledger_names_the_error_of_tags(
    fp32: Path, ptq: Path, exported: Path, people: Path, tmp_path: Path, capsys: Captured, quick: None
) -> None:
    where = ["--data", str(people), "--limit", "3", "-o", str(tmp_path / "ledger.json")]
    assert run(["ledger", str(fp32), str(ptq), str(exported), *where]) == 0
    stages = json.loads((tmp_path / "ledger.json").read_text())["stages"]
    assert [stage["form"] for stage in stages] == ["torch FP32", "torch PTQ", "ONNX PTQ"]
    assert 0 < stages[1]["tag_error"] < 0.5
    assert "offset_error" not in stages[1]


@pytest.mark.parametrize(
    "options", [["--format", "fp8"], ["--policy", "rtx"]], ids=lambda options: options[1]
)
def test_other_numbers_and_policies_take_such_a_network(
    fp32: Path, people: Path, tmp_path: Path, options: list[str]
) -> None:
    out = tmp_path / "other.pt"
    assert run(["quantize", str(fp32), "--data", str(people), "-o", str(out), *IMAGES, *options]) == 0
    assert run(["export", str(out), "-o", str(tmp_path / "other.onnx")]) == 0


def test_search_judges_such_a_network_on_photographs(
    fp32: Path, people: Path, tmp_path: Path, capsys: Captured, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SURE_PERSON, "grouping", 0.002)
    monkeypatch.setattr("samkr_edge.evaluation.against_reference.SURE_JOINT", 0.001)
    out, pictures = tmp_path / "found.yaml", str(people / "images" / "train2017")
    command = ["search", str(fp32), "--photos", pictures, "--limit", "3", "-o", str(out), *IMAGES]
    assert run([*command, "--max-moved", "64", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["max_moved"], found["within_budget"]) == (64, True)
    assert found["final_followed"]["people"] == found["reference"]["people"] > 0
    again = ["quantize", str(fp32), "--data", str(people), "--policy", str(out), "-o", str(tmp_path / "q.pt")]
    assert run([*again, *IMAGES]) == 0
