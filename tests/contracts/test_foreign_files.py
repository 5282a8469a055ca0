"""Under a name that the user did not give, a command replaces its own files and nobody else's."""

import json
import zipfile
from pathlib import Path

import pytest

from benchmarks.report.page import is_report
from benchmarks.schema import is_results
from samkr_edge.cli import run
from samkr_edge.deploy.bundle import MANIFEST, is_bundle
from samkr_edge.errors import SamkrError
from samkr_edge.passport import own_place


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("build m.onnx --target cpu", "m.cpu.onnx"),
        ("build m.samkr --target cpu", "m.cpu.onnx"),
        ("bundle m.onnx", "m.samkr"),
        ("report results.json", "report.html"),
        ("bench m.onnx --out .", "results.json"),
        ("bench m.onnx --out . --report", "report.html"),
        ("search m.pt --data people", "found.yaml"),
        ("sensitivity m.pt --data people --out .", "sensitivity.json"),
        ("sensitivity m.pt --data people --out .", "sensitivity.svg"),
        # What a device sends back, before it is asked anything.
        ("build m.onnx --target cpu --on orin", "m.cpu.onnx"),
        ("build m.onnx --target jetson-orin-nano --on orin", "m.engine"),
        ("build m.onnx --target auto --on orin", "m.engine"),
        ("bench m.onnx --out . --on orin", "results.json"),
    ],
)
def test_a_file_of_other_origin_is_not_replaced(
    words: str,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("samkr_edge.deploy.bundle_cache.source_model", lambda path: path)
    Path(name).write_text("mine")
    assert run(words.split()) == 3
    told = capsys.readouterr().err
    assert "SE-D05" in told
    assert name in told
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {name: "mine"}


def test_a_built_model_is_known_by_its_passport(tmp_path: Path) -> None:
    engine = tmp_path / "m.engine"
    assert own_place(engine) == engine
    engine.write_bytes(b"by trtexec")
    with pytest.raises(SamkrError, match="other origin"):
        own_place(engine)
    (tmp_path / "m.engine.json").write_text("{}")
    assert own_place(engine) == engine


def test_bundles_results_and_pages_are_known_by_what_is_in_them(tmp_path: Path) -> None:
    file = tmp_path / "x"
    for known in (is_bundle, is_results, is_report):
        file.write_text("mine")
        assert not known(file)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(MANIFEST, "{}")
    assert is_bundle(file)
    file.write_text(json.dumps({"schema_version": 1, "models": []}))
    assert is_results(file)
    template = Path(__file__).parents[2] / "benchmarks" / "report" / "report.html.j2"
    file.write_bytes(template.read_bytes())
    assert is_report(file)
