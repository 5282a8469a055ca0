"""A file of every kind that a command reads, empty, of junk, of text or a folder: one of our errors, never SE-X01.

Files cut in half are tested with the code that reads each kind.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from samkr_edge.cli import run

ROOT = Path(__file__).parents[2]

pytest.importorskip("modelopt", reason="some of the commands train and quantize")

DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: path.write_bytes(b""),
    "junk": lambda path: path.write_bytes(bytes(range(256)) * 8),
    "text": lambda path: path.write_text("hello: [world"),
    "a folder": lambda path: path.mkdir(),
    "a picture": lambda path: path.write_bytes(
        cv2.imencode(".png", np.zeros((64, 64, 3), np.uint8))[1].tobytes()
    ),
    "results": lambda path: path.write_bytes((ROOT / "benchmarks/results/demo.json").read_bytes()),
    "nested without end": lambda path: path.write_bytes(b"[" * 100_000),
}
# File name -> command lines that read it, and the exit codes that fit (3 data, 4 artefact, 5 build, 2 usage).
LINES = {
    "bad.pt": (
        (4,),
        "predict FILE IMAGE -o OUT",
        "export FILE -o OUT.onnx",
        "eval FILE --data DATA",
        "quantize FILE --dry-run",
        "quantize FILE --data DATA -o OUT.pt",
        "qat FILE --data DATA -o OUT.pt",
        "bench FILE",
        "sensitivity FILE --data DATA",
        "search FILE --data DATA --max-drop 1 -o OUT.yaml",
        "ledger FILE MODEL --data DATA",
        "rescore FILE --data DATA -o OUT.npz",
    ),
    "bad.pth": ((4,), "import FILE --model samkr_w32 -o OUT.pt"),
    "bad.onnx": (
        (2, 4, 5),
        "predict FILE IMAGE -o OUT",
        "build FILE --target cpu -o OUT.cpu.onnx",
        "build FILE --target rtx-4090 --tensorrt 10.3.0 --dry-run",
        "inspect FILE",
        "bundle FILE -o OUT.samkr",
    ),
    "bad.engine": ((3, 4, 7), "predict FILE IMAGE -o OUT", "inspect FILE"),
    "x.engine.layers.json": ((4, 5), "inspect ENGINE"),
    "bad.samkr": ((4,), "predict FILE IMAGE -o OUT", "inspect FILE", "build FILE --target cpu -o OUT.onnx"),
    "results.json": ((3, 4), "report FILE -o OUT.html", "bench MODEL --baseline FILE"),
    "recipe.yaml": ((2, 4), "train FILE --data DATA --out OUT"),
    "policy.yaml": ((2, 4), "quantize samkr_tiny --untrained --dry-run --policy FILE"),
    "suite.yaml": ((2, 4), "sweep FILE --out OUT"),
    "bad.jpg": ((2, 3), "predict MODEL FILE -o OUT"),
    "bad.mp4": ((2, 3), "predict MODEL FILE -o OUT"),
    "person_keypoints_val2017.json": ((3,), "data check FOLDER", "eval MODEL --data FOLDER"),
    # Beside a model, beside annotations, in the folder of a run: read without being named on the command line.
    "whole.cpu.onnx.json": ((4,), "predict BUILT IMAGE -o OUT", "inspect BUILT"),
    "skeleton.yaml": ((3,), "data check FOLDER", "eval MODEL --data FOLDER"),
    "last.pt": ((4,), "train smoke --data DATA --out PLACE --resume"),
    "rescore.npz": ((4,), "eval MODEL --data DATA --rescore FILE"),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A model, an image and a data folder that are whole."""
    folder = tmp_path_factory.mktemp("good")
    assert run(["export", "samkr_tiny", "--untrained", "--size", "64x64", "-o", str(folder / "m.onnx")]) == 0
    assert run(["data", "synth", str(folder / "people"), "--train", "2", "--val", "2", "--size", "64"]) == 0
    cv2.imwrite(str(folder / "image.png"), np.zeros((64, 64, 3), np.uint8))
    return {
        "MODEL": str(folder / "m.onnx"),
        "IMAGE": str(folder / "image.png"),
        "DATA": str(folder / "people"),
    }


# What is no damage: a picture is read whatever it is called.
SOUND = {("results.json", "results"), ("bad.jpg", "a picture"), ("bad.mp4", "a picture")}


@pytest.mark.parametrize(
    ("name", "codes", "line", "damage"),
    [
        (name, codes, line, damage)
        for name, (codes, *lines) in LINES.items()
        for line in lines
        for damage in DAMAGES
        if (name, damage) not in SOUND
    ],
)
def test_a_damaged_file_is_one_clear_error(
    good: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    codes: tuple[int, ...],
    line: str,
    damage: str,
) -> None:
    file = tmp_path / "annotations" / name
    (tmp_path / "images").symlink_to(f"{good['DATA']}/images")  # whole, so that only the damage is found
    file.parent.mkdir()
    beside = {
        "whole.cpu.onnx": good["MODEL"],
        "person_keypoints_val2017.json": f"{good['DATA']}/annotations/person_keypoints_val2017.json",
    }
    for sound, source in beside.items():
        if sound != name:
            file.with_name(sound).symlink_to(source)
    DAMAGES[damage](file)
    words = {**good, "FILE": str(file), "OUT": str(tmp_path / "out"), "FOLDER": str(tmp_path)}
    words["ENGINE"] = words["FILE"].removesuffix(".layers.json")
    words |= {"BUILT": str(file.with_name("whole.cpu.onnx")), "PLACE": str(file.parent)}
    arguments = line.split()
    for placeholder, value in words.items():
        arguments = [argument.replace(placeholder, value) for argument in arguments]
    code = run(arguments)
    shown = capsys.readouterr().err
    assert code in codes, shown
    assert "error SE-" in shown
    assert "SE-X01" not in shown
    assert not list(tmp_path.glob("out*")), "something was written"


# Every option and argument that names a file or folder to read; MISSING is not there.
NAMED = (
    "data check MISSING",
    "data subset MISSING OUT --images 1",
    "data split MISSING OUT",
    "train MISSING.yaml --data DATA --out OUT",
    "train smoke --data MISSING --out OUT",
    "train smoke --data DATA --out OUT --set init=MISSING",
    "import MISSING --model samkr_tiny -o OUT.pt",
    "rescore MISSING --data DATA -o OUT.npz",
    "rescore MODEL --data MISSING -o OUT.npz",
    "quantize MISSING --data DATA -o OUT.pt",
    "quantize samkr_tiny --untrained --data MISSING -o OUT.pt",
    "quantize samkr_tiny --untrained --dry-run --policy MISSING.yaml",
    "qat MISSING --data DATA -o OUT.pt",
    "sensitivity MISSING --data DATA",
    "search MISSING --data DATA --max-drop 1 -o OUT.yaml",
    "ledger MISSING MODEL --data DATA",
    "export MISSING -o OUT.onnx",
    "build MISSING --target cpu -o OUT.cpu.onnx",
    "build MISSING --target rtx-4090 --tensorrt 10.3 --dry-run",
    "bundle MISSING -o OUT.samkr",
    "bundle MODEL --add MISSING -o OUT.samkr",
    "predict MISSING IMAGE -o OUT",
    "predict MODEL MISSING -o OUT",
    "eval MISSING --data DATA",
    "eval MODEL --data MISSING",
    "eval MODEL --data DATA --rescore MISSING",
    "bench MISSING",
    "bench MODEL --data MISSING",
    "bench MODEL --baseline MISSING",
    "sweep MISSING.yaml --out OUT",
    "report MISSING -o OUT.html",
    "report MISSING.json -o OUT.html",
    "report RESULTS --sensitivity MISSING.json -o OUT.html",
    "inspect MISSING",
    "inspect MISSING.engine",
    "inspect MISSING.samkr",
)


@pytest.mark.parametrize("line", NAMED)
def test_a_missing_file_is_one_error_in_every_command(
    good: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    words = {**good, "OUT": str(tmp_path / "out"), "MISSING": str(tmp_path / "missing")}
    words["RESULTS"] = str(ROOT / "benchmarks/results/demo.json")
    for placeholder, value in words.items():
        line = line.replace(placeholder, value)
    assert run(line.split()) == 4
    shown = capsys.readouterr().err
    assert "error SE-A23: there is no" in shown
    assert "missing" in shown
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["x.json", "x.textproto", "x"])
def test_an_export_is_onnx_whatever_its_file_is_called(tmp_path: Path, name: str) -> None:
    """The package onnx chooses a format by the name, where it may."""
    (tmp_path / name).write_text("{}")
    assert run(["export", "samkr_tiny", "--untrained", "--size", "64x64", "-o", str(tmp_path / name)]) == 0
    assert run(["inspect", str((tmp_path / name).rename(tmp_path / "x.onnx"))]) == 0
