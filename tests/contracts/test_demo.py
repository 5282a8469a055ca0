"""The road itself: the one-minute demo runs through, its artefacts are real, and a repeated one reuses them."""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
import pytest

from samkr_edge.cli import COMMANDS, demo_steps, run, steps
from samkr_edge.cli.demo import FULL, QUICK, plan, scale_of, shipped_network
from samkr_edge.dataset.keypoint_dataset import open_dataset
from samkr_edge.images import read_image

# What may be chosen is the least that it may be: how long the networks learn changes no step.
MINUTES = 0.05
DEMO = ["demo", "--quick", "--minutes", str(MINUTES), "--threads", "1", "--out"]


def samkr_edge(*arguments: str, timeout: float = 280) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "samkr_edge", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment,
    )


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The demo with its steps in this process: ModelOpt is imported once and not by each of four children.

    A child each, as a user has them, is what the repeated demo below and tests/contracts/test_hostile_folder.py have.
    """
    pytest.importorskip("modelopt", reason="the demo trains and quantizes")
    out = tmp_path_factory.mktemp("road") / "demo"
    arguments = [*DEMO, str(out)]
    said, printed = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stderr(said), redirect_stdout(printed):
        patch.setattr(steps, "_run", lambda step: run(list(step)))
        status = run(arguments)
    return out, subprocess.CompletedProcess(arguments, status, printed.getvalue(), said.getvalue())


def test_the_quick_demo_ends_with_a_verdict_and_a_report(
    road: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out, done = road
    assert done.returncode == 0, done.stderr
    results = json.loads((out / "results" / "results.json").read_text())
    assert results["verdict"].split()[0] in done.stdout
    assert str(out / "report.html") in done.stdout.replace("\n", "")
    assert len(results["models"]) == 3
    for model in results["models"]:
        assert model["latency"]["p50_ms"] > 0
        # However short the training: the shipped network goes on learning.
        assert model["accuracy"]["ap"] > 70


def test_every_step_shows_its_single_command(road: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    out, done = road
    printed = done.stdout.replace("\n", "")
    for step in plan(out, None, QUICK, MINUTES, 1):
        assert step.command.replace("\n", "") in printed


def test_the_built_int8_model_is_int8_and_predicts_like_its_onnx(
    road: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    import onnx

    from samkr_edge.runtime.onnx_runtime import OnnxRunner

    out, _ = road
    source = onnx.load(out / "qat.onnx")
    assert sum(node.op_type == "QuantizeLinear" for node in source.graph.node) > 20
    assert (out / "qat.cpu.onnx").stat().st_size < (out / "fp32.cpu.onnx").stat().st_size / 2
    people = open_dataset(out / "data")
    image = read_image(people.images[0].path)[None]
    built = OnnxRunner(out / "qat.cpu.onnx").run(image)
    plain = OnnxRunner(out / "qat.onnx").run(image)
    for left, right in zip(built, plain, strict=True):
        cosine = float((left * right).sum() / (np.linalg.norm(left) * np.linalg.norm(right)))
        assert cosine > 0.99


def test_a_repeated_demo_reuses_everything_and_remakes_a_damaged_artefact(
    road: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    out, _ = road
    (out / "ptq.cpu.onnx").write_bytes(b"damaged")
    done = samkr_edge(*DEMO, str(out))
    assert done.returncode == 0, done.stderr
    planned = plan(out, None, QUICK, MINUTES, 1)
    assert done.stdout.count("reused") >= len(planned) - 3
    assert (out / "ptq.cpu.onnx").stat().st_size > 10_000


def test_an_edited_built_model_is_refused(
    road: tuple[Path, subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    out, _ = road
    model = tmp_path / "qat.cpu.onnx"
    model.write_bytes((out / "qat.cpu.onnx").read_bytes() + b"\0")
    model.with_name(model.name + ".json").write_bytes((out / "qat.cpu.onnx.json").read_bytes())
    done = samkr_edge("eval", str(model), "--data", str(out / "data"))
    assert done.returncode == 4
    assert "SE-A" in done.stderr
    assert "fix: samkr-edge build" in done.stderr


def test_the_demo_is_a_sequence_of_public_commands() -> None:
    planned = plan(Path("demo"), None, FULL, FULL.minutes, None)
    assert {step.arguments[0] for step in planned} <= set(COMMANDS) - {"demo"}
    assert [step.arguments[0] for step in planned[:4]] == ["data", "train", "eval", "quantize"]


def test_from_scratch_it_trains_longer_on_more_images_and_reads_no_shipped_network() -> None:
    scale = scale_of(quick=False, from_scratch=True)
    rendered, training, *_ = plan(Path("demo"), None, scale, scale.minutes, None)
    assert training.arguments[:2] == ("train", "samkr_tiny")
    assert (scale.train_images, scale.minutes) == (6000, 7.0)
    assert rendered.command.startswith("samkr-edge data synth demo/data --train 6000 ")
    assert training.inputs == ()
    assert scale_of(quick=True, from_scratch=True).minutes == QUICK.minutes


def test_the_training_depends_on_the_shipped_network() -> None:
    """With another one, in a newer checkout, the demo trains again."""
    assert shipped_network().is_file()
    training = plan(Path("demo"), None, FULL, FULL.minutes, None)[1]
    assert training.arguments[:2] == ("train", "samkr_tiny_further")
    assert training.inputs == (shipped_network(),)


@pytest.mark.parametrize("annotation", ["none", "not json"])
def test_data_without_annotations_is_refused_before_the_first_step(
    tmp_path: Path, annotation: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    (data / "annotations").mkdir(parents=True)
    if annotation == "not json":
        (data / "annotations" / "person_keypoints_train2017.json").write_text('{"images": [')
    assert run(["demo", "--data", str(data), "--out", str(tmp_path / "out")]) == 3
    assert "fix:" in capsys.readouterr().err


def test_data_that_is_not_there_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", "--data", str(tmp_path / "no"), "--out", str(tmp_path / "out")]) == 4
    assert str(tmp_path / "no") in capsys.readouterr().err


def test_an_unwritable_out_is_refused_before_the_first_step(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert run(["demo", "--out", str(tmp_path / "file" / "demo")]) == 3
    assert "SE-D01" in capsys.readouterr().err


def test_a_demo_that_lacks_packages_is_refused_before_its_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And names all that is missing for it at once."""
    monkeypatch.setattr(demo_steps, "find_spec", lambda name: None if name == "jinja2" else object())
    (tmp_path / "photo.jpg").touch()
    for words in ([], ["--photos", str(tmp_path)]):
        assert run(["demo", "--out", str(tmp_path / "out"), *words]) == 2
        shown = capsys.readouterr().err
        assert "`demo` needs the package jinja2" in shown
        assert '"samkr-edge[quantize,report]"' in shown
    assert not (tmp_path / "out").exists()
