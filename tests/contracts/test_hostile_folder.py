"""A user's own numpy.py, random.py or training/ in the working folder is neither executed nor taken for ours.

For real: every way in which one of our processes is started, from inside such a folder.
"""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from benchmarks.measure.peak_memory import measure_memory
from benchmarks.sweep.models import run_command
from samkr_edge import child_process
from samkr_edge.cli.steps import CommandStep, StepLog, run_steps
from samkr_edge.deploy import bundle_cache
from samkr_edge.errors import SamkrError
from samkr_edge.packages import PACKAGES, resolve

sys.path.insert(0, str(Path(__file__).parents[1] / "samkr_edge"))

from red_dot import write_red_dot_model

ROOT = Path(__file__).parents[2]

MODULES = ("numpy", "random", "types", "typing", "json", "typer", "cv2", "torch", "training", "targets")
IN_FOLDERS = ("calibration", "benchmarks")


class Hostile:
    """A folder of modules that say so when they are executed, and fail."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for place in (*(f"{name}.py" for name in MODULES), *(f"{name}/__init__.py" for name in IN_FOLDERS)):
            file = path / place
            file.parent.mkdir(parents=True, exist_ok=True)
            marker = repr(str(path / "executed"))
            file.write_text(
                f"with open({marker}, 'a') as f: f.write(__file__ + ' ')\nraise RuntimeError('hostile')\n"
            )

    @property
    def executed(self) -> str:
        marker = self.path / "executed"
        return marker.read_text() if marker.exists() else ""


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hostile:
    folder = Hostile(tmp_path / "hostile")
    monkeypatch.chdir(folder.path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_red_dot_model(tmp_path_factory.mktemp("model") / "dot.onnx")


def ran(command: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment}
    )


def console_script(folder: Path) -> Path:
    """The `samkr-edge` script as an installer writes it."""
    script = folder / "samkr-edge"
    script.write_text("import sys\nfrom samkr_edge.launch import main\nsys.exit(main())\n")
    return script


# Every process of ours.


def test_a_command_and_its_arguments(hostile: Hostile) -> None:
    done = ran(child_process.command("--version"))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("samkr-edge ")
    wrong = ran(child_process.command("targets", "--no-such"))
    assert wrong.returncode == 2
    assert "usage      samkr-edge targets" in wrong.stderr
    assert hostile.executed == ""


def test_the_working_folder_named_in_pythonpath_is_left_too(hostile: Hostile) -> None:
    # What `export PYTHONPATH=$PYTHONPATH:/more` makes of an empty variable. Without `types`: the start of Python
    # itself and of `runpy` imports that, and from PYTHONPATH before any code of ours runs.
    (hostile.path / "types.py").unlink()
    for command in (child_process.command("targets"), [sys.executable, "-m", "samkr_edge", "targets"]):
        done = ran(command, PYTHONPATH=f":{hostile.path}", COLUMNS="120")
        assert done.returncode == 0, done.stderr
        assert "jetson" in done.stdout
    assert hostile.executed == ""


def test_the_script_leaves_it_before_more_is_imported(hostile: Hostile, tmp_path: Path) -> None:
    # The start of Python itself imports `types` from PYTHONPATH.
    script = console_script(tmp_path)
    (hostile.path / "types.py").unlink()
    done = ran([sys.executable, str(script), "targets"], PYTHONPATH=f":{ROOT}", COLUMNS="120")
    assert done.returncode == 0, done.stderr
    assert "jetson" in done.stdout
    assert hostile.executed == ""


def test_the_code_beside_the_launcher_runs_whatever_else_is_found(tmp_path: Path) -> None:
    (tmp_path / "samkr_edge").mkdir()
    (tmp_path / "samkr_edge" / "__init__.py").write_text("raise RuntimeError('another checkout')")
    text = "import samkr_edge; print(samkr_edge.__file__)"
    for path in (str(tmp_path), ""):  # another one is found; without site-packages none is
        command = [sys.executable, "-S", *child_process.code(text)[1:]]
        assert ran(command, PYTHONPATH=path).stdout.strip() == str(ROOT / "samkr_edge" / "__init__.py")


def test_what_a_user_types_after_python(hostile: Hostile) -> None:
    # `python -m` runs `runpy` with the working folder on the path, and that imports `types` (and `warnings`, ...).
    (hostile.path / "types.py").unlink()
    done = ran([sys.executable, "-m", "samkr_edge", "bench", "--help"])
    assert done.returncode == 0, done.stderr
    assert "Usage: samkr-edge bench" in done.stdout
    assert hostile.executed == ""


def test_the_memory_measurement(hostile: Hostile, model: Path) -> None:
    assert measure_memory(model, 1).peak > 20
    assert hostile.executed == ""


def test_a_step_of_the_demo(hostile: Hostile, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    seconds = run_steps([CommandStep("profiles", ("targets",))], StepLog(tmp_path / "log.json"))
    assert len(seconds) == 1
    assert "jetson" in capfd.readouterr().out
    assert hostile.executed == ""


def test_a_cell_of_a_sweep(hostile: Hostile, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "dot.cpu.onnx"
    run_command(["build", str(model), "--target", "cpu"], out, "test")
    assert out.stat().st_size > 0
    assert hostile.executed == ""


def test_the_builder_behind_a_bundle(
    hostile: Hostile, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Asked for what is not there, on a machine with TensorRT and without: the refusal is the command's own."""
    with pytest.raises(SamkrError) as caught:
        bundle_cache._build_engine(tmp_path / "x.samkr", tmp_path / "missing.onnx", tmp_path / "x.engine")
    assert caught.value.code == "SE-B94"
    said = capfd.readouterr().err
    assert "error SE-" in said
    assert "SE-X01" not in said
    assert hostile.executed == ""


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_what_multiprocessing_starts_for_a_command(hostile: Hostile, method: str) -> None:
    text = (
        "import multiprocessing; from samkr_edge.child_process import protect_children; protect_children()\n"
        f"with multiprocessing.get_context({method!r}).Pool(1) as pool: print(pool.map(abs, [-3]))"
    )
    done = ran(child_process.code(text))
    assert (done.stdout, done.returncode) == ("[3]\n", 0), done.stderr
    assert hostile.executed == ""


def test_the_command_line_protects_what_multiprocessing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(child_process, "protect_children", lambda: asked.append(True))
    monkeypatch.setattr(sys, "argv", ["samkr-edge", "--version"])
    with pytest.raises(SystemExit):
        importlib.import_module("samkr_edge.cli").main()
    assert asked == [True]


def test_no_process_is_started_in_another_way() -> None:
    """``sys.executable`` appears in the one file that knows how; else with a script's own place, or to be shown."""
    users = {
        str(path.relative_to(ROOT))
        for package in PACKAGES
        for path in (ROOT / package).rglob("*.py")
        if "sys.executable" in path.read_text(encoding="utf-8")
    }
    scripts = {f"benchmarks/host/{name}.py" for name in ("gpu_day", "gpu_day_prepare")}
    assert users == {
        "samkr_edge/child_process.py",
        "samkr_edge/launch.py",
        "samkr_edge/packages.py",
        *scripts,
    }


# Which entries of the import path are meant.


def test_entries_before_the_standard_library_are_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = str(Path(os.__file__).parent)
    monkeypatch.chdir(tmp_path)
    before = ["", str(tmp_path), "/elsewhere", str(tmp_path / "."), library]
    monkeypatch.setattr(sys, "path", [*before, "/site-packages", str(tmp_path)])
    child_process.leave_working_folder()
    # The last one was put there by an installation, and hides nothing of the standard library's.
    assert sys.path == ["/elsewhere", library, "/site-packages", str(tmp_path)]


def test_our_own_checkout_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    child_process.leave_working_folder()
    assert sys.path[0] == ""


# Where another package is found all the same.

SCRIPT = """
import sys
import samkr_edge
for model in sys.argv[1:]:
    try:
        print(samkr_edge.load(model).kind)
    except samkr_edge.SamkrError as error:
        print(error)
"""


def project(folder: Path, name: str, text: str) -> Path:
    """A user's script beside a package of the user's own."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").write_text(text)
    script = folder / "script.py"
    script.write_text(SCRIPT)
    return script


@pytest.mark.parametrize("already", ["", "import training\n"])
def test_a_script_beside_its_own_training(tmp_path: Path, model: Path, already: str) -> None:
    script = project(tmp_path / "mine", "training", "RATE = 0.1\n")
    script.write_text(already + SCRIPT)
    checkpoint = tmp_path / "x.pt"
    checkpoint.write_bytes(b"never read")
    done = ran([sys.executable, str(script), str(model), str(checkpoint)], PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    kind, message, found, expected, fix = done.stdout.splitlines()
    assert kind == "onnx"
    assert message.startswith("error SE-U91: another `training` hides the package `training` of samkr-edge")
    assert found.split() == ["found", str(tmp_path / "mine" / "training")]
    assert expected.split() == ["expected", str(ROOT / "training")]
    assert fix.startswith("fix: rename")


@pytest.mark.parametrize("text", ["", "raise ValueError('not meant to be imported')\n"])
def test_a_script_beside_its_own_targets(tmp_path: Path, model: Path, text: str) -> None:
    """`targets` is imported by plain statements on the way to every runtime."""
    script = project(tmp_path / "mine", "targets", text)
    done = ran([sys.executable, str(script), str(model)], PYTHONPATH=str(ROOT))
    assert done.returncode == 0, done.stderr
    assert "error SE-U91: another `targets` hides" in done.stdout
    assert str(tmp_path / "mine" / "targets") in done.stdout


@pytest.mark.parametrize(("name", "line"), [("benchmarks", "bench --help"), ("targets", "targets cpu")])
def test_the_command_line_finds_its_own_before_one_on_pythonpath(
    tmp_path: Path, name: str, line: str
) -> None:
    project(tmp_path, name, "raise RuntimeError('not meant to be imported')")
    script = console_script(tmp_path)
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    for command in (
        child_process.command(),
        [sys.executable, str(script)],
        [sys.executable, "-m", "samkr_edge"],
    ):
        done = ran([*command, *line.split()], PYTHONPATH=path)
        assert done.returncode == 0, done.stderr


def test_a_command_line_that_cannot_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise ImportError('built for another Python')")
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    done = ran([sys.executable, "-m", "samkr_edge", "doctor", "--json"], PYTHONPATH=path)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "SE-U97"
    assert "error SE-U97" in done.stderr
    assert "built for another Python" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_that_the_program_has_imported_or_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "calibration", ModuleType("calibration"))
    with pytest.raises(SamkrError, match="another `calibration`") as caught:
        resolve("calibration.ptq:restore_network")
    assert "made by the program itself" in str(caught.value)


def test_a_foreign_package_that_is_not_needed_is_none_of_our_business(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "calibration", ModuleType("calibration"))
    assert resolve("samkr_edge.errors:SamkrError") is SamkrError


def test_ours_reached_by_symbolic_links_are_ours(tmp_path: Path) -> None:
    for name in PACKAGES:
        (tmp_path / name).symlink_to(ROOT / name)
    done = ran(
        [sys.executable, str(tmp_path / "samkr_edge" / "child_process.py"), "samkr_edge", "bench", "--help"]
    )
    assert done.returncode == 0, done.stderr
