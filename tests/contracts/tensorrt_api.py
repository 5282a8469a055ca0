"""Write tests/data/tensorrt_api.json: which of the TensorRT names that our code uses exist in which version.

The binding wheels (tensorrt-bindings 8.6.1, tensorrt-cu12-bindings and tensorrt-cu13-bindings 10.0 to 11.x,
tensorrt-rtx-cu12-bindings 1.7, about 1 MB each) import over empty stand-ins for TensorRT's libraries, which is enough
to look at names, enum members and the argument names in the docstrings' first lines. Nothing is ever constructed.
Releases of TensorRT for RTX are called ``rtx 1.7.1.116``. To make the snapshot anew:

    pip download --no-deps -d wheels tensorrt-bindings==8.6.1
    pip download --no-deps -d wheels tensorrt-cu12-bindings==10.3.0
    pip download --no-deps -d wheels tensorrt-rtx-cu12-bindings==1.7.1.116
    python tests/contracts/tensorrt_api.py wheels/*.whl

It needs gcc, nm and readelf (binutils). Only names are kept, none of NVIDIA's text.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SNAPSHOT = ROOT / "tests" / "data" / "tensorrt_api.json"
SOURCES = (
    "samkr_edge/builder/tensorrt/engine_bytes.py",
    "samkr_edge/builder/tensorrt/calibrator.py",
    "samkr_edge/builder/tensorrt/micro_engine.py",
    "samkr_edge/builder/tensorrt/features.py",
    "samkr_edge/runtime/tensorrt.py",
    "samkr_edge/runtime/tensorrt_log.py",
    "samkr_edge/runtime/tensorrt_profiler.py",
    "samkr_edge/runtime/tensorrt_start.py",
    "samkr_edge/runtime/finished_kernels.py",
)
# In these files a variable or attribute of this name holds an object of this class; a leading underscore is ignored.
CLASSES = {
    "trt": "",
    "builder": "Builder",
    "network": "INetworkDefinition",
    "layer": "ILayer",
    "tensor": "ITensor",
    "parser": "OnnxParser",
    "error": "ParserError",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "timing_cache": "ITimingCache",
    "serialized": "IHostMemory",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "inspector": "EngineInspector",
    "runtime_config": "IRuntimeConfig",
    "runtime_cache": "IRuntimeCache",
}
# Names that are asked for by a text: enum members of plans, and what our callbacks override.
BY_TEXT = {
    "NetworkDefinitionCreationFlag": ("EXPLICIT_BATCH", "STRONGLY_TYPED"),
    "BuilderFlag": (
        "FP16", "INT8", "GPU_FALLBACK", "VERSION_COMPATIBLE", "OBEY_PRECISION_CONSTRAINTS",
        "PREFER_PRECISION_CONSTRAINTS", "TF32",
    ),
    "HardwareCompatibilityLevel": ("AMPERE_PLUS", "SAME_COMPUTE_CAPABILITY"),
    "DataType": ("UINT8", "FLOAT", "HALF", "INT8"),
    "LayerType": ("CAST", "IDENTITY"),
    "ComputeCapability": ("SM75", "SM80", "SM86", "SM89", "SM120", "SM121"),
    "ILogger": ("Severity", "log"),
    "ILogger.Severity": ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"),
    "IProgressMonitor": ("phase_start", "step_complete", "phase_finish"),
    "IInt8EntropyCalibrator2": (
        "get_batch_size", "get_batch", "read_calibration_cache", "write_calibration_cache",
    ),
    "ParserError": ("node_name", "node_operator"),
    "IProfiler": ("report_layer_time",),
}  # fmt: skip


def used_names() -> dict[str, set[str]]:
    """Class ('' for the module) -> the members that our code touches."""
    found: dict[str, set[str]] = {name: set(members) for name, members in BY_TEXT.items()}
    for _, owner, member, _ in uses():
        found.setdefault(owner, set()).add(member)
    found.setdefault("", set()).update(name for name in found if name and "." not in name)
    return {owner: set(members) for owner, members in sorted(found.items())}


def uses() -> Iterator[tuple[str, str, str, tuple[str, ...]]]:
    """(file, class, member, keyword arguments) of every use of a TensorRT object."""
    for source in SOURCES:
        tree = ast.parse((ROOT / source).read_text(encoding="utf-8"))
        keywords = {
            id(node.func): tuple(k.arg for k in node.keywords if k.arg)
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
        }
        for node in ast.walk(tree):
            owner = _owner(node.value) if isinstance(node, ast.Attribute) else None
            if isinstance(node, ast.Attribute) and owner is not None:
                yield source, owner, node.attr, keywords.get(id(node), ())


def _owner(node: ast.expr) -> str | None:
    """The class behind an expression, by the rule of ``CLASSES``; enums and classes of trt by their name."""
    if isinstance(node, ast.Name | ast.Attribute):
        name = (node.id if isinstance(node, ast.Name) else node.attr).lstrip("_")
        if isinstance(node, ast.Attribute) and _owner(node.value) == "":
            return name  # trt.MemoryPoolType.WORKSPACE
        if isinstance(node, ast.Attribute) and _owner(node.value) == "ILogger":
            return f"ILogger.{name}"
        return CLASSES.get(name)
    return None


def snapshot(wheel: Path) -> tuple[str, dict[str, dict[str, list[str] | None]]]:
    """Version, and class -> member -> argument names (None: not a method) of what exists in a wheel."""
    with tempfile.TemporaryDirectory() as folder:
        zipfile.ZipFile(wheel).extractall(folder)
        names = ("tensorrt.so", "tensorrt_rtx.so")
        library = next(
            path
            for path in Path(folder).rglob("*.so")
            if path.name in names and "bindings" in path.parent.name
        )
        stubs = Path(folder) / "stubs"
        make_stubs(library, stubs)
        environment = {**os.environ, "LD_LIBRARY_PATH": str(stubs), "PYTHONPATH": folder}
        wanted = json.dumps({owner: sorted(members) for owner, members in used_names().items()})
        done = subprocess.run(
            [sys.executable, __file__, "--look", library.parent.name, wanted],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
    version, found = json.loads(done.stdout)
    return f"rtx {version}" if library.stem == "tensorrt_rtx" else version, found


def make_stubs(library: Path, folder: Path) -> None:
    """Empty libraries with the symbols that the bindings want, so that they can be loaded at all."""
    folder.mkdir()
    symbols = subprocess.run(
        ["nm", "-D", "--undefined-only", str(library)], capture_output=True, text=True, check=True
    ).stdout
    wanted = [line.split()[-1] for line in symbols.splitlines()]
    ours = [name for name in wanted if re.fullmatch(r"(?!_?Py|_ITM|__|dl|pthread|_ZGTt)\w+", name)]
    needed = subprocess.run(
        ["readelf", "-d", str(library)], capture_output=True, text=True, check=True
    ).stdout
    for index, name in enumerate(re.findall(r"NEEDED.*\[(libnv[^\]]*)\]", needed)):
        code = "".join(
            f"void *{symbol}(void) {{ return 0; }}\n" for symbol in (ours if index == 0 else ["unused"])
        )
        (folder / "stub.c").write_text(code)
        command = [
            "gcc",
            "-shared",
            "-fPIC",
            "-w",
            f"-Wl,-soname,{name}",
            "-o",
            str(folder / name),
            str(folder / "stub.c"),
        ]
        subprocess.run(command, check=True)


def look(module: str, wanted: dict[str, list[str]]) -> tuple[str, dict[str, dict[str, list[str] | None]]]:
    """In the process that has the bindings: what exists, with argument names."""
    import importlib

    trt = importlib.import_module(module)
    found: dict[str, dict[str, list[str] | None]] = {}
    for owner, members in wanted.items():
        holder = trt
        for part in owner.split(".") if owner else ():
            holder = getattr(holder, part, None)
        if holder is None:
            continue
        found[owner] = {}
        for member in members:
            if hasattr(holder, member):
                found[owner][member] = arguments(getattr(holder, member))
    return str(trt.__version__), found


def arguments(member: object) -> list[str] | None:
    """Argument names out of pybind's signature line, of all overloads; None for what is no method."""
    text = getattr(member, "__doc__", None) or ""
    signatures = re.findall(r"^(?:\d+\. )?\w+\((.*)\) -> ", text, flags=re.MULTILINE)
    if not callable(member) or isinstance(member, type) or not signatures:
        return None
    names = [
        name
        for line in signatures
        for name in re.findall(r"(?:^|, )(\w+)(?=:|,|$)", re.sub(r"\[[^\]]*\]", "", line))
    ]
    return [name for name in dict.fromkeys(names) if name not in ("self", "args", "kwargs")]


def _order(key: str) -> tuple[bool, list[int]]:
    """TensorRT by version, then TensorRT for RTX by version."""
    flavour, _, version = key.rpartition(" ")
    return bool(flavour), [int(part) for part in version.split(".")]


def main(arguments: list[str]) -> None:
    if arguments[:1] == ["--look"]:
        print(json.dumps(look(arguments[1], json.loads(arguments[2]))))
        return
    found = dict(snapshot(Path(wheel)) for wheel in arguments)
    ordered = dict(sorted(found.items(), key=lambda item: _order(item[0])))
    SNAPSHOT.parent.mkdir(exist_ok=True)
    # One class a line: readable, and a new version is a small diff.
    versions = []
    for version, classes in ordered.items():
        lines = ",\n".join(
            f"  {json.dumps(name)}: {json.dumps(members)}" for name, members in classes.items()
        )
        versions.append(f" {json.dumps(version)}: {{\n{lines}\n }}")
    SNAPSHOT.write_text("{\n" + ",\n".join(versions) + "\n}\n")
    print(f"{SNAPSHOT}: {', '.join(ordered)}")


if __name__ == "__main__":
    main(sys.argv[1:])
