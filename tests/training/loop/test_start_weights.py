"""What a run starts from: asked for where papers start from ImageNet weights, and counted where it is loaded."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from small_run import SMALL

from samkr_edge.errors import SamkrError
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.skeleton import COCO17
from training.checkpoint import Checkpoint, save_checkpoint
from training.loop.recipe_file import load_recipe, recipe_names
from training.loop.start_weights import imagenet_start, load_start, require_start
from training.models.pose_net import PoseNet
from training.models.zoo import build_model, model_config, model_names


@pytest.fixture
def network() -> PoseNet:
    torch.manual_seed(0)
    return build_model(SMALL)


def saved(path: Path, state: dict[str, torch.Tensor], kind: str = "float", **provenance: object) -> str:
    card = ModelCard("small", COCO17, SMALL.input_size).with_provenance(**provenance)
    quantization = {"policy": {"name": "all"}} if kind == "quantized" else {}
    save_checkpoint(path, Checkpoint(card, SMALL, state, kind, quantization=quantization))
    return str(path)


def other(network: PoseNet, *starts: str) -> dict[str, torch.Tensor]:
    """Tensors that the network does not have, under its names that begin so."""
    return {
        name: torch.full_like(tensor, 3)
        for name, tensor in network.state_dict().items()
        if name.startswith(starts)
    }


@pytest.mark.parametrize("name", [*model_names(), "samkr_w48_1block"])
def test_every_network_of_the_papers_has_an_official_backbone_and_no_other(name: str) -> None:
    config = model_config(name, 14)
    published = {width: f"zoo:hrnet_w{width}_imagenet" for width in (18, 32, 48)}
    assert imagenet_start(config) == published.get(config.width)
    assert (config.width in published) is ("tiny" not in name)
    for changed in (
        {"stem_channels": 32},
        {"bottlenecks": 1},
        {"stage_modules": (1, 1, 1)},
        {"blocks": 2},
        {"width": 30},
    ):
        assert imagenet_start(replace(config, **changed)) is None


def test_a_recipe_of_the_papers_without_a_start_is_answered_with_the_backbone_of_its_own_network() -> None:
    with pytest.raises(SamkrError) as caught:
        require_start(None, model_config("dekr_w48"))
    assert caught.value.code == "SE-U86"
    assert caught.value.fix == ("run the same command with --set init=zoo:hrnet_w48_imagenet")
    assert "--set init=none" in caught.value.sentence()


@pytest.mark.parametrize(
    ("init", "model"), [("none", "samkr_w32"), (None, "samkr_tiny"), (__file__, "samkr_w32")]
)
def test_a_start_that_is_said_or_not_needed_is_enough(init: str | None, model: str) -> None:
    require_start(init, model_config(model))


def test_the_word_of_a_recipe_file_is_text_and_null_is_nothing() -> None:
    assert load_recipe("samkr_w32_coco", ["init=none"]).init == "none"
    assert load_recipe("samkr_w32_coco", ["init=null"]).init is None


@pytest.mark.parametrize("name", recipe_names())
def test_a_shipped_recipe_names_what_it_goes_on_from_or_nothing(name: str) -> None:
    init = load_recipe(name).init
    assert (init is not None) == name.endswith(("_from_coco", "_further"))


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        (
            ("backbone.", "heatmap_head.", "offset_head."),
            "{all} of {all} tensors start from {init}, {trunk} of the ",
        ),
        (("backbone.",), "{trunk} of {all} tensors start from {init}, {trunk} of the "),
        (("heatmap_head.",), "{heatmap} of {all} tensors start from {init}, none of the "),
    ],
)
def test_what_fits_is_loaded_and_counted_with_the_backbone_apart(
    network: PoseNet, tmp_path: Path, parts: tuple[str, ...], told: str
) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    given = other(network, *parts)
    init = saved(tmp_path / "start.pt", {**given, "not.ours": torch.zeros(1)})
    counts = {"all": len(before), "trunk": len(other(network, "backbone.")), "init": init}
    counts["heatmap"] = len(other(network, "heatmap_head."))
    assert load_start(network, init).told == (told + "backbone's {trunk}").format(**counts)
    for name, tensor in network.state_dict().items():
        assert tensor.equal(given.get(name, before[name])), name


def test_a_whole_hrnet_fills_a_backbone_of_one_output_and_what_has_no_place_is_told(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_model(replace(SMALL, decoding="grouping"))
    whole = other(build_model(SMALL), "backbone.")
    trunk = other(network, "backbone.")
    told = load_start(network, saved(tmp_path / "imagenet.pt", whole)).told
    assert f"{len(trunk)} of the backbone's {len(trunk)}; " in told
    assert f"; {len(whole) - len(trunk)} more of its backbone have no place here" in told
    assert "such as backbone.stage4.0.fuse_layers.1.0.0.0.weight" in told
    assert all((network.state_dict()[name] == 3).all() for name in trunk)


def test_what_an_import_has_made_up_is_no_start(network: PoseNet, tmp_path: Path) -> None:
    init = saved(tmp_path / "imagenet.pt", other(network, ""), imported={"loaded": 7, "missing": 40})
    assert load_start(network, init).told.endswith("; its import found no weights for 40 and left them fresh")


def test_without_a_start_nothing_is_loaded_and_none_says_so(network: PoseNet) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert load_start(network, None).told == ""
    assert load_start(network, "none").told == "small starts from scratch: init is none"
    assert all(tensor.equal(before[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(("kind", "reason"), [("quantized", "batch norms"), ("float", "no weight of")])
def test_a_checkpoint_that_is_no_start_is_refused(
    network: PoseNet, tmp_path: Path, kind: str, reason: str
) -> None:
    state = other(network, "backbone.") if kind == "quantized" else {"weight": torch.zeros(1)}
    with pytest.raises(SamkrError, match=reason) as caught:
        load_start(network, saved(tmp_path / "start.pt", state, kind))
    assert caught.value.code == "SE-A39"
    assert caught.value.fix.endswith("--set init=none")


def test_weights_of_a_backbone_of_another_width_are_no_start(network: PoseNet, tmp_path: Path) -> None:
    wider = build_model(replace(SMALL, width=2 * SMALL.width))
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(SamkrError, match="another backbone than small's") as caught:
        load_start(network, saved(tmp_path / "start.pt", wider.state_dict()))
    assert caught.value.code == "SE-A39"
    assert all(tensor.equal(before[name]) for name, tensor in network.state_dict().items())


def test_weights_that_are_not_finite_are_no_start(network: PoseNet, tmp_path: Path) -> None:
    state = other(network, "")
    state[next(iter(state))].view(-1)[0] = torch.nan
    with pytest.raises(SamkrError) as caught:
        load_start(network, saved(tmp_path / "start.pt", state))
    assert caught.value.code == "SE-A34"
