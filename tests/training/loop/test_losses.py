from __future__ import annotations

import numpy as np
import pytest
import torch

from training.data.encode import encode
from training.data.settings import EncodeSettings
from training.loop.losses import LossSettings, PoseLoss, heatmap_loss, offset_loss, swahr_loss


def _maps(channels: int = 3, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(2, channels, 5, 6, generator=generator)
    target = target * (target > 0.5)
    return {
        "heatmap": target,
        "mask": torch.rand(2, channels, 5, 6, generator=generator),
        "valid": torch.rand(2, 1, 5, 6, generator=generator).round(),
        "offset": torch.randn(2, 2 * channels - 2, 5, 6, generator=generator),
        "offset_weight": torch.rand(2, 2 * channels - 2, 5, 6, generator=generator).clamp(min=0.5) - 0.5,
        "predicted": torch.randn(2, channels, 5, 6, generator=generator) * 0.3 + target,
        "scale": torch.randn(2, channels, 5, 6, generator=generator) * 0.2,
    }


def test_heatmap_loss_is_the_mean_of_weighted_squares() -> None:
    predicted, target = torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[[[0.0, 1.0]]]])
    assert heatmap_loss(predicted, target, torch.tensor([[[[0.1, 1.0]]]])).item() == pytest.approx(
        (0.1 + 4) / 2
    )


def test_offset_loss_is_smooth_and_divided_by_the_number_of_weights() -> None:
    predicted = torch.tensor([[[[0.1, 1.0, 50.0]]]])
    weight = torch.tensor([[[[2.0, 4.0, 0.0]]]])
    expected = (2 * 0.5 * 0.1**2 * 9 + 4 * (1 - 0.5 / 9)) / 2
    assert offset_loss(predicted, torch.zeros(1, 1, 1, 3), weight).item() == pytest.approx(expected, rel=1e-6)


def test_a_batch_without_people_has_no_offset_loss_and_a_gradient() -> None:
    predicted = torch.randn(1, 4, 3, 3, requires_grad=True)
    loss = offset_loss(predicted, torch.zeros(1, 4, 3, 3), torch.zeros(1, 4, 3, 3))
    loss.backward()
    assert loss.item() == 0
    assert predicted.grad is not None
    assert not predicted.grad.any()


def test_swahr_follows_its_definition_position_by_position() -> None:
    maps = _maps()
    mask = torch.ones(2, 1, 5, 6)
    mask[:, :, :2] = 0
    heatmap, regulariser = swahr_loss(maps["predicted"], maps["heatmap"], maps["scale"], mask)
    total = square = 0.0
    count = maps["heatmap"].numel()
    for n, c, y, x in torch.cartesian_prod(*map(torch.arange, maps["heatmap"].shape)).tolist():
        if not mask[n, 0, y, x]:
            continue
        p, h, s = (maps[name][n, c, y, x].double() for name in ("predicted", "heatmap", "scale"))
        a = s if h > 0 else torch.zeros(())
        log = h.log() if h > 0 else torch.zeros(())
        adapted = h + a * h * log + 0.5 * a**2 * h * log**2
        split = h**0.01
        weight = abs(1 - p) * split + abs(p) * (1 - split)
        total += float((p - adapted) ** 2 * weight)
        square += float(a**2)
    assert heatmap.item() == pytest.approx(total / count, rel=1e-5)
    assert regulariser.item() == pytest.approx(square / count, rel=1e-5)


def test_swahr_gradients_are_right_also_where_the_target_is_zero() -> None:
    maps = {name: value.double() for name, value in _maps().items()}
    predicted, scale = maps["predicted"].requires_grad_(), maps["scale"].requires_grad_()
    mask = torch.ones(2, 1, 5, 6, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda p, s: sum(swahr_loss(p, maps["heatmap"], s, mask)), (predicted, scale), atol=1e-7
    )


def test_swahr_with_scale_zero_leaves_the_target_and_a_missing_centre_scale_is_zero() -> None:
    maps, mask = _maps(), torch.ones(2, 1, 5, 6)
    full = maps["scale"].clone()
    full[:, -1] = 0
    with_padding = swahr_loss(maps["predicted"], maps["heatmap"], full[:, :-1], mask)
    assert [t.item() for t in with_padding] == [
        t.item() for t in swahr_loss(maps["predicted"], maps["heatmap"], full, mask)
    ]
    assert swahr_loss(maps["predicted"], maps["heatmap"], 0 * full, mask)[1].item() == 0


def test_pose_loss_applies_factors_and_uses_the_scale_only_with_swahr() -> None:
    maps = _maps()
    offset = torch.zeros_like(maps["offset"])
    plain = PoseLoss(LossSettings(heatmap_weight=2.0, offset_weight=0.5))(
        {"heatmap": maps["predicted"], "offset": offset, "scale": maps["scale"]}, maps
    )
    assert set(plain) == {"heatmap", "offset"}
    assert plain["heatmap"].item() == pytest.approx(
        2 * heatmap_loss(maps["predicted"], maps["heatmap"], maps["mask"]).item()
    )
    assert plain["offset"].item() == pytest.approx(
        0.5 * offset_loss(offset, maps["offset"], maps["offset_weight"]).item()
    )
    swahr = PoseLoss(LossSettings("swahr"))(
        {"heatmap": maps["predicted"], "offset": offset, "scale": maps["scale"]}, maps
    )
    assert set(swahr) == {"heatmap", "offset", "scale"}
    assert set(PoseLoss(LossSettings("swahr"))({"heatmap": maps["predicted"], "offset": offset}, maps)) == {
        "heatmap",
        "offset",
    }


def test_swahr_weighs_the_background_itself_within_the_valid_area_alone() -> None:
    joints = np.array([[[3.2, 4.1, 2.0], [7.0, 6.4, 2.0]]])
    valid = np.ones((24, 24), np.float32)
    valid[:, 20:] = 0
    generator = torch.Generator().manual_seed(0)
    heatmap, scale = (torch.randn(1, 3, 24, 24, generator=generator) for _ in range(2))
    offset = torch.zeros(1, 4, 24, 24)
    elsewhere = heatmap.clone()
    elsewhere[..., 20:] += 5
    found = []
    for weight in (0.0, 0.1, 1.0):
        settings = EncodeSettings(sigma=1.0, center_sigma=1.0, background_weight=weight)
        targets = encode(joints, np.array([400.0]), valid, (24, 24), settings)
        assert (
            (targets.mask == np.float32(weight)) & (targets.valid > 0)
        ).any()  # there is background to weigh
        batch = {name: torch.from_numpy(value)[None] for name, value in targets._asdict().items()}
        loss = PoseLoss(LossSettings("swahr"))
        found += [
            loss({"heatmap": predicted, "offset": offset, "scale": scale}, batch)["heatmap"].item()
            for predicted in (heatmap, elsewhere)
        ]
    assert len(set(found)) == 1
    expected, _ = swahr_loss(heatmap, batch["heatmap"], scale, torch.from_numpy(valid))
    assert found[0] == expected.item() > 0
