"""On a device: pick a model of the bundle that fits, else build one, and keep it.

Everything is in the user's cache under the hash of the bundle's manifest: ``source`` and ``included`` hold extracted
files, ``built`` what was built here. Several processes may use one bundle at once; each loads only models whose
passport allows it here, so a damaged or outdated file is made again.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

from samkr_edge import child_process
from samkr_edge.deploy.bundle import Bundle, read_bundle
from samkr_edge.errors import SamkrError
from samkr_edge.files.cache import cache_folder
from samkr_edge.passport import CPU_MODEL
from samkr_edge.preflight import preflight
from samkr_edge.runtime.runner import Runner
from samkr_edge.stopping import taking_along
from samkr_edge.terminal import say


def open_bundle(path: Path, threads: int, *, cuda_graph: bool = False) -> Runner:
    """Open what ``ready_model`` returns; the opener of ``.samkr`` in ``samkr_edge.pose_model``."""
    from samkr_edge.pose_model import load_model

    return load_model(ready_model(path), threads=threads, cuda_graph=cuda_graph).runner


def source_model(path: Path) -> Path:
    """The bundle's exported ONNX as a file in the cache."""
    bundle = read_bundle(path)
    with _locked(_folder(bundle)) as folder:
        return bundle.extract(bundle.manifest.source, folder / "source")


def ready_model(path: Path) -> Path:
    """The model of a bundle that this device runs: built here before, included, or built now.

    The target is TensorRT if a GPU and TensorRT are present, else the CPU; ``SAMKR_EDGE_TARGET=cpu`` forces the CPU.
    If a model for the CPU cannot be built (the onnx package is missing), the exported ONNX is run.

    Raises:
        SamkrError: what reading the bundle, building, or writing to the cache refuses.
    """
    bundle = read_bundle(path)
    suffix = ".engine" if _wants_engine() else CPU_MODEL
    built = _folder(bundle) / "built" / f"{Path(bundle.manifest.source).stem}{suffix}"
    included = [
        _folder(bundle) / "included" / name for name in bundle.manifest.built if name.endswith(suffix)
    ]
    # First without the lock: usually everything has been made, and readers need not wait.
    for model in (built, *included):
        if _fits(model):
            return model
    with _locked(_folder(bundle)) as folder:
        if _fits(built):  # another process has built it meanwhile
            return built
        for model in included:
            bundle.extract(f"{model.name}.json", folder / "included")
            bundle.extract(model.name, folder / "included")
            if _fits(model, why_not=f"{path.name}: {model.name} is not for this device"):
                return model
            model.unlink()
        source = bundle.extract(bundle.manifest.source, folder / "source")
        return _build(path, source, built)


def _wants_engine() -> bool:
    """True if TensorRT, of either flavour, can build and run here and the user has not chosen the CPU."""
    target = os.environ.get("SAMKR_EDGE_TARGET", "auto")
    if target not in ("auto", "cpu"):
        raise SamkrError(
            "SE-B95",
            f"SAMKR_EDGE_TARGET is {target!r}, and a bundle is built for `auto` or `cpu` only",
            fix="export SAMKR_EDGE_TARGET=auto",
        )
    if target == "cpu":
        return False
    from samkr_edge.builder.tensorrt.features import RTX_CAPABILITIES
    from samkr_edge.machine.device import running_device
    from samkr_edge.machine.driver import gpu_count
    from samkr_edge.machine.tensorrt_module import is_importable

    if gpu_count() == 0:
        return False
    if is_importable("tensorrt"):
        return True
    return running_device().compute_capability in RTX_CAPABILITIES and is_importable("rtx")


def _fits(model: Path, why_not: str = "") -> bool:
    """True if the model exists and its passport allows it here; ``why_not`` begins the line that says why not."""
    if not model.is_file():
        return False
    try:
        preflight(model)
    except SamkrError as error:
        if why_not:
            say(f"{why_not} ({error.code}: {error.sentence()})")
        return False
    return True


def _build(bundle: Path, source: Path, out: Path) -> Path:
    if out.suffix == ".engine":
        _build_engine(bundle, source, out)
        return out
    try:
        import onnx  # noqa: F401
    except ImportError:
        say(
            f"{bundle.name}: runs as exported; for a model built for this CPU: "
            'pip install "samkr-edge[build]"'
        )
        return source
    from samkr_edge.builder.cpu.build import build_cpu

    say(f"{bundle.name}: building a model for this CPU, once; it is kept in {out.parent}")
    build_cpu(source, out)
    return out


def _build_engine(bundle: Path, source: Path, out: Path) -> None:
    """Build with the public command, in a child process, whose end frees the builder's memory."""
    say(f"{bundle.name}: building an engine for this device, once; it is kept in {out.parent}")
    words = ["build", str(source), "--target", "auto", "-o", str(out)]
    # Its result is not this command's result: it goes to stderr with the progress.
    child = subprocess.Popen(child_process.command(*words), stdout=2)
    with taking_along(child):
        code = child.wait()
    if code != 0:
        raise SamkrError(
            "SE-B94",
            f"no engine could be built for {bundle.name} on this device; the reason is above",
            {"built by": f"samkr-edge {shlex.join(words)}"},
            fix="export SAMKR_EDGE_TARGET=cpu   # runs the bundle on the CPU; or fix the error above",
        )


def _folder(bundle: Bundle) -> Path:
    return cache_folder() / "bundles" / bundle.key[:32]


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    """Lock a bundle's cache folder between processes and threads; a killed holder releases it.

    Raises:
        SamkrError: SE-D92 the folder cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = open(folder / ".lock", "ab")  # noqa: SIM115 - closed below
    except OSError as error:
        raise SamkrError(
            "SE-D92",
            "the cache for built models is not writable",
            {"folder": folder, "reason": error.strerror or error},
            fix="export SAMKR_EDGE_CACHE=/some/writable/folder",
        ) from error
    with lock:
        try:
            import fcntl
        except ImportError:  # Windows: files are replaced whole, at worst a model is built twice
            yield folder
            return
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another process is preparing the same bundle: waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
