"""The wheel as a user gets it: built, installed into an empty environment, and used from a folder of the user's.

    python tests/installation/wheel.py

A model is made and built for the CPU here; the empty environment holds the wheel's own dependencies and pip's OpenCV,
at the versions of constraints.txt, and nothing else: no torch and no onnx. There `samkr-edge doctor` and
`samkr-edge predict` must work. The wheel is built from the sdist, so that both are whole.

Then the same on what JetPack 6 has: NumPy 1 and an OpenCV that pip knows nothing of, in a folder behind the
environment's own. The README's line must leave that OpenCV the one that is used. Not from Python 3.13 on, for which
there is no such NumPy.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from uv import find_uv_bin

ROOT = Path(__file__).resolve().parents[2]
JETPACK = ("opencv-python-headless==4.8.0.74", "numpy==1.26.4")


def run(*words: str | Path, cwd: Path, **environment: str) -> str:
    """Run a command; returns what it printed, and shows that where it failed."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, words))} ended with {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def predict(command: Path, folder: Path) -> None:
    """The command finds and draws, with a model of one's own and with the shipped one."""
    environment = {"SAMKR_EDGE_CACHE": str(folder / "cache")}
    run(command, "predict", "zoo:samkr_tiny", "photo.jpg", "-o", "shipped", cwd=folder, **environment)
    run(command, "predict", "tiny.cpu.onnx", "photo.jpg", "-o", "overlays", cwd=folder)
    written = sorted(path.name for path in (folder / "overlays").iterdir())
    print(f"predict: {written}")
    assert {Path(name).stem for name in written} == {"photo", "predictions"}


def jetpack(folder: Path) -> tuple[Path, Path]:
    """Python and command of an environment that also looks into a system's folder, as --system-site-packages does."""
    system, venv = folder / "dist-packages", folder / "jetpack"
    into = ("--python", sys.executable, "--target", system)
    run(find_uv_bin(), "pip", "install", "--quiet", *into, *JETPACK, cwd=folder)
    for metadata in system.glob("opencv*.dist-info"):
        shutil.rmtree(metadata)
    run(sys.executable, "-m", "venv", venv, cwd=folder)
    (site,) = venv.glob("lib/python3*/site-packages")
    (site / "system.pth").write_text(f"{system}\n")
    return venv / "bin/python", venv / "bin/samkr-edge"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = [sys.executable, "-m", "samkr_edge"]
        run(
            *ours,
            "export",
            "samkr_tiny",
            "--untrained",
            "--size",
            "64x64",
            "-o",
            folder / "tiny.onnx",
            cwd=ROOT,
        )
        run(*ours, "build", folder / "tiny.onnx", "--target", "cpu", "-o", folder / "tiny.cpu.onnx", cwd=ROOT)
        image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / "photo.jpg"), image)

        run(find_uv_bin(), "build", "--quiet", "--out-dir", folder / "dist", ROOT, cwd=folder)
        (wheel,) = (folder / "dist").glob("*.whl")
        (sdist,) = (folder / "dist").glob("*.tar.gz")
        print(f"built {sdist.name} and {wheel.name}")

        run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
        python, command = folder / "venv/bin/python", folder / "venv/bin/samkr-edge"
        run(
            python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "-c",
            ROOT / "constraints.txt",
            f"{wheel}[opencv]",
            cwd=folder,
        )
        facts = json.loads(run(command, "doctor", "--json", cwd=folder))
        works = {finding["what"]: finding["works"] for finding in facts["findings"]}
        print(f"doctor: {works}")
        assert works["run and score models"], facts
        assert not works["train and export"], "the environment is not empty: torch is in it"
        predict(command, folder)

        if sys.version_info < (3, 13):
            python, command = jetpack(folder)
            run(python, "-m", "pip", "install", "--quiet", f"{wheel}[build,report]", "numpy<2", cwd=folder)
            facts = json.loads(run(command, "doctor", "--json", cwd=folder))
            (found,) = (finding for finding in facts["findings"] if finding["what"] == "OpenCV")
            print(f"doctor on a simulated JetPack: {found['detail']}")
            assert found["works"], facts
            assert "4.8.0" in found["detail"], found
            assert "not by pip" in found["detail"], found
            predict(command, folder)
    print("the wheel works")


if __name__ == "__main__":
    main()
