"""AP of two splits or two protocols never looks like one number: in bench, sweep, gates and the report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from benchmarks.judge.regression import compare_runs
from benchmarks.judge.verdict import decide
from benchmarks.paper import TABLES, beside_the_paper, is_measured_alike
from benchmarks.report.overview import chosen, run_names
from benchmarks.report.page import write_report
from benchmarks.report.paper_tables import ours
from benchmarks.report.table import conditions
from benchmarks.schema import ModelResult, PaperResult, ProtocolFacts, Results, write_results
from benchmarks.sweep import models as sweep_models
from benchmarks.sweep.index import cell_files
from benchmarks.sweep.key import Pictures, cell_key
from benchmarks.sweep.models import make_models
from benchmarks.sweep.run import run_sweep
from benchmarks.sweep.suite import Cell, Entry, Suite, cells_of, read_suite
from samkr_edge.cli import run
from samkr_edge.cli.protocol import ProtocolName, Resize, protocol_of
from samkr_edge.errors import SamkrError
from samkr_edge.evaluation.protocol import PAPER, Protocol, notes_of
from samkr_edge.evaluation.rescoring import PoseFeatures, RescoringNetwork, save_rescoring
from samkr_edge.model_card import ModelCard
from samkr_edge.pose.decode_settings import DecodeSettings
from samkr_edge.pose.skeleton import COCO17
from samkr_edge.pose_model import OPENERS
from samkr_edge.runtime.runner import Runner

RowMaker = Callable[..., ModelResult]
RunMaker = Callable[..., Results]
ModelMaker = Callable[..., Path]

FLIPPED = ProtocolFacts(name="paper", flip=True, resize="paper")
RESCORED = FLIPPED.model_copy(update={"scales": (0.5, 1.0, 2.0), "rescoring_sha256": "a" * 64})


def changed(results: Results, protocol: ProtocolFacts = FLIPPED, **dataset: Any) -> Results:
    assert results.dataset is not None
    facts = results.dataset.model_copy(update=dataset)
    return results.model_copy(update={"protocol": protocol, "dataset": facts})


@pytest.mark.parametrize(
    ("protocol", "split", "label"),
    [
        (ProtocolFacts(), "val", "val, deployment"),
        (FLIPPED, "val", "val, flip + paper resize"),
        (RESCORED, "test", "test, flip + paper resize, scales 0.5 1 2, rescored"),
        (ProtocolFacts(flip=True, match=True), "val", "val, flip, match"),
    ],
)
def test_a_label_says_split_and_protocol(
    three_models: list[ModelResult], run_of: RunMaker, protocol: ProtocolFacts, split: str, label: str
) -> None:
    results = changed(run_of(three_models), protocol, split=split)
    assert results.ap_label == label
    assert f"AP on 400 images of people/{label};" in conditions(results) + ";"
    assert run_of(three_models, images=None).ap_label == ""


def test_results_from_before_protocols_were_recorded_are_deployment(
    three_models: list[ModelResult], run_of: RunMaker
) -> None:
    content = run_of(three_models).model_dump(mode="json")
    del content["protocol"]
    assert Results.model_validate(content).protocol == ProtocolFacts()


def test_a_gate_does_not_compare_ap_of_two_protocols(
    three_models: list[ModelResult], run_of: RunMaker
) -> None:
    run_ = run_of(three_models)
    (one,) = compare_runs(changed(run_), run_, 1.0).uncompared
    assert str(one) == "accuracy   AP by deployment then, by flip + paper resize now"
    other = RESCORED.model_copy(update={"rescoring_sha256": "b" * 64})
    (one,) = compare_runs(changed(run_, other), changed(run_, RESCORED), 1.0).uncompared
    assert "with another rescoring network" in one.why
    assert compare_runs(changed(run_), changed(run_), 1.0).uncompared == []


def test_models_of_two_protocols_are_not_chosen_between_and_each_row_says_its_own(
    three_models: list[ModelResult], run_of: RunMaker, tmp_path: Path
) -> None:
    runs = [run_of(three_models), changed(run_of(three_models))]
    assert run_names(runs) == ["val, deployment", "val, flip + paper resize"]
    nothing = chosen([("a", runs[0]), ("b", runs[1])], 20.0, None)
    assert nothing is not None
    assert (nothing.name, "different protocols" in nothing.sentence) == (None, True)
    pages = []
    for pair in (runs, [runs[1], runs[1]]):
        for number, results in enumerate(pair):
            write_results(tmp_path / f"{number}.json", results)
        write_report([tmp_path / "0.json", tmp_path / "1.json"], tmp_path / "page.html")
        pages.append((tmp_path / "page.html").read_text(encoding="utf-8"))
    mixed, same = pages
    assert 'class="plot' not in mixed
    table = mixed[mixed.index('id="all"') : mixed.index("<article")]
    assert table.count('<small class="of">val, deployment</small>') == 3
    assert table.count('<small class="of">val, flip + paper resize</small>') == 3
    assert 'AP<span class="of">val, deployment</span>' in mixed
    assert 'class="plot' in same
    table = same[same.index('id="all"') : same.index("<article")]
    assert table.count('AP<span class="of">val, flip + paper resize</span>') == 1
    assert "<small" not in table


def test_the_papers_ap_stands_beside_ours_only_with_what_each_is_of(
    row: RowMaker, run_of: RunMaker, tmp_path: Path
) -> None:
    paper = PaperResult(ap=68.9, where="COCO val2017, Table 3")
    model = row("FP32", 24, 68.0, network="samkr_w32", paper=paper)
    assert beside_the_paper(run_of([model])) == (
        "COCO val2017, Table 3; ours: people/val, deployment, which is not measured alike"
    )
    alike = changed(run_of([model]), name="coco", images=5000)
    assert beside_the_paper(alike) == "COCO val2017, Table 3; ours: coco/val, flip + paper resize"
    write_results(tmp_path / "results.json", run_of([model]))
    write_report([tmp_path], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "ours: people/val, deployment, which is not measured alike. Quoted" in page


@pytest.mark.parametrize(
    ("protocol", "dataset", "alike"),
    [
        (FLIPPED, {"images": 5000}, True),
        (FLIPPED.model_copy(update={"rescoring_sha256": "a" * 64}), {"images": 5000}, True),
        (RESCORED, {"images": 5000}, False),
        (ProtocolFacts(), {"images": 5000}, False),
        (FLIPPED, {"images": 400}, False),
        (FLIPPED, {"images": 8000, "split": "test", "skeleton": "crowdpose14"}, True),
        (FLIPPED, {"images": 2000, "split": "val", "skeleton": "crowdpose14"}, False),
    ],
)
def test_what_is_measured_as_published_ap_is(
    row: RowMaker, run_of: RunMaker, protocol: ProtocolFacts, dataset: dict[str, Any], alike: bool
) -> None:
    results = changed(run_of([row("FP32", 24, 68.0)]), protocol, **dataset)
    assert results.dataset is not None
    assert is_measured_alike(results, results.dataset.split) == alike
    assert not is_measured_alike(results, "test-dev")


def test_a_papers_row_names_ours_first_that_was_measured_like_it(row: RowMaker, run_of: RunMaker) -> None:
    deployed = changed(run_of([row("FP32", 24, 66.0, network="samkr_w32")]), ProtocolFacts(), images=5000)
    alike = changed(run_of([row("FP32", 24, 68.0, network="samkr_w32")]), images=5000)
    runs = [("deployed", deployed), ("alike", alike)]

    def shown(table: int) -> list[tuple[str, str, bool]]:
        lines = [line for line in TABLES[table - 1].rows if "samkr_w32" in line.networks]
        return [(mine.what, mine.cells[0], mine.alike) for mine in ours(TABLES[table - 1], lines[0], runs)]

    for table in (1, 2, 3):
        assert shown(table) == [
            ("FP32, 5000 images of people/val, flip + paper resize", "68.0", True),
            ("FP32, 5000 images of people/val, deployment", "66.0", False),
        ]
    assert [mine[2] for mine in shown(4)] == [False, False]  # of test-dev


def test_a_simulated_precision_has_no_time_and_none_is_recommended(row: RowMaker, run_of: RunMaker) -> None:
    fp32 = row("FP32", 24, 68.0, kind="checkpoint", network="samkr_w48")
    simulated = row(
        "INT8 PTQ", 90, 67.6, (-0.4, -0.6, -0.2), (0.3, 0.2, 0.4), kind="checkpoint", network="samkr_w48"
    )
    verdict = decide([fp32, simulated], images=400)
    assert verdict.recommended is None
    assert verdict.sentence.startswith("INT8 (PTQ) against FP32: loses 0.4 AP [−0.6, −0.2]; ")
    assert "computes INT8 and FP8 in floats" in verdict.notes[0]
    built = row("INT8 PTQ", 12, 67.6, (-0.4, -0.6, -0.2), (1.9, 1.8, 2.0)).model_copy(
        update={"name": "built"}
    )
    assert decide([fp32, simulated, built], images=400).recommended == "built"
    times = TABLES[5]
    (line,) = ours(times, times.rows[2], [("here", run_of([fp32, simulated]))])
    assert line.what == "FP32, here"
    assert ours(times, times.rows[2], [("here", changed(run_of([fp32, simulated])))]) == []


@pytest.mark.parametrize(
    ("training", "protocol", "count"),
    [
        ({"chosen": "best by validation"}, PAPER, 1),
        ({"chosen": "best by validation"}, Protocol(), 0),
        ({"step": 10}, PAPER, 0),
        ("by hand", PAPER, 0),
    ],
)
def test_papers_report_the_last_epoch(training: Any, protocol: Protocol, count: int) -> None:
    card = ModelCard("samkr_w32", COCO17, (512, 512)).with_provenance(training=training)
    notes = notes_of(card, protocol)
    assert len(notes) == count
    assert all("final.pt" in note for note in notes)


# Suites


def entry(**more: Any) -> Entry:
    return Entry.model_validate({"name": "w32", "network": "samkr_w32", "checkpoint": "w32.pt", **more})


def suite_of(*entries: Entry, **more: Any) -> Suite:
    return Suite.model_validate({"name": "mine", "why": "a test", "models": entries, **more})


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"scales": [0.5, 1]}, "need protocol: paper"),
        ({"rescore": "r.npz"}, "need protocol: paper"),
        ({"protocol": "paper", "checkpoint": None}, "random weights have no AP"),
        ({"protocol": "paper", "sizes": ["64x64"]}, "so it takes no sizes"),
        ({"protocol": "paper", "scales": [0.5, 2]}, "cannot be evaluated: 0.5, 2.0"),
        ({"protocol": "dekr"}, "deployment"),
    ],
)
def test_an_entry_whose_protocol_cannot_be_followed_is_no_suite(more: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        entry(**more)


def test_a_cell_says_split_and_protocol_where_they_are_not_the_usual() -> None:
    usual, other = cells_of(
        suite_of(
            entry(data="coco"),
            entry(data="crowdpose", split="test", protocol="paper", scales=[0.5, 1, 2], rescore="r.npz"),
            targets=("cpu",),
        )
    )
    assert (usual.label, usual.slug, usual.split) == ("w32, cpu", "w32-cpu-b1-t1", "val")
    assert other.label == "w32, as-is, test, flip + paper resize, scales 0.5 1 2, rescored"
    assert "test" in other.slug
    assert other.slug.isascii()
    assert " " not in other.slug
    (cell,) = cells_of(suite_of(entry(data="crowdpose"), split="test"))
    assert cell.label == "w32, cpu, test"


def test_a_cell_of_another_protocol_split_or_rescoring_file_is_another(tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("w32.pt", "a.npz", "b.npz")}
    for name, file in files.items():
        file.write_text(name)

    def key(anyway: bool = False, **more: Any) -> str:
        suite = suite_of(entry(checkpoint=files["w32.pt"], **more), targets=("as-is",), anyway=anyway)
        return cell_key(suite, cells_of(suite)[0], Pictures())

    keys = [
        key(),
        key(anyway=True),
        key(split="test"),
        key(protocol="paper"),
        key(protocol="paper", scales=[1, 2]),
        key(protocol="paper", rescore=files["a.npz"]),
        key(protocol="paper", rescore=files["b.npz"]),
    ]
    assert len(set(keys)) == len(keys)


def test_the_papers_protocol_measures_checkpoints_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def made(words: list[str], output: Path, origin: str) -> None:
        commands.append(words)
        output.write_text("quantized")

    monkeypatch.setattr(sweep_models, "run_command", made)
    weights = tmp_path / "w32.pt"
    weights.write_text("weights")
    suite = suite_of(entry(checkpoint=weights, protocol="paper", data=tmp_path))
    (cell,) = cells_of(suite)
    assert make_models(suite, cell, tmp_path, Pictures()) == [weights, tmp_path / "w32-int8.pt"]
    assert [words[0] for words in commands] == ["quantize"]


def states(suite: Suite, out: Path) -> list[tuple[str, str]]:
    def quietly(*_: object, **__: object) -> Any:
        raise AssertionError("nothing is measured")

    return [(outcome.state, outcome.note) for outcome in run_sweep(suite, out, quietly, dry_run=True)]


def test_a_cell_waits_for_its_rescoring_file_and_its_data(tmp_path: Path) -> None:
    (tmp_path / "w32.pt").write_text("weights")
    there = {"checkpoint": tmp_path / "w32.pt", "protocol": "paper"}
    without_file = entry(**there, data=tmp_path, rescore=tmp_path / "r.npz")
    assert states(suite_of(without_file, entry(**there)), tmp_path) == [
        ("skipped", f"there is no {tmp_path / 'r.npz'}"),
        ("skipped", "the paper's protocol measures AP, and there is no data for it"),
    ]


def test_the_papers_suite_has_the_rows_of_its_tables_each_on_the_tables_split() -> None:
    cells = cells_of(read_suite("paper"))

    def networks(split: str, data: str) -> set[str]:
        return {
            str(cell.entry.network)
            for cell in cells
            if (cell.split, str(cell.entry.data), cell.entry.protocol) == (split, data, "paper")
        }

    def missing(tables: tuple[int, ...], found: set[str]) -> list[str]:
        rows = [line for number in tables for line in TABLES[number - 1].rows if line.networks]
        return [line.cells[0] for line in rows if not found & set(line.networks)]

    assert missing((1, 2, 3), networks("val", "data/coco")) == []
    assert missing((5,), networks("test", "data/crowdpose")) == []
    timed = {cell.entry.network for cell in cells if cell.entry.protocol == "deployment"}
    assert timed == {"swahr_w48", "dekr_w48", "samkr_w48"}
    assert all(cell.entry.precisions == ("fp32", "int8") for cell in cells)


# What is measured


class AnySize(Runner):
    """Behind the name of a checkpoint: the network of ``dots`` on images of any size, in ONNX Runtime."""

    kind = "checkpoint"

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime

        self.card = ModelCard("samkr_tiny", COCO17, (128, 128)).with_provenance(
            training={"chosen": "best by validation"}
        )
        self._session = onnxruntime.InferenceSession(path.read_bytes())

    def run(self, batch: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(self._session.run(None, {"image": batch}))

    def close(self) -> None: ...


@pytest.fixture
def checkpoints(dot_model: ModelMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Two that are 1 and 4 pixels off."""
    monkeypatch.setitem(OPENERS, ".pt", f"{__name__}:AnySize")
    return (
        dot_model(tmp_path / "a.pt", error=1.0, any_size=True),
        dot_model(tmp_path / "b.pt", error=4.0, any_size=True),
    )


def printed(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    capsys.readouterr()
    assert run([*map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_bench_by_the_papers_protocol_has_the_ap_of_eval(
    checkpoints: tuple[Path, Path], dots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ("--data", dots, "--limit", 4)
    quick = ("--rounds", 3, "--no-memory", "--samples", 0, "--out", tmp_path / "out")
    deployed = printed(capsys, "bench", *checkpoints, *common, *quick)
    by_paper = printed(capsys, "bench", *checkpoints, *common, *quick, "--protocol", "paper")
    again = printed(capsys, "bench", *checkpoints, *common, *quick, "--protocol", "paper")
    for results, options in ((deployed, ()), (by_paper, ("--protocol", "paper"))):
        found = [printed(capsys, "eval", path, *common, *options) for path in checkpoints]
        assert [model["accuracy"] for model in results["models"]] == [one["scores"] for one in found]
        assert any("last epoch" in note for note in found[0]["notes"]) == bool(options)
    assert deployed["models"][0]["accuracy"] != by_paper["models"][0]["accuracy"]
    assert [model["accuracy_reused"] for model in by_paper["models"]] == [False, False]
    assert [model["accuracy_reused"] for model in again["models"]] == [True, True]
    assert deployed["protocol"]["name"] == "deployment"
    assert (by_paper["protocol"]["name"], by_paper["protocol"]["flip"]) == ("paper", True)
    assert any("papers report the last epoch" in note for note in by_paper["notes"])
    assert any("times are of one plain pass, as deployed" in note for note in by_paper["notes"])
    assert not any("paper" in note for note in deployed["notes"])


def test_a_checkpoint_is_measured_by_the_papers_protocol(
    dots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    from training.checkpoint import save_checkpoint, untrained_checkpoint

    untrained = untrained_checkpoint("samkr_tiny")
    decode = DecodeSettings(center_threshold=-1e9, max_people=2)
    untrained.card = replace(untrained.card, input_size=(64, 64), decode=decode)
    save_checkpoint(tmp_path / "net.pt", untrained)
    options = ("--limit", 2, "--rounds", 2, "--no-memory", "--protocol", "paper", "--scales", "0.5,1")
    results = printed(capsys, "bench", tmp_path / "net.pt", "--data", dots, *options)
    assert results["protocol"]["scales"] == [0.5, 1.0]
    (model,) = results["models"]
    assert (model["kind"], model["latency"]["frames"]) == ("checkpoint", 2)
    assert 0 <= model["accuracy"]["ap"] < 5


def test_what_cannot_follow_the_protocol_is_refused_before_anything_is_measured(
    pair: tuple[Path, Path],
    dots: Path,
    checkpoints: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("benchmarks.bench._time", None)
    monkeypatch.setattr("benchmarks.bench._memory", None)
    assert run(["bench", str(checkpoints[0]), str(pair[0]), "--data", str(dots), "--protocol", "paper"]) == 2
    assert "SE-U75: fp32.onnx takes one size of images" in capsys.readouterr().err
    monkeypatch.setattr("samkr_edge.evaluation.ap.predict_dataset", None)
    out = str(pair[0].with_name("rescore.npz"))
    for words in (["eval", str(pair[0])], ["rescore", str(pair[0]), "--split", "val", "-o", out]):
        assert run([*words, "--data", str(dots), "--protocol", "paper"]) == 2
        assert "SE-U75: fp32.onnx takes one size of images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--scales", "0.5,1"), "SE-U76"),
        (("--rescore", "r.npz"), "SE-U76"),
        (("--protocol", "paper", "--scales", "0.5,2"), "SE-U81"),
        (("--protocol", "paper", "--scales", "1,nan"), "SE-U81"),
        (("--protocol", "paper", "--scales", "1,inf"), "SE-U81"),
        (("--protocol", "paper", "--scales", "1,100"), "SE-U81"),
        (("--protocol", "paper", "--scales", "0.1,1"), "SE-U81"),
        (("--protocol", "paper"), "SE-U61"),
    ],
)
def test_protocols_that_cannot_be_are_usage_errors(
    words: tuple[str, ...], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["bench", "any.pt", *words]) == 2
    assert code in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        (None, {}, Protocol()),
        ("deployment", {"scales": "1", "resize": "fit"}, Protocol()),
        ("paper", {}, PAPER),
        ("paper", {"flip": True, "resize": "paper", "match": True}, replace(PAPER, match=True)),
        ("paper", {"scales": "0.5,1"}, replace(PAPER, scales=(0.5, 1.0))),
        (None, {"flip": True, "resize": "paper"}, PAPER),
        ("paper", {"resize": "fit"}, "--resize fit"),
        ("deployment", {"flip": True, "resize": "paper"}, "--flip and --resize paper"),
        ("deployment", {"scales": "0.5,1"}, "without --scales 0.5,1"),
        ("deployment", {"rescore": Path("r.npz")}, "without --rescore"),
    ],
)
def test_a_named_protocol_is_short_for_its_options_and_contradicts_others(
    name: str | None, options: dict[str, Any], expected: Protocol | str
) -> None:
    named = None if name is None else ProtocolName(name)
    if "resize" in options:
        options = {**options, "resize": Resize(options["resize"])}
    if isinstance(expected, Protocol):
        assert protocol_of(named, **options) == expected
        return
    with pytest.raises(SamkrError, match=expected) as caught:
        protocol_of(named, **options)
    assert caught.value.code == "SE-U76"


def test_a_sweep_measures_each_entry_by_its_own_protocol_and_rescoring(
    checkpoints: tuple[Path, Path], dots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    features = PoseFeatures.of(COCO17)
    inputs = 3 * len(features.links) + len(COCO17)
    shapes = {"l1": (4, inputs), "l2": (4, 4), "l3": (1, 4)}
    weights = {f"{layer}.weight": np.full(shape, 0.01, np.float32) for layer, shape in shapes.items()}
    weights |= {f"{layer}.bias": np.ones(shape[0], np.float32) for layer, shape in shapes.items()}
    save_rescoring(tmp_path / "r.npz", RescoringNetwork(features, weights))
    data = tmp_path / "data"
    shutil.copytree(dots, data)
    truth = data / "annotations" / "person_keypoints_val2017.json"
    shutil.copy(truth, truth.with_name("person_keypoints_test2017.json"))
    shutil.copytree(data / "images" / "val2017", data / "images" / "test2017")
    files = {"files": checkpoints[:1], "data": data}
    suite = suite_of(
        Entry.model_validate({"name": "deployed", **files}),
        Entry.model_validate(
            {"name": "papers", **files, "split": "test", "protocol": "paper", "rescore": tmp_path / "r.npz"}
        ),
        limit=3,
        seconds=0.05,
        memory=False,
        targets=("as-is",),
    )
    file = tmp_path / "suite.yaml"
    file.write_text(suite.model_dump_json())
    assert run(["sweep", str(file), "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr().out
    assert "AP of" in shown
    found = [Results.model_validate_json(path.read_text()) for path in cell_files(tmp_path / "out")]
    labels = [results.ap_label for results in found]
    assert labels == ["val, deployment", "test, flip + paper resize, rescored"]
    assert all(label in shown for label in labels)


def test_cells_need_no_data_to_be_named() -> None:
    cell = Cell(entry(), "val", None, "cpu", 1, 1, None)
    assert (cell.label, cell.axes()["protocol"]) == ("w32, cpu", "deployment")
