"""HigherHRNet and SWAHR of their authors and of mmpose become ours, and are not taken for DEKR."""

import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from official_grouping import official_forward
from torch import Tensor

from samkr_edge.cli import run
from samkr_edge.errors import SamkrError
from samkr_edge.pose.grouping_settings import GroupingSettings
from training.checkpoint import load_checkpoint, network_of
from training.imported import import_network
from training.models.grouping_net import GroupingNet
from training.models.zoo import build_model, model_config
from training.weight_import.layouts import layout_of
from training.weight_import.loading import load_into, recognise, refuse_other_decoding

# Names and shapes of SWAHR-W32 for COCO. HigherHRNet's are the same without `conv_scale_layers`.
KEYS = Path(__file__).parents[1] / "data" / "swahr_w32_coco_keys.txt.gz"
K = 17
State = dict[str, Tensor]


def published_shapes(swahr: bool) -> dict[str, torch.Size]:
    lines = gzip.decompress(KEYS.read_bytes()).decode().splitlines()
    parts = (line.partition(" ") for line in lines)
    return {
        name: torch.Size(map(int, size.split("x")) if size else ())
        for name, _, size in parts
        if swahr or not name.startswith("conv_scale_layers.")
    }


def with_statistics(channels: int, name: str) -> State:
    return {
        f"{name}.weight": 1 + 0.2 * torch.randn(channels),
        f"{name}.bias": 0.2 * torch.randn(channels),
        f"{name}.running_mean": 0.2 * torch.randn(channels),
        f"{name}.running_var": 0.5 + torch.rand(channels),
        f"{name}.num_batches_tracked": torch.tensor(7),
    }


def small_official(*, swahr: bool, keypoints: int = K, width: int = 16, blocks: int = 1) -> State:
    """The official layout, as small as swahr_tiny, with random weights; the backbone's names are those of ours."""
    torch.manual_seed(0)
    config = replace(model_config("swahr_tiny", keypoints), width=width, deconv_blocks=blocks)
    state: State = {}
    for name, tensor in build_model(config).backbone.state_dict().items():
        state |= {name: tensor} if tensor.dim() > 1 else {}
        if name.endswith("running_mean"):
            state |= with_statistics(len(tensor), name.removesuffix(".running_mean"))
    state["final_layers.0.weight"] = torch.randn(2 * keypoints, width, 1, 1) * 0.2
    state["final_layers.0.bias"] = torch.randn(2 * keypoints)
    state["final_layers.1.weight"] = torch.randn(keypoints, width, 1, 1) * 0.2
    state["final_layers.1.bias"] = torch.randn(keypoints)
    state["deconv_layers.0.0.0.weight"] = torch.randn(width + 2 * keypoints, width, 4, 4) * 0.1
    state |= with_statistics(width, "deconv_layers.0.0.1")
    for block in range(1, blocks + 1):
        for number in (1, 2):
            state[f"deconv_layers.0.{block}.0.conv{number}.weight"] = torch.randn(width, width, 3, 3) * 0.1
            state |= with_statistics(width, f"deconv_layers.0.{block}.0.bn{number}")
    for index in range(2 if swahr else 0):
        branch = f"conv_scale_layers.{index}"
        state[f"{branch}.0.weight"] = torch.randn(keypoints, width, 1, 1) * 0.2
        state[f"{branch}.0.bias"] = torch.randn(keypoints)
        state |= with_statistics(keypoints, f"{branch}.1")
        state[f"{branch}.3.weight"] = torch.randn(keypoints, 1, 9, 9) * 0.1
        state[f"{branch}.3.bias"] = torch.randn(keypoints)
    return state


def small_dekr() -> State:
    return {
        **build_model(model_config("dekr_tiny")).backbone.state_dict(),
        "head_heatmap.1.weight": torch.randn(18, 16, 1, 1),
    }


def small_samkr() -> State:
    return build_model(model_config("samkr_tiny")).state_dict()


def of_mmpose(state: State) -> State:
    heads = ("final_layers", "deconv_layers")
    return {
        f"{'keypoint_head' if name.startswith(heads) else 'backbone'}.{name}": tensor
        for name, tensor in state.items()
    }


def prefixed(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def refused(command: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert run(command) == 4
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "tensors", "layout"),
    [("higherhrnet_w32", 1810, dict), ("swahr_w32", 1828, dict), ("higherhrnet_w32", 1810, of_mmpose)],
    ids=["HigherHRNet", "SWAHR", "mmpose"],
)
def test_every_published_name_has_its_own_place_with_its_shape(
    name: str, tensors: int, layout: Callable[[State], State]
) -> None:
    state = {
        key: torch.empty(shape, device="meta") for key, shape in published_shapes(name == "swahr_w32").items()
    }
    assert len(state) == tensors
    foreign = recognise(layout(state), Path("x.pth"))
    assert (foreign.kind, foreign.model, foreign.keypoints) == (name.partition("_")[0], name, 17)
    place_of = layout_of(foreign.kind, foreign.tensors)
    places = [place_of(key, tensor) for key, tensor in foreign.tensors.items()]
    ours = build_model(model_config(name)).state_dict()
    found = {place.target: place.value.shape for place in places if place is not None}
    assert len(found) == len(places)
    assert found == {key: tensor.shape for key, tensor in ours.items()}


@pytest.mark.parametrize(
    ("swahr", "layout"),
    [(False, dict), (True, dict), (False, of_mmpose)],
    ids=["HigherHRNet", "SWAHR", "mmpose"],
)
def test_imported_weights_compute_what_the_official_layout_computes(
    swahr: bool, layout: Callable[[State], State]
) -> None:
    state = small_official(swahr=swahr, keypoints=5, width=8, blocks=2)
    config = replace(model_config("swahr_tiny", 5), width=8, deconv_blocks=2, scale_branch=swahr)
    network = build_model(config)
    assert isinstance(network, GroupingNet)
    report = load_into(network, recognise(layout(state), Path("x.pth")))
    assert (report.missing, report.skipped) == ([], {})
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        maps = network.eval().forward_training(image)
        low, high = official_forward(image, state)
    assert [name for name in maps if "scale" in name] == (["scale_low", "scale"] if swahr else [])
    scales = [[maps["scale_low"]], [maps["scale"]]] if swahr else [[], []]
    ours = (
        torch.cat([*scales[0], maps["heatmap_low"], maps["tag"]], 1),
        torch.cat([*scales[1], maps["heatmap"]], 1),
    )
    torch.testing.assert_close(ours, (low, high), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("wrapped", "keypoints"),
    [
        (lambda state: prefixed("1.", state), 17),
        (lambda state: {"epoch": 7, "state_dict": prefixed("module.1.", state), "perf": 0.5}, 14),
        (lambda state: {"state_dict": of_mmpose(state), "meta": {"epoch": 300}}, 14),
    ],
    ids=["zoo", "checkpoint", "mmpose"],
)
def test_files_as_they_are_published_become_networks_of_their_own_keypoints(
    wrapped: Callable[[State], object], keypoints: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(wrapped(small_official(swahr=False, keypoints=keypoints)), tmp_path / "w.pth")
    out = tmp_path / "out.pt"
    assert run(["import", str(tmp_path / "w.pth"), "--model", "swahr_tiny", "-o", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["kind"], printed["keypoints"], printed["skipped"]) == ("higherhrnet", keypoints, {})
    assert printed["rescoring"] is None
    assert all("grouping_head.scale_" in name for name in printed["missing"])
    checkpoint = load_checkpoint(out)
    assert len(checkpoint.card.skeleton) == keypoints
    assert checkpoint.card.grouping == GroupingSettings(joint_threshold=0.1, tag_threshold=1.0)
    network_of(checkpoint)


def test_the_size_that_weights_were_trained_at_is_what_they_are_tested_at(tmp_path: Path) -> None:
    torch.save(small_official(swahr=False), tmp_path / "w.pth")
    out = tmp_path / "out.pt"
    command = ["import", str(tmp_path / "w.pth"), "--model", "swahr_tiny", "-o", str(out), "--size"]
    assert run([*command, "100x100"]) == 2
    assert not out.exists()
    assert run([*command, "96x160"]) == 0
    assert load_checkpoint(out).card.input_size == (96, 160)


@pytest.mark.parametrize(
    ("swahr", "keypoints", "model", "threshold"),
    [(True, 17, "swahr_w32", 0.12), (True, 17, "higherhrnet_w32", 0.12), (True, 14, "swahr_w32", 0.1),
     (False, 17, "swahr_w32", 0.1)],
)  # fmt: skip
def test_people_are_grouped_by_the_thresholds_of_those_who_trained_the_network(
    swahr: bool, keypoints: int, model: str, threshold: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(small_official(swahr=swahr, keypoints=keypoints, width=32), tmp_path / "w.pth")
    small = replace(
        model_config("swahr_tiny", keypoints), name=model, width=32, scale_branch=model.startswith("swahr")
    )
    monkeypatch.setattr("training.imported.model_config", lambda *_: small)
    grouping = import_network(tmp_path / "w.pth", model).checkpoint.card.grouping
    assert grouping == GroupingSettings(joint_threshold=threshold, tag_threshold=1.0)


def test_without_swahrs_branches_its_network_is_complete_and_that_they_are_fresh_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["import", str(tmp_path / "w.pth"), "--model", "swahr_tiny", "-o", str(tmp_path / "out.pt")]
    torch.save(small_official(swahr=False), tmp_path / "w.pth")
    assert run(command) == 0
    shown = capsys.readouterr().out
    assert "complete; SWAHR's scale branches, which only training uses, are fresh" in shown
    assert "grouping_head.scale_low.0.weight" in shown
    torch.save(small_official(swahr=True), tmp_path / "w.pth")
    assert run(command) == 0
    assert "fresh;" not in (shown := capsys.readouterr().out)
    assert "from swahr; complete" in shown


def test_higherhrnet_leaves_swahrs_branches_out_and_says_why() -> None:
    network = build_model(replace(model_config("swahr_tiny"), scale_branch=False))
    report = load_into(network, recognise(small_official(swahr=True), Path("x.pth")))
    assert report.missing == []
    assert set(report.skipped.values()) == {"only SWAHR's loss uses it"}
    assert len(report.skipped) == 18


def test_a_whole_hrnet_starts_the_backbone_and_its_last_modules_other_outputs_are_skipped() -> None:
    """As ImageNet's files are."""
    network = build_model(model_config("swahr_tiny"))
    state = build_model(model_config("samkr_tiny")).backbone.state_dict()
    report = load_into(network, recognise(state, Path("x.pth")))
    own = [name for name in network.state_dict() if name.startswith("backbone.")]
    assert len(report.loaded) == len(own)
    assert not any(name.startswith("backbone.") for name in report.missing)
    assert len(report.skipped) == len(state) - len(own) > 0
    assert set(report.skipped.values()) == {"the last module has one output here"}


@pytest.mark.parametrize(
    ("state", "model", "is_a", "instead"),
    [
        (
            lambda: small_official(swahr=True),
            "dekr_tiny",
            "SWAHR of width 16, 17 keypoints",
            "--model swahr_tiny",
        ),
        (lambda: small_official(swahr=True), "samkr_tiny", "SWAHR of width 16", "--model swahr_tiny"),
        (
            lambda: of_mmpose(small_official(swahr=False, width=32)),
            "dekr_w32",
            "HigherHRNet of width 32",
            "--model higherhrnet_w32",
        ),
        (
            lambda: small_official(swahr=False, keypoints=20),
            "dekr_tiny",
            "HigherHRNet of width 16",
            "samkr-edge models",
        ),
        (small_dekr, "swahr_tiny", "DEKR of width 16, 17 keypoints", "--model dekr_tiny"),
        (small_samkr, "swahr_tiny", "SAMKR of width 16, 17 keypoints", "--model samkr_tiny"),
    ],
    ids=["SWAHR as DEKR", "SWAHR as SAMKR", "mmpose as DEKR", "of no such width", "DEKR", "SAMKR"],
)
def test_a_network_that_finds_people_otherwise_is_refused_with_its_name_and_the_model_to_import_it_as(
    state: Callable[[], State],
    model: str,
    is_a: str,
    instead: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.save(state(), tmp_path / "w.pth")
    out = tmp_path / "out.pt"
    shown = refused(["import", str(tmp_path / "w.pth"), "--model", model, "-o", str(out)], capsys)
    assert "error SE-A39" in shown
    assert shown.count("error ") == 1
    assert is_a in shown
    assert instead in shown.rpartition("fix: ")[2]
    assert not out.exists()


def test_another_width_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(small_official(swahr=True, width=24), tmp_path / "w.pth")
    command = ["import", str(tmp_path / "w.pth"), "--model", "swahr_tiny", "-o", str(tmp_path / "out.pt")]
    shown = refused(command, capsys)
    assert "error SE-A39" in shown
    assert "width 24" in shown
    assert "width 16" in shown


def test_weights_that_are_no_numbers_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = small_official(swahr=True)
    state["final_layers.0.bias"][20] = float("nan")
    torch.save(state, tmp_path / "w.pth")
    command = ["import", str(tmp_path / "w.pth"), "--model", "swahr_tiny", "-o", str(tmp_path / "out.pt")]
    shown = refused(command, capsys)
    assert "error SE-A34" in shown
    assert "grouping_head.final_low.bias" in shown


def test_the_bare_weights_of_our_own_network_arrive_whole() -> None:
    source, network = (build_model(model_config("swahr_tiny")) for _ in range(2))
    foreign = recognise(source.state_dict(), Path("x.pth"))
    report = load_into(network, foreign)
    assert (report.kind, report.missing, report.skipped) == ("samkr-edge", [], {})
    assert (foreign.model, foreign.keypoints) == ("swahr_tiny", 17)
    with pytest.raises(SamkrError, match="another network than samkr_tiny"):
        refuse_other_decoding(foreign, model_config("samkr_tiny"))
