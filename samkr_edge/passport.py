"""The passport of a built model: what it was made from, for which device, and the hash of its bytes.

It lies beside the model as ``NAME.json``, so that the model itself stays a plain file that other tools load. Before a
built model is opened it is compared with its passport and with the running device; what does not fit is refused with
the reason and the command that fixes it. Loading an engine runs native code, so bytes that do not match are never
loaded.
"""

from __future__ import annotations

import platform
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from samkr_edge.artefact import sha256_of, write_json
from samkr_edge.errors import SamkrError

SCHEMA_VERSION = 1
# In the ONNX metadata of a model that was built: it needs its passport, whatever it is called.
TARGET_KEY = "samkr_edge_target"


class Passport(BaseModel):
    """Facts about one built model.

    Attributes:
        target: profile name.
        card: the model card, as a dictionary.
        sha256: of the built file.
        source: file name of the ONNX it was built from; ``source_sha256`` its hash.
        device: what decides whether it runs here: machine, CPU features, GPU, SM.
        versions: of samkr-edge and of the runtime.
        settings: how it was built.
        measured: AP and latency, where they were measured.
        created: UTC, ISO 8601.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: int = SCHEMA_VERSION
    target: str
    card: dict[str, Any]
    sha256: str
    source: str
    source_sha256: str
    device: dict[str, Any]
    versions: dict[str, str]
    settings: dict[str, Any] = {}
    measured: dict[str, Any] = {}
    created: str = ""


def passport_path(model: Path) -> Path:
    """``model.cpu.onnx`` -> ``model.cpu.onnx.json``."""
    return model.with_name(model.name + ".json")


def is_built(model: Path) -> bool:
    """True for models that must have a passport: engines, ``*.cpu.onnx``, and any other with one beside it."""
    return model.suffix == ".engine" or model.name.endswith(".cpu.onnx") or passport_path(model).exists()


def cpu_device() -> dict[str, Any]:
    """What decides whether a CPU model runs as built."""
    return {"machine": platform.machine(), "cpu_features": cpu_features()}


def cpu_features() -> list[str]:
    """The vector instructions that ONNX Runtime's INT8 kernels choose by."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text(encoding="utf-8").split())
    except OSError:
        return []
    known = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "asimd", "asimddp", "i8mm")
    return [name for name in known if name in flags]


def write_passport(model: Path, passport: Passport) -> Path:
    """Write the passport beside the model, with the time of writing."""
    stamped = passport.model_copy(
        update={"created": datetime.now(timezone.utc).isoformat(timespec="seconds")}
    )
    path = passport_path(model)
    write_json(path, stamped.model_dump(mode="json"))
    return path


def read_passport(model: Path) -> Passport:
    """Read a model's passport.

    Raises:
        SamkrError: SE-A51 missing, SE-A52 unreadable or of another schema.
    """
    path = passport_path(model)
    try:
        return Passport.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise SamkrError(
            "SE-A51",
            f"{model.name} has no passport, so it was not loaded",
            [f"looked for {path}"],
            fix=f"samkr-edge build SOURCE.onnx --target auto -o {model}",
        ) from error
    except (OSError, ValidationError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise SamkrError(
            "SE-A52",
            f"the passport of {model.name} cannot be read, so the model was not loaded",
            [f"reason     {reason[:160]}", f"passport   {path}"],
            fix=f"samkr-edge build SOURCE.onnx --target auto -o {model}",
        ) from error


def preflight(model: Path) -> Passport:
    """Compare a built model with its passport and this device, before anything is loaded.

    Raises:
        SamkrError: SE-A51 no passport, SE-A52 unreadable, SE-A53 another schema version, SE-A54 the bytes are not
            those that were built, SE-A55 the source has changed since, SE-A56 built for another machine, SE-A57
            built with CPU features that this CPU lacks, SE-A58 built by a newer runtime.
    """
    passport = read_passport(model)
    again = f"samkr-edge build {passport.source} --target {passport.target} -o {model}"
    if passport.schema_version != SCHEMA_VERSION:
        raise SamkrError(
            "SE-A53",
            f"the passport of {model.name} has another format, so the model was not loaded",
            [f"expected   {SCHEMA_VERSION}", f"found      {passport.schema_version}"],
            fix=again,
        )
    found = sha256_of(model)
    if found != passport.sha256:
        raise SamkrError(
            "SE-A54",
            f"{model.name} is not the file its passport describes (edited, cut off or swapped), so it was not loaded",
            [f"expected   {passport.sha256[:16]}", f"found      {found[:16]}  {model.stat().st_size} bytes"],
            fix=again,
        )
    source = model.with_name(passport.source)
    if source.is_file() and source != model and sha256_of(source) != passport.source_sha256:
        raise SamkrError(
            "SE-A55",
            f"{passport.source} has changed since {model.name} was built from it, so the old model was not loaded",
            [f"built      {passport.created}"],
            fix=again,
        )
    if passport.target == "cpu":
        _check_cpu(model, passport, again)
    return passport


def _check_cpu(model: Path, passport: Passport, again: str) -> None:
    import onnxruntime

    here = cpu_device()
    if passport.device.get("machine") != here["machine"]:
        raise SamkrError(
            "SE-A56",
            f"{model.name} was built for another machine, so it was not loaded",
            [f"built on   {passport.device.get('machine')}", f"this is    {here['machine']}"],
            fix=again,
        )
    missing = set(passport.device.get("cpu_features", [])) - set(here["cpu_features"])
    if missing:
        raise SamkrError(
            "SE-A57",
            f"{model.name} was built on a CPU with instructions that this one lacks, so it was not loaded",
            [
                f"missing    {', '.join(sorted(missing))}",
                "effect     its INT8 kernels would be slow or saturate here",
            ],
            fix=again,
        )
    built = passport.versions.get("onnxruntime", "0")
    if _version(built)[:2] > _version(onnxruntime.__version__)[:2]:
        raise SamkrError(
            "SE-A58",
            f"{model.name} was built with a newer ONNX Runtime, so it was not loaded",
            [f"built with {built}", f"this is    {onnxruntime.__version__}"],
            fix=f"{again}   # or: pip install 'onnxruntime>={built}'",
        )


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:3] if part.isdigit())
