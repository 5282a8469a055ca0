"""install.sh with stand-ins for Python, pip and uv: which one is called, what is said, and what is left behind.

The real ones are run by whoever runs `make test`.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOOLS = ("sh", "dirname", "mktemp", "rm", "cat", "mkdir", "cp", "chmod", "grep")

# Answers as CPython would: its version, `-m venv` (a folder whose python is this script again), `-m pip`.
PYTHON = """#!/bin/sh
echo "python $*" >> "$CALLS"
case "$*" in
*version_info*) exit {fits} ;;
*python_version*) echo {version} ;;
"-m venv "*) mkdir -p "$3/bin"; {venv}; cp "$0" "$3/bin/python" ;;
"-m pip install"*) exit {pip} ;;
*ensurepip*) {venv} ;;
esac
"""
UV = """#!/bin/sh
echo "uv $*" >> "$CALLS"
case "$*" in
"venv "*) for folder in "$@"; do :; done; mkdir -p "$folder/bin"; cp "$FITTING" "$folder/bin/python" ;;
"pip install --help") echo "{help}" ;;
"pip install"*) echo "error: no way to the index"; exit {pip} ;;
esac
"""


class Machine:
    """A project folder with install.sh, and a PATH that holds nothing but what a test puts there."""

    def __init__(self, folder: Path) -> None:
        self.project, self.bin, self.calls = folder / "project", folder / "bin", folder / "calls"
        self.project.mkdir()
        self.bin.mkdir()
        shutil.copy(ROOT / "install.sh", self.project)
        for tool in TOOLS:
            (self.bin / tool).symlink_to(str(shutil.which(tool)))
        self.fitting = folder / "fitting"
        self._write(self.fitting, PYTHON.format(fits=0, version="3.12.1", venv=":", pip=0))

    def _write(self, path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def python(
        self, name: str, version: str = "3.12.1", *, fits: bool = True, venv: bool = True, pip: bool = True
    ) -> None:
        text = PYTHON.format(
            fits=int(not fits), version=version, venv=":" if venv else "exit 1", pip=int(not pip)
        )
        self._write(self.bin / name, text)

    def uv(self, *, pip: bool = True, old: bool = False) -> None:
        text = UV.format(pip=int(not pip), help="--upgrade" if old else "--torch-backend <BACKEND>")
        self._write(self.bin / "uv", text)

    def install(self, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        given = {
            "PATH": str(self.bin),
            "CALLS": str(self.calls),
            "FITTING": str(self.fitting),
            "TMPDIR": str(self.project.parent),
        }
        self.calls.write_text("")
        return subprocess.run(
            [str(self.bin / "sh"), str(self.project / "install.sh")],
            env={**given, **environment},
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=60,
        )

    @property
    def installs(self) -> list[str]:
        """The calls that install the project."""
        return [call for call in self.calls.read_text().splitlines() if ".[dev]" in call]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_uv_chooses_the_build_of_torch(machine: Machine) -> None:
    machine.python("python3")
    machine.uv()
    done = machine.install()
    assert done.returncode == 0, done.stderr
    assert machine.installs == [
        "uv pip install --compile-bytecode --python .venv/bin/python --torch-backend=auto -c constraints.txt -e .[dev]"
    ]
    assert done.stderr.count("\n") == 1


def test_a_backend_that_the_user_chose_is_kept(machine: Machine) -> None:
    machine.python("python3")
    machine.uv()
    machine.install(UV_TORCH_BACKEND="cu126")
    assert "--torch-backend=cu126" in machine.installs[0]


def test_where_uv_cannot_reach_its_index_pip_installs_and_it_is_said(machine: Machine) -> None:
    machine.python("python3")
    machine.uv(pip=False)
    done = machine.install()
    assert done.returncode == 0, done.stderr
    assert [call.split()[0] for call in machine.installs] == ["uv", "python"]
    assert "pip installs" in done.stderr
    assert "several GB" in done.stderr
    assert "(error: no way to the index)" in done.stderr


def test_a_uv_that_cannot_choose_torch_is_not_used(machine: Machine) -> None:
    machine.python("python3")
    machine.uv(old=True)
    machine.install()
    assert "python -m pip install --quiet -c constraints.txt uv" in machine.calls.read_text()
    assert not any(call.startswith("uv pip install --python") for call in machine.installs)


def test_another_python_than_that_of_the_environment_is_refused(machine: Machine) -> None:
    machine.python("python3")
    machine.python("newer", "3.13.0")
    machine.uv()
    machine.install()
    done = machine.install(PYTHON="newer")
    assert done.returncode == 2
    assert ".venv has Python 3.12.1, and newer is 3.13.0" in done.stderr


def test_where_both_fail_so_does_the_installation(machine: Machine) -> None:
    machine.python("python3", pip=False)
    machine.uv(pip=False)
    assert machine.install().returncode != 0


def test_pip_alone_can_be_asked_for(machine: Machine) -> None:
    machine.python("python3")
    machine.uv()
    done = machine.install(INSTALLER="pip")
    assert done.returncode == 0, done.stderr
    assert machine.installs == ["python -m pip install --quiet -c constraints.txt -e .[dev]"]


def test_uv_alone_can_be_asked_for_and_shows_why_it_failed(machine: Machine) -> None:
    machine.python("python3")
    machine.uv(pip=False)
    done = machine.install(INSTALLER="uv")
    assert done.returncode == 2
    assert "no way to the index" in done.stderr
    assert [call.split()[0] for call in machine.installs] == ["uv"]


def test_an_unknown_installer_is_refused(machine: Machine) -> None:
    machine.python("python3")
    done = machine.install(INSTALLER="conda")
    assert done.returncode == 2
    assert "none of auto, uv and pip" in done.stderr
    assert not (machine.project / ".venv").exists()


def test_the_first_python_that_fits_is_taken(machine: Machine) -> None:
    machine.python("python3", "3.9.2", fits=False)
    machine.python("python3.13", "3.13.0")
    machine.uv()
    done = machine.install()
    assert done.returncode == 0, done.stderr
    assert (machine.project / ".venv/bin/python").read_text() == (machine.bin / "python3.13").read_text()


def test_where_no_python_fits_uv_fetches_one(machine: Machine) -> None:
    machine.python("python3", "3.9.2", fits=False)
    machine.uv()
    done = machine.install()
    assert done.returncode == 0, done.stderr
    assert "uv fetches Python 3.12" in done.stderr
    assert "uv venv --quiet --seed --managed-python --python 3.12 .venv" in machine.calls.read_text()
    assert len(machine.installs) == 1


@pytest.mark.parametrize("version", ["3.9.2", None])
def test_without_a_python_and_without_uv_it_says_what_is_needed(
    machine: Machine, version: str | None
) -> None:
    if version:
        machine.python("python3", version, fits=False, venv=False)
    done = machine.install()
    assert done.returncode == 2
    assert "needs Python 3.10 to 3.14; none was found" in done.stderr
    assert not (machine.project / ".venv").exists()


def test_a_named_python_that_does_not_fit_is_refused_by_its_version(machine: Machine) -> None:
    machine.python("old", "3.9.2", fits=False)
    done = machine.install(PYTHON="old")
    assert done.returncode == 2
    assert "old is 3.9.2" in done.stderr
    assert not (machine.project / ".venv").exists()


def test_a_python_without_venv_leaves_nothing_that_looks_like_an_environment(machine: Machine) -> None:
    machine.python("python3", venv=False)
    done = machine.install()
    assert done.returncode == 2
    assert "apt install python3-venv" in done.stderr
    assert not (machine.project / ".venv").exists()


def test_a_python_that_can_make_environments_is_preferred(machine: Machine) -> None:
    machine.python("python3", venv=False)
    machine.python("python3.13", "3.13.0")
    machine.uv()
    done = machine.install()
    assert done.returncode == 0, done.stderr
    assert (machine.project / ".venv/bin/python").read_text() == (machine.bin / "python3.13").read_text()


def test_a_relative_python_is_that_of_the_folder_of_the_command(machine: Machine, tmp_path: Path) -> None:
    machine.python("mine", "3.13.0")
    machine.uv()
    done = machine.install(PYTHON="bin/mine", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (machine.project / ".venv/bin/python").read_text() == (machine.bin / "mine").read_text()


def test_where_python_has_no_venv_uv_makes_the_environment(machine: Machine) -> None:
    machine.python("python3", venv=False)
    machine.uv()
    done = machine.install()
    assert done.returncode == 0, done.stderr
    assert "uv venv --quiet --seed --python python3 .venv" in machine.calls.read_text()
    assert not (machine.project / ".venv.log").exists()


def test_an_environment_of_another_python_is_refused_and_kept(machine: Machine) -> None:
    machine.python("python3", "3.9.2", fits=False)
    (machine.project / ".venv/bin").mkdir(parents=True)
    shutil.copy(machine.bin / "python3", machine.project / ".venv/bin/python")
    done = machine.install()
    assert done.returncode == 2
    assert ".venv has 3.9.2" in done.stderr
    assert (machine.project / ".venv/bin/python").exists()


def test_an_environment_whose_python_was_removed_is_named(machine: Machine) -> None:
    machine.python("python3")
    (machine.project / ".venv/bin").mkdir(parents=True)
    (machine.project / ".venv/bin/python").symlink_to(machine.bin / "gone")
    done = machine.install()
    assert done.returncode == 2
    assert "its Python was removed" in done.stderr


@pytest.mark.parametrize("given", ["VENV=my venv", "BIN=my venv/bin"])
def test_make_refuses_a_path_with_a_space_instead_of_taking_it_for_two(given: str) -> None:
    refused = subprocess.run(["make", "-n", "-C", ROOT, "clean", given], capture_output=True, text=True)
    assert refused.returncode == 2
    assert f"{given} has a space" in refused.stderr
    assert "rm" not in refused.stdout
