"""The losses of HigherHRNet and SWAHR are those of the official code, gradients too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from training.loop.grouping_losses import GroupingLoss, GroupingLossSettings, tag_losses

# Values and gradients of the official code, float64, on random maps: four images of 0, 1, 3 and 5 people, one of whom
# has no visible joint and two a single one. Outputs in hundredths, targets in thousandths.
OFFICIAL = np.load(Path(__file__).parents[2] / "data" / "grouping_losses.npz")
KEYPOINTS = 3


def official(name: str, unit: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(OFFICIAL[name].astype(np.float64) * unit)


def batch() -> dict[str, torch.Tensor]:
    return {
        "heatmap_low": official("heatmap_target0", 1e-3),
        "heatmap": official("heatmap_target1", 1e-3),
        "valid_low": official("mask0")[:, None],
        "valid": official("mask1")[:, None],
        "joints": torch.from_numpy(OFFICIAL["joints"].astype(np.int64)),
    }


def outputs(kind: str) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """The official outputs of both resolutions, and what our names for their parts are."""
    prefix = "swahr/" if kind == "swahr" else ""
    low, high = (official(f"{prefix}output{i}", 1e-2).requires_grad_() for i in range(2))
    k = KEYPOINTS
    if kind == "swahr":
        parts = {"scale_low": low[:, :k], "heatmap_low": low[:, k : 2 * k], "tag": low[:, 2 * k :]}
        return [low, high], {**parts, "scale": high[:, :k], "heatmap": high[:, k:]}
    return [low, high], {"heatmap_low": low[:, :k], "tag": low[:, k:], "heatmap": high}


@pytest.mark.parametrize("kind", ["higherhrnet", "swahr"])
def test_values_and_gradients_are_the_official_codes(kind: str) -> None:
    prefix = "swahr/" if kind == "swahr" else ""
    (low, high), maps = outputs(kind)
    terms = GroupingLoss(GroupingLossSettings(kind))(maps, batch())
    for name, ends in (("heatmap", "01"), ("pull", "0"), ("push", "0"), ("scale", "01")):
        if name in terms:
            expected = sum(OFFICIAL[f"{prefix}{name}{end}"].mean() for end in ends)
            assert terms[name].item() == pytest.approx(expected, rel=1e-9)
    assert set(terms) == {"heatmap", "pull", "push"} | ({"scale"} if kind == "swahr" else set())
    total = torch.stack(list(terms.values())).sum()
    assert total.item() == pytest.approx(float(OFFICIAL[f"{prefix}total"]), rel=1e-9)
    total.backward()
    for found, name in ((low.grad, "grad0"), (high.grad, "grad1")):
        torch.testing.assert_close(
            found.float(), torch.from_numpy(OFFICIAL[prefix + name]), rtol=1e-5, atol=1e-10
        )


def test_pull_and_push_of_every_image_are_the_official_codes() -> None:
    _, maps = outputs("higherhrnet")
    pull, push = tag_losses(maps["tag"], batch()["joints"])
    np.testing.assert_allclose(1e-3 * pull.detach(), OFFICIAL["pull0"], rtol=1e-9)
    np.testing.assert_allclose(1e-3 * push.detach(), OFFICIAL["push0"], rtol=1e-9)


def test_nobody_and_a_single_person_have_a_gradient_that_is_finite() -> None:
    tag = torch.randn(2, 3, 4, 5, requires_grad=True)
    joints = torch.zeros(2, 4, 3, 2, dtype=torch.int64)
    joints[1, 2, :, 0] = torch.tensor([3, 27, 44])
    joints[1, 2, :, 1] = 1
    pull, push = tag_losses(tag, joints)
    assert pull[0] == push[0] == push[1] == 0
    tags = tag[1].flatten()[[3, 27, 44]]
    assert pull[1].item() == pytest.approx(tags.var(unbiased=False).item(), rel=1e-5)
    (pull.sum() + push.sum()).backward()
    assert tag.grad.isfinite().all()
    assert not tag.grad[0].any()


def test_people_that_are_further_apart_are_pushed_less_and_their_order_means_nothing() -> None:
    joints = torch.ones(1, 2, 1, 2, dtype=torch.int64)
    joints[0, :, 0, 0] = torch.tensor([0, 3])
    pushes = []
    for apart in (0.0, 0.5, 2.0):
        tag = torch.tensor([0.3, 9.0, 9.0, 0.3 + apart]).view(1, 1, 2, 2)
        pull, push = tag_losses(tag, joints)
        assert pull.item() == 0
        assert tag_losses(tag, joints.flip(1))[1].item() == push.item()
        pushes.append(push.item())
    assert pushes == pytest.approx([0.5, 0.5 * np.exp(-0.25), 0.5 * np.exp(-4)])


def test_every_factor_acts_on_its_term_and_the_scales_need_swahr() -> None:
    _, maps = outputs("swahr")
    plain = GroupingLoss(GroupingLossSettings("swahr"))(maps, batch())
    factors = GroupingLossSettings("swahr", 2.0, 0.03, 0.05, 0.5)
    weighed = GroupingLoss(factors)(maps, batch())
    ratios = {name: (weighed[name] / plain[name]).item() for name in plain}
    assert ratios == pytest.approx({"heatmap": 2, "pull": 30, "push": 50, "scale": 0.5})
    assert set(GroupingLoss()(maps, batch())) == {"heatmap", "pull", "push"}
