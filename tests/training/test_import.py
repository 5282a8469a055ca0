"""Official weights land where they belong: every name has one place, and the numbers come out as theirs."""

import gzip
import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from samkr_edge.cli import run
from samkr_edge.errors import SamkrError
from samkr_edge.evaluation.rescoring import load_rescoring
from samkr_edge.pose.skeleton import COCO17, CROWDPOSE14, Skeleton
from training.checkpoint import load_checkpoint, network_of
from training.models.config import ModelConfig
from training.models.pose_net import PoseNet
from training.models.zoo import build_model, model_config
from training.weight_import.loading import load_into, recognise
from training.weight_import.reading import read_weights

DATA = Path(__file__).parents[1] / "data"
KEYS = DATA / "dekr_w32_coco_keys.txt.gz"
# The head of mmpose 1.x's DEKR-W32 for COCO, its rescoring network included, read off the definition of its modules;
# its backbone has the official names behind `backbone.`. Versions before 1.0 differ as in `mmpose_keys`.
MMPOSE_HEAD_KEYS = DATA / "mmpose_dekr_w32_coco_head_keys.txt"
K, C, BLOCKS = 3, 4, 2
FIRST = 1000  # of the numbers that stand for weights; fresh weights are smaller
SMALL = ModelConfig(
    "small", keypoints=K, input_size=(64, 64), width=8, stem_channels=8, bottlenecks=1, stage_modules=(1, 1, 1),
    blocks=1, channels=C, groups=0, adaptive_blocks=BLOCKS,
)  # fmt: skip
GRID = torch.tensor([[-1, -1, -1, 0, 0, 0, 1, 1, 1], [-1, 0, 1, -1, 0, 1, -1, 0, 1]], dtype=torch.float32)


def shapes_of(lines: list[str]) -> dict[str, tuple[int, ...]]:
    """Of lines like ``conv1.weight 64x3x3x3``."""
    return {
        name: tuple(int(n) for n in size.split("x")) if size else ()
        for name, _, size in (line.partition(" ") for line in lines)
    }


def official_keys() -> dict[str, tuple[int, ...]]:
    return shapes_of(gzip.decompress(KEYS.read_bytes()).decode().splitlines())


def mmpose_keys(old: bool) -> dict[str, tuple[int, ...]]:
    """The whole file's names and shapes; before version 1.0 other prefixes, and no rescoring network within."""
    head = shapes_of(MMPOSE_HEAD_KEYS.read_text(encoding="utf-8").splitlines())
    if old:
        head = {
            name.replace("head.", "keypoint_head.").replace("displacement_", "offset_"): shape
            for name, shape in head.items()
            if "rescore_net" not in name
        }
    backbone = {
        n: shape for n, shape in official_keys().items() if not re.match("(transition|head|offset)_", n)
    }
    return {**{f"backbone.{name}": shape for name, shape in backbone.items()}, **head}


def prefixed(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def norm_of(channels: int, prefix: str) -> dict[str, Tensor]:
    return {
        f"{prefix}.weight": 1 + 0.2 * torch.randn(channels),
        f"{prefix}.bias": 0.2 * torch.randn(channels),
        f"{prefix}.running_mean": 0.2 * torch.randn(channels),
        f"{prefix}.running_var": 0.5 + torch.rand(channels),
        f"{prefix}.num_batches_tracked": torch.tensor(7),
    }


def backbone_state() -> dict[str, Tensor]:
    """Random backbone weights; our backbone has the official names."""
    network = build_model(replace(SMALL, default_init=True))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.running_mean, std=0.1)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
    return {f"{name}": tensor for name, tensor in network.backbone.state_dict().items()}


def small_official() -> dict[str, Tensor]:
    """A DEKR of the official layout, small, with random weights."""
    torch.manual_seed(0)
    total, width = 15 * SMALL.width, SMALL.width
    state = backbone_state()
    state["transition_heatmap.0.weight"] = torch.randn(width, total, 1, 1) * 0.1
    state |= norm_of(width, "transition_heatmap.1")
    for number in (1, 2):
        state[f"head_heatmap.0.0.conv{number}.weight"] = torch.randn(width, width, 3, 3) * 0.1
        state |= norm_of(width, f"head_heatmap.0.0.bn{number}")
    state["head_heatmap.1.weight"] = torch.randn(K + 1, width, 1, 1) * 0.3
    state["head_heatmap.1.bias"] = torch.randn(K + 1)
    state["transition_offset.0.weight"] = torch.randn(K * C, total, 1, 1) * 0.1
    state |= norm_of(K * C, "transition_offset.1")
    for k in range(K):
        for b in range(BLOCKS):
            place = f"offset_feature_layers.{k}.{b}"
            state[f"{place}.regular_matrix"] = GRID
            state[f"{place}.transform_matrix_conv.weight"] = torch.randn(4, C, 3, 3) * 0.1
            state[f"{place}.transform_matrix_conv.bias"] = torch.tensor([1.0, 0, 0, 1]) + torch.randn(4) * 0.3
            state[f"{place}.translation_conv.weight"] = torch.randn(2, C, 3, 3) * 0.2
            state[f"{place}.translation_conv.bias"] = torch.randn(2) * 0.5
            state[f"{place}.adapt_conv.weight"] = torch.randn(C, C, 3, 3) * 0.3
            state |= norm_of(C, f"{place}.bn")
        state[f"offset_final_layer.{k}.weight"] = torch.randn(2, C, 1, 1)
        state[f"offset_final_layer.{k}.bias"] = torch.randn(2)
    return state


def small_mmpose(old: bool) -> dict[str, Tensor]:
    """A DEKR of mmpose's layout: branches grouped, six channels (rows of a 2x3 matrix) for the affine map."""
    torch.manual_seed(1)
    total, width, head = 15 * SMALL.width, SMALL.width, "keypoint_head" if old else "head"
    offsets = f"{head}.{'offset' if old else 'displacement'}_conv_layers"
    state = {f"backbone.{name}": tensor for name, tensor in backbone_state().items()}
    state[f"{head}.heatmap_conv_layers.0.conv.weight"] = torch.randn(width, total, 1, 1) * 0.1
    state |= norm_of(width, f"{head}.heatmap_conv_layers.0.bn")
    for number in (1, 2):
        state[f"{head}.heatmap_conv_layers.1.conv{number}.weight"] = torch.randn(width, width, 3, 3) * 0.1
        state |= norm_of(width, f"{head}.heatmap_conv_layers.1.bn{number}")
    state[f"{head}.heatmap_conv_layers.2.weight"] = torch.randn(K + 1, width, 1, 1) * 0.3
    state[f"{head}.heatmap_conv_layers.2.bias"] = torch.randn(K + 1)
    state[f"{offsets}.0.conv.weight"] = torch.randn(K * C, total, 1, 1) * 0.1
    state |= norm_of(K * C, f"{offsets}.0.bn")
    for layer in range(1, BLOCKS + 1):
        place = f"{offsets}.{layer}"
        state[f"{place}.regular_matrix"] = torch.cat([GRID, torch.ones(1, 9)])
        state[f"{place}.transform_matrix_conv.weight"] = torch.randn(6 * K, C, 3, 3) * 0.1
        state[f"{place}.transform_matrix_conv.bias"] = torch.randn(6 * K) * 0.3
        state[f"{place}.adapt_conv.weight"] = torch.randn(K * C, C, 3, 3) * 0.3
        state |= norm_of(K * C, f"{place}.norm")
    state[f"{offsets}.{BLOCKS + 1}.weight"] = torch.randn(2 * K, C, 1, 1)
    state[f"{offsets}.{BLOCKS + 1}.bias"] = torch.randn(2 * K)
    return state


def norm(x: Tensor, state: dict[str, Tensor], prefix: str) -> Tensor:
    names = ("running_mean", "running_var", "weight", "bias")
    return F.batch_norm(x, *(state[f"{prefix}.{name}"] for name in names))


def deformed(x: Tensor, offsets: Tensor, weight: Tensor) -> Tensor:
    """Deformable 3x3 convolution of one branch by its definition: tap k samples p + g_k + offset_k, (dy, dx)."""
    n, _, h, w = x.shape
    ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
    result = torch.zeros(n, len(weight), h, w)
    for k in range(9):
        y = ys + GRID[0, k] + offsets[:, 2 * k]
        x_at = xs + GRID[1, k] + offsets[:, 2 * k + 1]
        grid = torch.stack([2 * x_at / (w - 1) - 1, 2 * y / (h - 1) - 1], dim=-1)
        taken = F.grid_sample(x, grid, padding_mode="zeros", align_corners=True)
        result += F.conv2d(taken, weight[:, :, k // 3, k % 3, None, None])
    return result


def heatmap_of(features: Tensor, state: dict[str, Tensor], names: tuple[str, str, str, str]) -> Tensor:
    conv, bn, block, final = names
    y = torch.relu(norm(F.conv2d(features, state[f"{conv}.weight"]), state, bn))
    z = torch.relu(norm(F.conv2d(y, state[f"{block}.conv1.weight"], padding=1), state, f"{block}.bn1"))
    z = norm(F.conv2d(z, state[f"{block}.conv2.weight"], padding=1), state, f"{block}.bn2")
    return F.conv2d(torch.relu(z + y), state[f"{final}.weight"], state[f"{final}.bias"])


def official_forward(features: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Heads of the official layout, one keypoint after the other."""
    names = ("transition_heatmap.0", "transition_heatmap.1", "head_heatmap.0.0", "head_heatmap.1")
    heatmap = heatmap_of(features, state, names)
    wide = torch.relu(
        norm(F.conv2d(features, state["transition_offset.0.weight"]), state, "transition_offset.1")
    )
    parts = []
    for k in range(K):
        x = wide[:, k * C : (k + 1) * C]
        for b in range(BLOCKS):
            place = f"offset_feature_layers.{k}.{b}"
            matrix, shift = (
                F.conv2d(x, state[f"{place}.{part}.weight"], state[f"{place}.{part}.bias"], padding=1)
                for part in ("transform_matrix_conv", "translation_conv")
            )
            n, _, h, w = x.shape
            moved = torch.einsum("nabhw,bk->nkahw", matrix.view(n, 2, 2, h, w), GRID)
            offsets = moved + shift[:, None] - GRID.T[None, :, :, None, None]
            y = deformed(x, offsets.reshape(n, 18, h, w), state[f"{place}.adapt_conv.weight"])
            x = torch.relu(norm(y, state, f"{place}.bn") + x)
        final = f"offset_final_layer.{k}"
        parts.append(F.conv2d(x, state[f"{final}.weight"], state[f"{final}.bias"]))
    return heatmap, torch.cat(parts, dim=1)


def mmpose_forward(features: Tensor, state: dict[str, Tensor], old: bool) -> tuple[Tensor, Tensor]:
    """Heads of mmpose's layout; the second result is the displacement, joint - location, from version 1.0 on."""
    head = "keypoint_head" if old else "head"
    place = f"{head}.heatmap_conv_layers"
    heatmap = heatmap_of(features, state, (f"{place}.0.conv", f"{place}.0.bn", f"{place}.1", f"{place}.2"))
    place = f"{head}.{'offset' if old else 'displacement'}_conv_layers"
    wide = torch.relu(norm(F.conv2d(features, state[f"{place}.0.conv.weight"]), state, f"{place}.0.bn"))
    regular = torch.cat([GRID, torch.ones(1, 9)])
    x = wide
    for layer in range(1, BLOCKS + 1):
        block = f"{place}.{layer}"
        convolution = f"{block}.transform_matrix_conv"
        affine = F.conv2d(
            x, state[f"{convolution}.weight"], state[f"{convolution}.bias"], padding=1, groups=K
        )
        n, _, h, w = x.shape
        offsets = torch.einsum("ngabhw,bk->ngkahw", affine.view(n, K, 2, 3, h, w), regular)
        kernels = state[f"{block}.adapt_conv.weight"].chunk(K)
        branches = [
            deformed(x[:, k * C : (k + 1) * C], offsets[:, k].reshape(n, 18, h, w), kernels[k])
            for k in range(K)
        ]
        x = torch.relu(norm(torch.cat(branches, dim=1), state, f"{block}.norm") + x)
    final = f"{place}.{BLOCKS + 1}"
    return heatmap, F.conv2d(x, state[f"{final}.weight"], state[f"{final}.bias"], groups=K)


def imported(state: dict[str, Tensor]) -> PoseNet:
    network = build_model(SMALL)
    report = load_into(network, recognise(state, Path("x.pth")))
    assert report.missing == []
    assert all(name.endswith("regular_matrix") for name in report.skipped)
    return network.eval()


def numbered(shapes: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Tensors of these shapes in which no number comes twice, also where the import adds 1 or turns the sign."""
    first, state = FIRST, {}
    for name, shape in shapes.items():
        count = int(np.prod(shape))
        state[name] = torch.arange(first, first + 2 * count, 2, dtype=torch.float64).reshape(shape)
        first += 2 * count
    return state


def assert_all_arrived(network: PoseNet) -> None:
    """Every parameter has a number of its own from the file."""
    arrived = torch.cat([p.detach().flatten() for p in network.parameters()]).abs()
    assert arrived.numel() == 29_561_182
    assert arrived.min() >= FIRST
    seen = torch.zeros(int(arrived.max()) // 2, dtype=torch.bool)
    seen[((arrived - FIRST) / 2).long()] = True
    assert int(seen.sum()) == arrived.numel()


def test_every_official_name_of_dekr_w32_has_its_own_place_with_its_shape() -> None:
    shapes = official_keys()
    assert len(shapes) == 2264
    network = build_model(model_config("dekr_w32")).double()
    report = load_into(network, recognise(numbered(shapes), Path("x.pth")))
    assert report.missing == []
    assert {name.rpartition(".")[2] for name in report.skipped} == {"regular_matrix"}
    assert len(report.loaded) == 2264 - 34
    assert_all_arrived(network)


@pytest.mark.parametrize("old", [False, True], ids=["1.x", "0.x"])
def test_every_name_of_mmposes_dekr_w32_has_its_own_place_with_its_shape(old: bool) -> None:
    shapes = mmpose_keys(old)
    assert len(shapes) == 1830 + 46 + (0 if old else 6)
    network = build_model(model_config("dekr_w32")).double()
    report = load_into(network, recognise(numbered(shapes), Path("x.pth")))
    assert report.kind == "mmpose"
    assert report.missing == []
    # The rescoring network is a file of its own here, next to the checkpoint.
    assert {name.rpartition(".")[2] for name in report.skipped if "rescore_net" not in name} == {
        "regular_matrix"
    }
    assert len(report.loaded) == 1830 + 44
    assert_all_arrived(network)


def test_official_weights_compute_what_the_official_layout_computes() -> None:
    state = small_official()
    network = imported(state)
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        heatmap, offset = network(image)
        expected = official_forward(network.backbone(image), state)
    torch.testing.assert_close(heatmap, expected[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(offset, expected[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("old", [False, True])
def test_mmpose_weights_compute_what_mmposes_layout_computes(old: bool) -> None:
    state = small_mmpose(old)
    network = imported(state)
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        heatmap, offset = network(image)
        their_heatmap, theirs = mmpose_forward(network.backbone(image), state, old)
    if old:  # the centre came first, and the offset had our sign
        torch.testing.assert_close(
            heatmap, torch.cat([their_heatmap[:, 1:], their_heatmap[:, :1]], 1), rtol=1e-4, atol=1e-4
        )
        torch.testing.assert_close(offset, theirs, rtol=1e-4, atol=1e-4)
    else:
        torch.testing.assert_close(heatmap, their_heatmap, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(offset, -theirs, rtol=1e-4, atol=1e-4)


def test_the_bare_weights_of_our_own_network_arrive_whole() -> None:
    source, network = build_model(SMALL), build_model(SMALL)
    report = load_into(network, recognise(source.state_dict(), Path("x.pth")))
    assert (report.kind, report.missing, report.skipped) == ("samkr-edge", [], {})
    assert all(map(torch.equal, source.state_dict().values(), network.state_dict().values()))


def test_a_missing_branch_leaves_all_branches_fresh_and_is_told() -> None:
    state = {name: t for name, t in small_official().items() if not name.startswith("offset_final_layer.1.")}
    network = build_model(SMALL)
    before = network.offset_head.final.weight.clone()
    report = load_into(network, recognise(state, Path("x.pth")))
    assert report.missing == ["offset_head.final.weight", "offset_head.final.bias"]
    assert report.skipped["offset_final_layer.0.weight"] == "parts of it are missing"
    assert network.offset_head.final.weight.equal(before)


def test_plain_convolutions_do_not_take_the_kernels_of_adaptive_ones() -> None:
    network = build_model(replace(SMALL, deformable=False))
    report = load_into(network, recognise(small_official(), Path("x.pth")))
    assert report.skipped["offset_feature_layers.0.0.adapt_conv.weight"] == "made for adaptive convolutions"
    assert "offset_head.blocks.0.adapt_conv.weight" in report.missing


@pytest.fixture(scope="module")
def dekr_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DEKR-W32 for CrowdPose in a training checkpoint: nested, with ``module.``, and random weights."""
    torch.manual_seed(0)
    state = {}
    rows = {"head_heatmap.1": 15, "transition_offset.0": 210, "transition_offset.1": 210}
    for name, shape in official_keys().items():
        layer = ".".join(name.split(".")[:2])
        if layer.startswith("offset_f") and int(layer.split(".")[1]) >= 14:
            continue
        if shape and layer in rows:
            shape = (rows[layer], *shape[1:])
        state[f"module.{name}"] = torch.rand(shape)
    path = tmp_path_factory.mktemp("import") / "checkpoint.pth.tar"
    torch.save(
        {"epoch": 3, "state_dict": state, "perf": np.float64(0.5), "optimizer": {"lr": np.ones(2)}}, path
    )
    return path


def test_a_training_checkpoint_becomes_a_network_of_its_own_keypoints(
    dekr_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "dekr.pt"
    assert run(["import", str(dekr_file), "--model", "dekr_w32", "-o", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (printed["kind"], printed["keypoints"], printed["missing"]) == ("dekr", 14, [])
    assert len(printed["skipped"]) == 28
    checkpoint = load_checkpoint(out)
    assert checkpoint.card.skeleton.name == "crowdpose14"
    assert checkpoint.card.decode.nms_joints == 7
    assert checkpoint.card.provenance["imported"]["file"] == "checkpoint.pth.tar"
    network_of(checkpoint)


def test_dekr_weights_start_samkrs_backbone_and_heatmaps(
    dekr_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        run(["import", str(dekr_file), "--model", "samkr_w32", "-o", str(tmp_path / "s.pt"), "--json"]) == 0
    )
    printed = json.loads(capsys.readouterr().out)
    assert all(name.startswith(("offset_head.", "heatmap_head.scale.")) for name in printed["missing"])
    assert all(
        name.startswith("offset_") or name.startswith("transition_offset") for name in printed["skipped"]
    )


def test_a_bare_backbone_loads_without_its_classifier(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As ImageNet's files are: old ones without counters of batches."""
    backbone = build_model(model_config("samkr_tiny")).backbone.state_dict()
    state = {name: torch.rand(tensor.shape) for name, tensor in backbone.items() if "batches" not in name}
    torch.save({**state, "classifier.weight": torch.rand(4, 4)}, tmp_path / "imagenet.pth")
    out = tmp_path / "b.pt"
    assert run(["import", str(tmp_path / "imagenet.pth"), "--model", "samkr_tiny", "-o", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "start for training" in shown
    assert "classifier.weight" in shown
    loaded = load_checkpoint(out).state
    assert all(loaded[f"backbone.{name}"].equal(tensor) for name, tensor in state.items())


def test_keypoints_that_a_file_does_not_have_are_refused_and_not_ignored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = prefixed("backbone.", build_model(model_config("samkr_tiny")).backbone.state_dict())
    torch.save(
        {**state, "head.heatmap_conv_layers.2.weight": torch.rand(18, 16, 1, 1)}, tmp_path / "dekr.pth"
    )
    command = ["import", str(tmp_path / "dekr.pth"), "--model", "samkr_tiny", "-o", str(tmp_path / "fp32.pt")]
    assert run([*command, "--keypoints", "14"]) == 3
    assert "the weights and the command have different keypoints" in capsys.readouterr().err
    assert run([*command, "--keypoints", "17"]) == 0


def test_own_keypoints_are_named_by_a_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network = build_model(replace(model_config("samkr_tiny"), keypoints=3, groups=0))
    state = network.backbone.state_dict()
    state["head_heatmap.1.weight"] = torch.rand(4, 16, 1, 1)
    torch.save(state, tmp_path / "own.pth")
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}],
        "annotations": [],
        "categories": [
            {
                "id": 1,
                "name": "paw",
                "keypoints": ["a", "b", "c"],
                "flip_pairs": [[1, 2]],
                "sigmas": [0.1, 0.1, 0.1],
            }
        ],
    }
    path = tmp_path / "data" / "annotations" / "person_keypoints_train2017.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content))
    command = ["import", str(tmp_path / "own.pth"), "--model", "samkr_tiny", "-o", str(tmp_path / "o.pt")]
    assert run(command) == 2
    assert "SE-U35" in capsys.readouterr().err
    assert run([*command, "--data", str(tmp_path / "data")]) == 0
    assert load_checkpoint(tmp_path / "o.pt").card.skeleton.keypoints == ("a", "b", "c")
    content["categories"][0].update(keypoints=["a"], flip_pairs=[], sigmas=[0.1])
    path.write_text(json.dumps(content))
    assert run([*command, "--data", str(tmp_path / "data")]) == 3
    assert "SE-D26" in capsys.readouterr().err


def write_nonsense(path: Path) -> None:
    torch.save({"a.weight": torch.rand(3)}, path)


def write_wrong_width(path: Path) -> None:
    torch.save(backbone_state(), path)


def write_truncated(path: Path) -> None:
    write_wrong_width(path)
    path.write_bytes(path.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("wrapped", "table", "instead_of"),
    [
        (
            lambda good, bad: {
                "net": bad,
                "ema_net": good,
                "optimizer": {"state": {0: {"exp_avg": torch.ones(2)}}},
            },
            "ema_net",
            ["net"],
        ),
        (lambda good, bad: {"state_dict": good, "teacher": bad, "epoch": 1}, "state_dict", ["teacher"]),
        (lambda good, bad: {**prefixed("net.", bad), **prefixed("ema_net.", good)}, "ema_net", ["net"]),
        (lambda good, bad: {"model": bad, "model_ema": good}, "model_ema", ["model"]),
        (lambda good, bad: {"state_dict": bad, "state_dict_ema": good}, "state_dict_ema", ["state_dict"]),
        (lambda good, _: {"model": good, "ema": {"decay": torch.ones(1), "module": {}}}, "model", []),
        (
            lambda good, bad: {"a": good, "optimizer": {"state": {0: {"exp_avg": bad["conv1.weight"]}}}},
            "a",
            [],
        ),
        (lambda good, bad: {"schema": bad, "net": good}, "net", ["schema"]),
        (lambda good, _: {"step": torch.ones(1), "model": {"state_dict": good}}, "model.state_dict", []),
        (lambda good, bad: {**bad, **prefixed("ema.", good)}, "ema", ["the one without a prefix"]),
        (lambda good, _: prefixed("_orig_mod.", good), "", []),
        (lambda good, _: prefixed("model.backbone.", good), "", []),
        (lambda good, _: {"state_dict": prefixed("model._orig_mod.", good)}, "state_dict", []),
        (lambda good, _: {"run": {"net": good}}, "run.net", []),
    ],
    ids=[
        "ema",
        "beside",
        "ema in one table",
        "model_ema",
        "timm",
        "empty ema",
        "optimizer",
        "schema",
        "step",
        "bare and ema",
        "compiled",
        "backbone",
        "compiled within",
        "deep",
    ],
)
def test_weights_are_found_within_what_wraps_them_and_their_table_is_named(
    tmp_path: Path,
    wrapped: Callable[[dict[str, torch.Tensor], dict[str, torch.Tensor]], object],
    table: str,
    instead_of: list[str],
) -> None:
    good = {"conv1.weight": torch.ones(2), "stage2.0.fuse.weight": torch.ones(3)}
    torch.save(wrapped(good, {name: -tensor for name, tensor in good.items()}), tmp_path / "w.pth")
    read = read_weights(tmp_path / "w.pth")
    found = recognise(read.tensors, tmp_path / "w.pth").tensors
    assert found.keys() == good.keys()
    assert all(tensor.min() == 1 for tensor in found.values())
    assert (read.table, list(read.instead_of)) == (table, instead_of)


@pytest.mark.parametrize("content", [{"weights\x1b[31m": [1]}, {"odd\x1b[31m": torch.ones(1)}])
def test_names_that_are_not_known_are_told_without_steering_the_terminal(
    tmp_path: Path, content: dict[str, object]
) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(SamkrError) as caught:
        recognise(read_weights(tmp_path / "w.pth").tensors, tmp_path / "w.pth")
    assert f"{next(iter(content))[:3]}" in str(caught.value)
    assert "\x1b" not in str(caught.value)


class Hostile:
    """Runs a command when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (os.environ["HOSTILE"],)


def write_hostile(path: Path) -> None:
    torch.save({"state_dict": small_official(), "meta": Hostile()}, path)


@pytest.mark.parametrize(
    ("write", "code"),
    [
        (write_nonsense, "SE-A75"),
        (write_wrong_width, "SE-A39"),
        (write_truncated, "SE-A76"),
        (write_hostile, "SE-A76"),
    ],
)
def test_other_files_are_refused_and_run_nothing(
    write: object,
    code: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("HOSTILE", str(tmp_path / "was_run"))
    write(tmp_path / "w.pth")  # type: ignore[operator]
    out = tmp_path / "out.pt"
    assert run(["import", str(tmp_path / "w.pth"), "--model", "dekr_w32", "-o", str(out)]) == 4
    assert code in capsys.readouterr().err
    assert not out.exists()
    assert not (tmp_path / "was_run").exists()


@pytest.mark.parametrize("named", ["conv\x1b]0;owned\x07", "backbone.\x1b[2J\x9b31m.weight"])
def test_names_of_weights_steer_no_terminal(
    named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({named: torch.ones(3)}, tmp_path / "w.pth")
    assert (
        run(["import", str(tmp_path / "w.pth"), "--model", "dekr_w32", "-o", str(tmp_path / "out.pt")]) == 4
    )
    torch.save({**small_official(), named: torch.ones(3)}, tmp_path / "w.pth")
    run(["import", str(tmp_path / "w.pth"), "--model", "dekr_w32", "-o", str(tmp_path / "out.pt")])
    shown = "".join(capsys.readouterr())
    assert named[-5:].strip("\x07") in shown
    assert not set(shown) & set("\x1b\x07\x9b")


def test_our_own_checkpoint_and_a_missing_file_are_named(dekr_file: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.pt"
    torch.save({"format": "samkr-edge/1", "card": {}, "config": {}}, own)
    for path, code in ((own, "SE-A80"), (tmp_path / "none.pth", "SE-A23")):
        with pytest.raises(SamkrError) as caught:
            read_weights(path)
        assert caught.value.code == code


@pytest.mark.parametrize(("inputs", "skeleton"), [(74, "coco17"), (59, "crowdpose14")])
def test_official_rescoring_weights_become_a_rescoring_network(
    inputs: int, skeleton: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"l1": (256, inputs), "l2": (256, 256), "l3": (1, 256)}
    state = {f"head.rescore_net.{name}.weight": torch.rand(size) for name, size in sizes.items()}
    state |= {f"head.rescore_net.{name}.bias": torch.rand(size[0]) for name, size in sizes.items()}
    torch.save(state, tmp_path / "r.pth")
    out = tmp_path / "r.npz"
    assert run(["import", str(tmp_path / "r.pth"), "--model", "rescoring", "-o", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["skeleton"] == skeleton
    loaded = load_rescoring(out, COCO17 if skeleton == "coco17" else CROWDPOSE14)
    assert loaded.weights["l2.bias"].tolist() == state["head.rescore_net.l2.bias"].tolist()


# As mmpose's definitions of its data sets list them, and which two give a pose's size.
MMPOSE_LINKS = {
    "coco17": (
        "left_ankle left_knee, left_knee left_hip, right_ankle right_knee, right_knee right_hip, left_hip right_hip, "
        "left_shoulder left_hip, right_shoulder right_hip, left_shoulder right_shoulder, left_shoulder left_elbow, "
        "right_shoulder right_elbow, left_elbow left_wrist, right_elbow right_wrist, left_eye right_eye, "
        "nose left_eye, nose right_eye, left_eye left_ear, right_eye right_ear, left_ear left_shoulder, "
        "right_ear right_shoulder",
        (5, 6),
    ),
    "crowdpose14": (
        "left_ankle left_knee, left_knee left_hip, right_ankle right_knee, right_knee right_hip, left_hip right_hip, "
        "left_shoulder left_hip, right_shoulder right_hip, left_shoulder right_shoulder, left_shoulder left_elbow, "
        "right_shoulder right_elbow, left_elbow left_wrist, right_elbow right_wrist, head neck, right_shoulder neck, "
        "left_shoulder neck",
        (0, 1),
    ),
}


def rescoring_state(inputs: int) -> dict[str, Tensor]:
    torch.manual_seed(2)
    layers = {"l1": (256, inputs), "l2": (256, 256), "l3": (1, 256)}
    state = {f"{name}.weight": torch.randn(size) / 8 for name, size in layers.items()}
    return state | {f"{name}.bias": torch.randn(size[0]) / 8 for name, size in layers.items()}


@pytest.mark.parametrize("skeleton", [COCO17, CROWDPOSE14], ids=lambda skeleton: skeleton.name)
@pytest.mark.parametrize("name", ["head.rescore_net.", "rescore_net.", ""], ids=["1.x", "0.x", "alone"])
def test_mmposes_rescoring_network_says_what_it_says_there(
    name: str, skeleton: Skeleton, tmp_path: Path
) -> None:
    """Its features, computed here as mmpose does: other links first, and many the other way round."""
    text, sizes = MMPOSE_LINKS[skeleton.name]
    links = [[skeleton.keypoints.index(joint) for joint in link.split()] for link in text.split(", ")]
    state = rescoring_state(3 * len(links) + len(skeleton))
    file = tmp_path / "kpt_rescore_set-00000000.pth"
    torch.save(prefixed(name, state), file)
    assert run(["import", str(file), "--model", "rescoring", "-o", str(tmp_path / "r.npz")]) == 0
    ours = load_rescoring(tmp_path / "r.npz", skeleton)

    joints, scores = 200 * torch.rand(20, len(skeleton), 2), torch.rand(20, len(skeleton))
    between = torch.stack([joints[:, first] - joints[:, second] for first, second in links], dim=1)
    lengths = between.norm(dim=2)
    unit = lengths[:, sizes].mean(dim=1, keepdim=True).clamp(min=1)
    x = torch.cat([(between / unit[..., None]).flatten(1), lengths / unit, scores], dim=1)
    for layer in ("l1", "l2", "l3"):
        x = F.linear(x, state[f"{layer}.weight"], state[f"{layer}.bias"])
        x = x if layer == "l3" else x.relu()
    found = ours.predict(ours.features(joints.numpy(), scores.numpy()))
    np.testing.assert_allclose(found, x[:, 0].numpy(), atol=1e-5)


def test_the_rescoring_network_within_mmposes_dekr_is_written_next_to_the_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = prefixed("backbone.", build_model(model_config("samkr_tiny")).backbone.state_dict())
    state["head.heatmap_conv_layers.2.weight"] = torch.rand(18, 16, 1, 1)
    state |= prefixed("head.rescore_net.", rescoring_state(74))
    torch.save({"state_dict": state, "meta": {}}, tmp_path / "dekr.pth")
    command = ["import", str(tmp_path / "dekr.pth"), "--model", "samkr_tiny", "-o", str(tmp_path / "fp32.pt")]
    assert run(command) == 0
    beside = tmp_path / "fp32.rescore.npz"
    assert f"--rescore {beside}" in capsys.readouterr().out
    alone = [*command[:2], "--model", "rescoring", "-o", str(tmp_path / "alone.npz")]
    assert run(alone) == 0
    for name, array in load_rescoring(beside, COCO17).weights.items():
        assert np.array_equal(array, load_rescoring(tmp_path / "alone.npz", COCO17).weights[name])


def test_a_rescoring_network_for_other_poses_does_not_stop_the_import(tmp_path: Path) -> None:
    state = prefixed("backbone.", build_model(model_config("samkr_tiny")).backbone.state_dict())
    state["head.heatmap_conv_layers.2.weight"] = torch.rand(18, 16, 1, 1)
    state |= prefixed("head.rescore_net.", rescoring_state(59))
    torch.save(state, tmp_path / "dekr.pth")
    out = tmp_path / "fp32.pt"
    assert run(["import", str(tmp_path / "dekr.pth"), "--model", "samkr_tiny", "-o", str(out)]) == 0
    assert not out.with_suffix(".rescore.npz").exists()


def test_rescoring_weights_of_no_known_skeleton_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = {"l1": (8, 5), "l2": (8, 8), "l3": (1, 8)}
    state = {f"{n}.weight": torch.rand(s) for n, s in names.items()}
    for missing, code in ((True, "SE-A75"), (False, "SE-A78")):
        if not missing:
            state |= {f"{n}.bias": torch.rand(s[0]) for n, s in names.items()}
        torch.save(state, tmp_path / "r.pth")
        command = ["import", str(tmp_path / "r.pth"), "--model", "rescoring", "-o", str(tmp_path / "r.npz")]
        assert run(command) == 4
        assert code in capsys.readouterr().err
