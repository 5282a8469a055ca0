"""The passport of a built model: what it was made from, for which device, and the hash of its bytes.

It is next to the model as ``NAME.json``, so that the model stays a plain file that other tools load. Both are checked
before a model is opened: ``samkr_edge.preflight``.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from samkr_edge.errors import SamkrError, reason_of
from samkr_edge.files.artefact import (
    behind,
    json_of,
    json_text,
    replacing,
    replacing_together,
    sha256_of,
    undisturbed,
)
from samkr_edge.files.own_files import refuse_foreign
from samkr_edge.files.refused import not_opened
from samkr_edge.fixes import quoted
from samkr_edge.machine.tensorrt_module import MODULES, Flavour
from samkr_edge.model_card import ModelCard

SCHEMA_VERSION = 1
CPU_MODEL = ".cpu.onnx"  # how the names of models built for a CPU end


class Passport(BaseModel):
    """Facts about one built model.

    Attributes:
        target: profile name.
        flavour: of an engine: ``tensorrt``, or ``rtx`` for TensorRT for RTX; None for a CPU's model.
        card: the model card, as a dictionary.
        sha256: of the built file.
        source: file name of the ONNX it was built from; ``source_sha256`` its hash.
        hashes: of its sources: ``onnx``, ``weights``, ``policy``, ``calibration_images``, as far as known.
        device: where it runs: machine and CPU features, or ``gpu_device`` or ``any_gpu`` of
            ``samkr_edge.machine.device``.
        versions: of samkr-edge and of the runtime.
        precision: the precisions that the engine was built with, and how many operations are quantized.
        settings: how it was built.
        measured: AP and latency, if they were measured.
        created: UTC, ISO 8601.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: int = SCHEMA_VERSION
    target: str
    flavour: Flavour | None = None
    card: dict[str, Any]
    sha256: str
    source: str
    source_sha256: str
    hashes: dict[str, str] = {}
    device: dict[str, Any]
    versions: dict[str, str]
    precision: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    measured: dict[str, Any] = {}
    created: str = ""

    @field_validator("device")
    @classmethod
    def _names_capabilities(cls, device: dict[str, Any]) -> dict[str, Any]:
        found = device.get("compute_capabilities", [])
        if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise ValueError(f"compute_capabilities is not a list of strings: {found!r}")
        return device

    @field_validator("settings")
    @classmethod
    def _counts_whole(cls, settings: dict[str, Any]) -> dict[str, Any]:
        for name in ("dla_core", "profile_batch"):
            value = settings.get(name)
            if value is not None and (type(value) is not int or value < 0):
                raise ValueError(f"{name} is not a count: {value!r}")
        return settings

    @property
    def runtime(self) -> Flavour:
        """The flavour of an engine; a passport from before there were two means TensorRT."""
        return self.flavour or "tensorrt"

    @property
    def runs_on(self) -> str:
        """For people: the GPU or machine it was built on, or the compute capabilities it was built for."""
        if capabilities := self.device.get("compute_capabilities"):
            return f"SM {', '.join(capabilities)}"
        return str(self.device.get("model") or self.device.get("machine") or "?")

    @property
    def runtime_version(self) -> str:
        """The version that an engine was built with."""
        return self.versions.get(MODULES[self.runtime], "0")

    def card_of(self, model: Path) -> ModelCard:
        """The card of ``model``, whose passport this is; raises SamkrError SE-A52 if it is not a card."""
        try:
            return ModelCard.from_dict(self.card)
        except ValueError as error:
            raise _unreadable(model, error, self.build_again(model)) from error

    def source_beside(self, model: Path) -> Path:
        """The default path of the source of ``model``; a passport's text could be any path."""
        return behind(model).parent / (Path(self.source).name or "SOURCE.onnx")

    def build_again(self, model: Path, target: str | None = None, source: Path | None = None) -> str:
        """The command that builds ``model`` again, with its precision if that is not the graph's own."""
        beside = self.source_beside(model)
        source = source or (beside if os.path.isfile(beside) else Path(beside.name))
        own = self.card.get("precision")
        own, built = own if own in ("int8", "fp8") else "fp16", self.settings.get("precision")
        precision = [] if built in (None, own) else ["--precision", str(built)]
        words = ["build", quoted(source), "--target", quoted(target or self.target), *precision]
        return " ".join(["samkr-edge", *words, "-o", quoted(model)])


def passport_path(model: Path) -> Path:
    """``model.cpu.onnx`` -> ``model.cpu.onnx.json``; to read one, of ``artefact.behind`` the path."""
    return model.with_name(model.name + ".json")


def is_built(model: Path) -> bool:
    """True for models that must have a passport: engines, ``*.cpu.onnx``, and any other with one next to it."""
    model = behind(model)
    return model.suffix == ".engine" or model.name.endswith(CPU_MODEL) or passport_path(model).exists()


def own_place(model: Path) -> Path:
    """Check ``model``, a default name for what a command builds.

    Raises:
        SamkrError: SE-D05 a file of that name exists, and no passport next to it says that we built it.
    """
    refuse_foreign([model], made=lambda path: passport_path(path).exists())
    return model


def origin_hashes(card: dict[str, Any], onnx_sha256: str) -> dict[str, str]:
    """Hashes of everything that a model was made from, read from its card."""
    provenance = card.get("provenance", {})
    calibration = provenance.get("calibration")
    images = calibration.get("sha256") if isinstance(calibration, dict) else None
    found = {
        "onnx": onnx_sha256,
        "weights": provenance.get("weights_sha256"),
        "policy": provenance.get("policy_sha256"),
        # One hash for the whole choice of images, in its order.
        "calibration_images": hashlib.sha256("".join(map(str, images)).encode()).hexdigest()
        if isinstance(images, list) and images
        else None,
    }
    return {name: str(value) for name, value in found.items() if value}


def write_built(
    model: Path, data: bytes, passport: Passport, beside: Mapping[Path, str] | None = None
) -> None:
    """Write a built model, its passport, and texts ``beside`` them, so that they always match.

    Raises:
        SamkrError: SE-D01 they cannot be written; the old ones stay.
    """
    if hashlib.sha256(data).hexdigest() != passport.sha256:
        raise ValueError(f"the passport of {model} does not belong to these bytes")
    texts = {passport_path(model): passport_text(passport), **(beside or {})}
    with replacing_together(model, *texts) as (temporary, *others):
        temporary.write_bytes(data)
        for other, text in zip(others, texts.values(), strict=True):
            other.write_text(text, encoding="utf-8")


def write_passport(model: Path, passport: Passport) -> Path:
    """Replace the passport of an existing model; raises SamkrError SE-D01."""
    path = passport_path(model)
    with replacing(path) as temporary:
        temporary.write_text(passport_text(passport), encoding="utf-8")
    return path


def passport_text(passport: Passport) -> str:
    """A passport as JSON, with the time of writing and the hashes that its card knows."""
    stamped = passport.model_copy(
        update={
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "hashes": {**origin_hashes(passport.card, passport.source_sha256), **passport.hashes},
        }
    )
    return json_text(stamped.model_dump(mode="json"))


def read_passport(model: Path) -> Passport:
    """Read a model's passport.

    Raises:
        SamkrError: SE-A51 missing, SE-A52 unreadable, SE-A53 of another schema version.
    """
    path = passport_path(behind(model))
    target = "auto" if model.suffix == ".engine" else "cpu"
    build = f"samkr-edge build SOURCE.onnx --target {target} -o {quoted(model)}"
    try:
        content = json_of(path.read_text(encoding="utf-8"))
        version = content.get("schema_version") if isinstance(content, dict) else None
        if version in (None, SCHEMA_VERSION):
            return Passport.model_validate(content)
    except FileNotFoundError as error:
        raise SamkrError(
            "SE-A51",
            f"{model.name} has no passport, so it was not loaded",
            {"looked for": path},
            fix=build,
        ) from error
    except (OSError, ValidationError, ValueError) as error:
        raise not_opened(error, path, "passport") or _unreadable(model, error, build) from error
    raise SamkrError(
        "SE-A53",
        f"the passport of {model.name} has another format, so the model was not loaded",
        {"expected": SCHEMA_VERSION, "found": version},
        fix=build,
    )


def _unreadable(model: Path, error: Exception, build: str) -> SamkrError:
    return SamkrError(
        "SE-A52",
        f"the passport of {model.name} cannot be read, so the model was not loaded",
        {"reason": reason_of(error), "passport": passport_path(behind(model))},
        fix=build,
    )


def verified_bytes(model: Path) -> tuple[Passport, bytes]:
    """A built model's passport and its bytes, verified against each other; the device is not checked.

    Raises:
        SamkrError: SE-A51 no passport, SE-A52 unreadable, SE-A53 another schema version, SE-A54 the bytes are not
            those that were built, SE-A55 the source has changed since.
    """
    with undisturbed(behind(model).parent):  # never between a new passport and its model
        passport = read_passport(model)
        data = model.read_bytes()
    again = passport.build_again(model)
    found = hashlib.sha256(data).hexdigest()
    if found != passport.sha256:
        raise SamkrError(
            "SE-A54",
            f"{model.name} is not the file its passport describes (edited, cut off or swapped), so it was not loaded",
            {"expected": passport.sha256[:16], "found": f"{found[:16]}  {len(data)} bytes"},
            fix=again,
        )
    source = passport.source_beside(model)
    if os.path.isfile(source) and source != behind(model) and sha256_of(source) != passport.source_sha256:
        raise SamkrError(
            "SE-A55",
            f"{source.name} has changed since {model.name} was built from it, so the old model was not loaded",
            {"built": passport.created},
            fix=again,
        )
    return passport, data
