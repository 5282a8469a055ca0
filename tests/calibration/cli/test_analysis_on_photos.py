"""`sensitivity`, `search` and `ledger` on pictures without labels: FP32 people are the reference, and that is said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import calibration.analysis.scoring
import calibration.analysis.start
from calibration.inputs import calibrating_and_judging, calibrating_half
from samkr_edge.cli import run
from samkr_edge.dataset.photos import Photo, Photos
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import sha256_of
from samkr_edge.pose.sure_person import SURE_PERSON
from training.data.rendered.dataset import SynthSettings, write_dataset
from training.data.rendered.scene import SceneSettings

Captured = pytest.CaptureFixture[str]
FEW = {"stem", "stage4 fuse", "offset transition"}


@pytest.fixture(autouse=True)
def quick_and_easily_sure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few rounds and groups; and the network of these tests is sure of nobody, so it need not be."""
    monkeypatch.setattr(calibration.analysis.scoring, "ROUNDS", 40)
    monkeypatch.setitem(SURE_PERSON, "offsets", 0.002)
    monkeypatch.setattr("samkr_edge.evaluation.against_reference.SURE_JOINT", 0.001)
    whole = calibration.analysis.start.group_modules
    monkeypatch.setattr(
        calibration.analysis.start,
        "group_modules",
        lambda names: {group: found for group, found in whole(names).items() if group.name in FEW},
    )


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 pictures of rendered people, none of which the network has seen."""
    root = tmp_path_factory.mktemp("others")
    scene = SceneSettings(size=64, people=(1, 2), person_height=(0.8, 0.98))
    write_dataset(root, SynthSettings(train=24, val=1, seed=5, scene=scene), processes=1)
    return root / "images" / "train2017"


@pytest.fixture
def album(scenes: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scenes, tmp_path / "album"))


def printed(arguments: list[str], capsys: Captured, code: int = 0) -> str:
    capsys.readouterr()
    assert run([*arguments, "--threads", "1"]) == code
    shown = capsys.readouterr()
    return " ".join((shown.out if code == 0 else shown.err).split())


def test_sensitivity_calibrates_on_some_pictures_and_judges_on_others(
    fp32: Path, album: Path, tmp_path: Path, capsys: Captured
) -> None:
    out = tmp_path / "s"
    command = [
        "sensitivity",
        str(fp32),
        "--photos",
        str(album),
        "--images",
        "8",
        "--limit",
        "6",
        "--bits",
        "3",
    ]
    told = printed([*command, "--out", str(out), "--seed", "3"], capsys)
    assert "AP against FP32" in told
    assert "95 % of the joints within" in told
    kept = json.loads((out / "sensitivity.json").read_text())
    assert kept["reference"]["sha256"] == sha256_of(fp32)
    assert kept["reference"]["people"] > 0
    assert (kept["photos"]["images"], kept["photos"]["seed"], kept["images"]) == (6, 3, 6)
    judged, calibrated = set(kept["photos"]["sha256"]), set(kept["calibration_sha256"])
    assert (len(judged), len(calibrated), judged & calibrated) == (6, 8, set())
    assert kept["fp32_ap"] == pytest.approx(100)
    assert all(
        group["alone"]["followed"]["people"] == kept["reference"]["people"] for group in kept["groups"]
    )
    assert "AP against FP32 of small" in (out / "sensitivity.svg").read_text()
    assert str(tmp_path) not in (out / "sensitivity.json").read_text()
    before = (out / "trials.json").read_text()
    again = printed([*command, "--out", str(out), "--seed", "3"], capsys)
    assert again.splitlines()[0] == told.splitlines()[0]
    assert (out / "trials.json").read_text() == before  # nothing was measured twice


@pytest.mark.parametrize(
    ("found", "images", "limit", "parts"),
    [(30, 12, 18, (12, 18)), (20, 12, 18, (10, 10)), (12, 99, 18, (8, 4)), (60, 128, 24, (30, 24))],
)
def test_few_pictures_are_shared_by_halves(
    found: int, images: int, limit: int, parts: tuple[int, int]
) -> None:
    photos = pictures(found, asked=images + limit)
    calibrating, judging = calibrating_and_judging(photos, images)
    assert (len(calibrating), len(judging)) == parts
    assert (*calibrating.chosen, *judging.chosen) == photos.chosen[: sum(parts)]
    assert calibrating_half(calibrating) == calibrating  # it is not halved again


@pytest.mark.parametrize("found", [5, 9])
def test_pictures_that_leave_none_to_judge_on_are_too_few(found: int) -> None:
    with pytest.raises(SamkrError) as caught:
        calibrating_and_judging(pictures(found, asked=30), 12)
    assert caught.value.code == "SE-D43"
    assert f"{found} pictures" in str(caught.value.facts["found"])


def pictures(count: int, asked: int) -> Photos:
    chosen = (Photo(Path(f"{n}.jpg"), f"{n}.jpg", f"{n:064x}", f"{n:064x}", 9, 9) for n in range(count))
    return Photos(tuple(chosen), asked, 0)


def test_search_keeps_joints_within_pixels(fp32: Path, album: Path, tmp_path: Path, capsys: Captured) -> None:
    out = tmp_path / "found.yaml"
    command = ["search", str(fp32), "--photos", str(album), "--images", "8", "--limit", "3", "-o", str(out)]
    found = json.loads(printed([*command, "--max-moved", "64", "--json"], capsys))
    assert (found["max_moved"], found["max_drop"], found["within_budget"]) == (64, None, True)
    assert found["steps"][0]["trial"]["followed"]["reach_px"] <= 64
    assert found["final_followed"]["people"] == found["reference"]["people"]
    assert "the budget of 64 px holds" in " ".join(out.read_text().split())
    told = printed([*command, "--bits", "2", "--max-moved", "0", "--min-int8", "90"], capsys, 6)
    assert "no policy keeps the budget of 0 px with at least 90 % of the work in INT8" in told
    assert "--photos" in told.partition("fix:")[2]


def test_ap_against_fp32_can_be_the_budget_too(
    fp32: Path, album: Path, tmp_path: Path, capsys: Captured
) -> None:
    command = [
        "search",
        str(fp32),
        "--photos",
        str(album),
        "--images",
        "8",
        "--limit",
        "6",
        "--max-drop",
        "90",
    ]
    told = printed([*command, "-o", str(tmp_path / "found.yaml")], capsys)
    assert "AP against FP32 on 6 images, budget 90 AP against FP32" in told


def test_pictures_that_the_network_was_trained_on_are_refused(
    fp32: Path, people: Path, tmp_path: Path, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SURE_PERSON, "offsets", 0.0001)
    seen = str(people / "images" / "train2017")
    command = ["sensitivity", str(fp32), "--photos", seen, "--images", "8", "--out", str(tmp_path / "s")]
    assert "SE-D45" in printed(command, capsys, 3)
    # Nor is it taken for AP then, whatever else it is.
    told = printed([*command, "--limit", "4", "--bits", "3", "--anyway"], capsys)
    assert "AP against FP32" in told
    assert "AP against FP32 won or lost<" in (tmp_path / "s" / "sensitivity.svg").read_text()


def test_a_budget_in_pixels_needs_a_reference(
    fp32: Path, people: Path, tmp_path: Path, capsys: Captured
) -> None:
    command = ["search", str(fp32), "--data", str(people), "--max-moved", "2", "-o", str(tmp_path / "f.yaml")]
    assert "SE-U12" in printed(command, capsys, 2)


@pytest.mark.parametrize("name", ["found", "default", "found.txt"])
def test_a_policy_that_no_command_would_read_is_not_searched_for(
    name: str, fp32: Path, album: Path, tmp_path: Path, capsys: Captured
) -> None:
    told = printed(["search", str(fp32), "--photos", str(album), "-o", str(tmp_path / name)], capsys, 2)
    assert "ends in .yaml" in told
    assert "choosing photos" not in told


@pytest.mark.parametrize("command", ["sensitivity", "search", "ledger"])
def test_neither_pictures_nor_labels_is_an_error(
    command: str, fp32: Path, tmp_path: Path, capsys: Captured
) -> None:
    models = [str(fp32), str(shutil.copy(fp32, tmp_path / "copy.pt"))][: 2 if command == "ledger" else 1]
    out = ["--out", str(tmp_path / "out.yaml")]
    assert "SE-U06" in printed([command, *models, *out], capsys, 2)


def test_a_ledger_leaves_out_what_calibrated_its_models(
    fp32: Path, album: Path, tmp_path: Path, capsys: Captured
) -> None:
    ptq = tmp_path / "ptq.pt"
    printed(["quantize", str(fp32), "--photos", str(album), "--images", "16", "-o", str(ptq)], capsys)
    told = printed(["ledger", str(fp32), str(ptq), "--photos", str(album)], capsys)
    assert "8 images; AP against FP32; differences to `after`" in told
    found = json.loads(printed(["ledger", str(fp32), str(ptq), "--photos", str(album), "--json"], capsys))
    assert found["photos"]["images"] == 8
    assert found["reference"]["model"] == fp32.name
    float_stage, *_, int8 = found["stages"]
    assert float_stage["followed"] | {"people": 0} == {"people": 0, "lost": 0, "new": 0, "reach_px": 0}
    assert int8["followed"]["people"] == found["reference"]["people"]
    assert "SE-U09" in printed(["ledger", str(ptq), str(fp32), "--photos", str(album)], capsys, 2)
