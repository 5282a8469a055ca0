"""What ``gpu_day`` takes to the GPU machine: wheels, and reference outputs of its networks."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.host.gpu_day_steps import program

# FOR_TORCH: what a machine with torch, onnxruntime, OpenCV, typer and rich still needs for training, quantizing and AP.
# FOR_TENSORRT: what a Python with TensorRT that can run models still needs to inspect graphs.
FOR_TORCH = (
    "pydantic", "pydantic-core", "annotated-types", "typing-inspection", "typing-extensions", "pycocotools",
    "nvidia-modelopt", "omegaconf", "pulp", "onnx", "ml-dtypes",
)  # fmt: skip
FOR_TENSORRT = (
    "onnx",
    "onnxruntime",
    "ml-dtypes",
    "protobuf",
    "flatbuffers",
    "packaging",
    "typing-extensions",
)
PLATFORMS = ("2_28", "2_27", "2_24", "2_17", "2_12", "2_5")


def prepare(
    bundle: Path, models: Sequence[str], torch_version: str, tensorrt_version: str, pip: Sequence[str]
) -> dict[str, int]:
    """Wheels for the GPU machine's two Pythons, and references of these networks; existing files are kept.

    Returns:
        Each file in ``bundle`` -> its size in bytes.
    """
    bundle.mkdir(parents=True, exist_ok=True)
    (bundle / ".gitignore").write_text("*\n", encoding="utf-8")
    download(bundle, torch_version, FOR_TORCH, pip)
    download(bundle, tensorrt_version, FOR_TENSORRT, pip)
    for model in models:
        reference = bundle / f"{model}.npz"
        if not reference.exists():
            onnx = bundle / f"{model}.onnx"
            command = [sys.executable, *program(), "export", model, "--untrained", "-o", str(onnx)]
            subprocess.run(command, check=True)
            write_reference(onnx, reference)
            onnx.unlink()
    files = sorted(path for path in bundle.rglob("*") if path.is_file())
    return {str(path.relative_to(bundle)): path.stat().st_size for path in files}


def download(bundle: Path, version: str, packages: Sequence[str], pip: Sequence[str]) -> None:
    """Wheels of the versions installed here for another Python, without their dependencies."""
    from importlib.metadata import version as installed

    folder = bundle / f"wheels-{version}"
    marker = folder / ".whole"
    if marker.exists():
        return
    platforms = [text for number in PLATFORMS for text in ("--platform", f"manylinux_{number}_x86_64")]
    subprocess.run(
        [*pip, "download", "-q", "--no-deps", "--only-binary=:all:", "--python-version", version,
         "--implementation", "cp", *platforms, "--platform", "manylinux2014_x86_64", "-d", str(folder),
         *(f"{name}=={installed(name)}" for name in packages)],
        check=True,
    )  # fmt: skip
    marker.touch()


def reference_image(size: tuple[int, int]) -> Any:
    """Smooth blobs, uint8 (1, H, W, 3), the same on every machine."""
    import cv2
    import numpy as np

    coarse = np.random.default_rng(0).integers(0, 256, (size[0] // 32, size[1] // 32, 3), dtype=np.uint8)
    return cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_LINEAR)[None]


def maps_of(onnx: Path) -> dict[str, Any]:
    """Output name -> ONNX Runtime's map at every fourth pixel, enough to identify a network."""
    import numpy as np

    from samkr_edge.runtime.onnx_runtime import OnnxRunner

    runner = OnnxRunner(onnx)
    maps = runner.run(reference_image(runner.card.input_size))
    return {name: np.array(a)[..., ::4, ::4] for name, a in zip(runner.card.outputs, maps, strict=True)}


def write_reference(onnx: Path, reference: Path) -> None:
    import numpy as np

    np.savez_compressed(reference.with_suffix(".part.npz"), **maps_of(onnx))
    os.replace(reference.with_suffix(".part.npz"), reference)


def errors_of(onnx: Path, reference: Path) -> dict[str, float]:
    """Output name -> relative L2 error of a network exported here against the reference."""
    import numpy as np

    from samkr_edge.builder.check.agreement import relative_error

    found = maps_of(onnx)
    with np.load(reference) as expected:
        return {name: relative_error(expected[name], found[name]) for name in expected.files}


def install(bundle: Path, version: str, into: Path) -> Path | None:
    """The folder below ``into`` with the wheels for this Python version, unpacked now or by an earlier call.

    None if ``bundle`` has no wheels for it. Unpacking is enough: no wheel here has files that an installer would move.
    """
    site = into / f"site-{version}"
    marker = site / ".whole"
    if not marker.exists():
        wheels = sorted((bundle / f"wheels-{version}").glob("*.whl"))
        if not wheels:
            return None
        for wheel in wheels:
            shutil.unpack_archive(wheel, site, "zip")
        marker.touch()
    return site
