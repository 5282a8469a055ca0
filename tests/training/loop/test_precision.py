"""What a recipe's precision comes to, where it is switched, and where it is told."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from small_run import train

from samkr_edge.dataset.keypoint_dataset import KeypointDataset
from training.loop import precision
from training.loop.precision import allow_tf32, computed, half_type
from training.loop.recipe_file import load_recipe, recipe_names


@pytest.fixture(autouse=True)
def switches() -> Iterator[None]:
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def tf32() -> tuple[bool, bool]:
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


@pytest.mark.parametrize(
    ("device", "modern", "expected"),
    [
        ("cuda", True, {"auto": "bf16", "fp32": "fp32", "tf32": "tf32", "bf16": "bf16", "fp16": "fp16"}),
        ("cuda", False, {"auto": "fp32", "fp32": "fp32", "tf32": "fp32", "bf16": "bf16", "fp16": "fp16"}),
        ("cpu", True, {"auto": "bf16", "fp32": "fp32", "tf32": "fp32", "bf16": "bf16", "fp16": "fp16"}),
        ("cpu", False, {"auto": "fp32", "fp32": "fp32", "tf32": "fp32", "bf16": "bf16", "fp16": "fp16"}),
    ],
)
def test_it_is_what_the_device_has(
    monkeypatch: pytest.MonkeyPatch, device: str, modern: bool, expected: dict[str, str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: modern)
    monkeypatch.setattr(torch.cuda, "is_tf32_supported", lambda: modern)
    monkeypatch.setattr(precision, "cpu_flags", lambda: {"avx512_bf16"} if modern else {"avx2"})
    assert {wanted: computed(wanted, torch.device(device)) for wanted in expected} == expected


def test_autocast_is_for_half_precision_alone() -> None:
    assert [half_type(name) for name in ("fp32", "tf32", "bf16", "fp16")] == [
        None, None, torch.bfloat16, torch.float16,
    ]  # fmt: skip


@pytest.mark.parametrize("allowed", [True, False])
def test_the_switches_are_both_set_without_a_word(allowed: bool) -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        allow_tf32(allowed)
    assert tf32() == (allowed, allowed)
    assert heard == []


@pytest.mark.parametrize(
    ("wanted", "allowed", "told"), [("tf32", True, "fp32"), ("fp32", False, "fp32"), ("bf16", False, "bf16")]
)
def test_a_run_switches_it_and_says_what_it_computed_in(
    tmp_path: Path,
    people: KeypointDataset,
    capsys: pytest.CaptureFixture[str],
    wanted: str,
    allowed: bool,
    told: str,
) -> None:
    allow_tf32(not allowed)
    settings: dict[str, Any] = {"schedule": {"steps": 1}, "precision": wanted}
    finished = train(tmp_path, people, **settings)
    assert tf32() == (allowed, allowed)
    assert finished.card.provenance["training"]["precision"] == told
    assert f"trained in {told} at" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    [n for n in recipe_names() if "tiny" not in n and load_recipe(n).model not in (None, "samkr_tiny")],
)
def test_recipes_of_papers_train_in_float32(name: str) -> None:
    assert load_recipe(name).precision == "fp32"
