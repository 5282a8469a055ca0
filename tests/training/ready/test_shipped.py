"""The network that travels with the package: small, the same in half precision, and opened by its name anywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.selftest.against_onnx_runtime import ap_of, images_of, look
from benchmarks.selftest.carried import TRAINED, in_cache
from samkr_edge.cli import run
from samkr_edge.dataset.keypoint_dataset import KeypointDataset
from samkr_edge.dataset.trained_on import require_unseen, trainings_of
from samkr_edge.files.artefact import sha256_of
from training.checkpoint import load_checkpoint
from training.loop.start_weights import load_start
from training.models.zoo import build_model, model_config
from training.ready.get import checkpoint_of
from training.ready.shipped_file import FOLDER, read_shipped, shipped_card, write_shipped

FILE = FOLDER / "samkr_tiny.npz"
RESULTS = Path(__file__).parents[3] / "benchmarks/results/shipped-samkr_tiny.json"
WITHOUT_TORCH = """
import sys

class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "torch":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Hidden())
from samkr_edge.cli import run
sys.exit(run(sys.argv[1:]))
"""


def test_it_is_small_and_the_one_that_was_measured() -> None:
    kept = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert FILE.stat().st_size <= 3.2e6
    assert kept["file"] == {"bytes": FILE.stat().st_size, "sha256": sha256_of(FILE)}
    scores = kept["held_out"]
    assert abs(scores["float32"]["ap"] - scores["float16"]["ap"]) < 0.05
    ready = shipped_card(FILE).provenance["ready"]
    assert ready["published"].startswith(
        f"{scores['float16']['ap']:.1f} AP on {scores['images']} rendered images"
    )


def test_written_again_it_is_the_same_file(tmp_path: Path) -> None:
    write_shipped(tmp_path / "again.npz", read_shipped(FILE))
    assert (tmp_path / "again.npz").read_bytes() == FILE.read_bytes()


def test_what_half_precision_cannot_hold_is_refused(tmp_path: Path) -> None:
    checkpoint = read_shipped(FILE)
    name = next(iter(checkpoint.state))
    checkpoint.state[name] = torch.full_like(checkpoint.state[name], 1e6)
    with pytest.raises(ValueError, match=name):
        write_shipped(tmp_path / "x.npz", checkpoint)
    assert not list(tmp_path.iterdir())


def test_its_name_opens_it_and_it_sees_people_that_it_was_not_trained_on(
    people: KeypointDataset, cache: Path
) -> None:
    checkpoint = load_checkpoint("zoo:samkr_tiny")
    (training,) = trainings_of(checkpoint.card)
    assert training.pictures is not None
    assert training.pictures.count == 30000
    assert not require_unseen({"it": [training]}, people, people.images).notes
    assert checkpoint_of("samkr_tiny").is_relative_to(cache)
    assert ap_of(people, look(checkpoint_of("samkr_tiny"), images_of(people)).poses) > 75


def test_a_run_starts_from_all_of_it() -> None:
    network = build_model(model_config("samkr_tiny"))
    start = load_start(network, "zoo:samkr_tiny")
    assert start.told.startswith(f"{len(network.state_dict())} of {len(network.state_dict())} tensors")
    assert start.provenance["init"]["trained_on"]


def test_predict_needs_no_model_of_ones_own_and_says_what_this_one_knows(
    people: KeypointDataset, cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = str(people.images[0].path)
    assert run(["predict", "zoo:samkr_tiny", picture, "-o", str(tmp_path / "out")]) == 0
    assert "knows rendered people only" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "predictions.json").read_text())


def test_what_is_made_of_it_says_so(cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "zoo:samkr_tiny", "-o", str(tmp_path / "a.onnx"), "--size", "64x64"]) == 0
    capsys.readouterr()
    assert run(["inspect", str(tmp_path / "a.onnx")]) == 0
    shown = capsys.readouterr().out
    assert "samkr_tiny, by samkr-edge, trained on" in shown
    assert shipped_card(FILE).provenance["ready"]["published"] in shown


def test_without_torch_its_name_opens_the_one_that_the_self_test_carries(
    people: KeypointDataset, cache: Path, tmp_path: Path
) -> None:
    words = ["predict", "zoo:samkr_tiny", str(people.images[0].path), "-o", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "knows rendered people only" in done.stderr
    (file,) = cache.rglob("*.onnx")
    assert file == in_cache(TRAINED)
    found, exact = (
        ap_of(people, look(model, images_of(people)).poses) for model in (file, checkpoint_of(TRAINED))
    )
    assert abs(found - exact) < 3


def test_without_torch_other_networks_say_what_is_missing(cache: Path, tmp_path: Path) -> None:
    words = ["predict", "zoo:dekr_w32_coco", str(tmp_path), "-o", str(tmp_path / "out")]
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *words], capture_output=True, text=True)
    assert "SE-U70" in done.stderr


def test_the_list_has_its_ap_and_its_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["zoo", "--json"]) == 0
    (row,) = [row for row in json.loads(capsys.readouterr().out)["networks"] if row["shipped"]]
    assert (row["name"], row["here"], row["bytes"]) == ("samkr_tiny", True, FILE.stat().st_size)
    assert row["published"].endswith("rendered images")


def test_a_few_lines_read_it() -> None:
    """As the module's docstring has them."""
    with np.load(FILE) as file:
        weights, about = file["weights"], json.loads(str(file["about"]))
    assert weights.dtype == np.float16
    assert weights.size == sum(int(np.prod(shape)) for _, shape in about["tensors"])
