"""A model as a server of others' makes use of it: its tensors, where it runs, and the table that explains them.

The table is a JSON file beside the model: what goes in, what comes out, what that means, and the model card, with
which ``samkr_edge.decoding.people_in_image`` makes people of them in a few lines of Python.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from samkr_edge import __version__
from samkr_edge.errors import SamkrError
from samkr_edge.files.artefact import json_in, replacing_together
from samkr_edge.files.named import missing_file
from samkr_edge.files.own_files import refuse_foreign
from samkr_edge.model_card import PREPARED_KEY, TARGET_KEY, ModelCard
from samkr_edge.model_card_check import output_shapes
from samkr_edge.onnx_graph.onnx_card import card_of
from samkr_edge.onnx_graph.onnx_file import DTYPES, OnnxFile, Value
from samkr_edge.onnx_graph.onnx_reading import decoded, read_bytes
from samkr_edge.passport import CPU_MODEL, Passport, is_built, read_passport, verified_bytes
from samkr_edge.ready_name import ready_instead

Kind: TypeAlias = Literal["onnx", "cpu", "engine"]

TABLE_VERSION = 1
UNTRIED = "Written to the specification by samkr-edge {version}. It has not run there yet."
_WRITER = "samkr-edge bundle"
_MEANING = {
    "heatmap": "a channel a keypoint, in the order of the skeleton; with offsets, the last is the person's centre",
    "offset": "location - joint in map pixels, at the person's centre: channels x0, y0, x1, y1, ...",
    "tag": "a number that is alike in the joints of one person, a channel a keypoint",
    "poses": "candidates: x and y of each joint in input pixels, and the heatmap's value there",
    "scores": "of the candidates' centres, descending",
    "proposals": "the joints before they were refined, input pixels; pose NMS compares these",
}


@dataclass(frozen=True)
class Port:
    """An input or output: NumPy's name of its type; the batch comes first, and None is a size left open."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class ServedModel:
    """One model for a server.

    Attributes:
        name: that of its file without the ending; letters, digits, ``_``, ``-`` and ``.`` only.
        kind: ``onnx`` for one that `export` wrote, ``cpu`` and ``engine`` for built ones.
        data: its bytes, as they were checked.
        graph: of an ONNX file.
        passport: of a built model.
    """

    path: Path
    name: str
    kind: Kind
    data: bytes
    card: ModelCard
    image: Port
    outputs: tuple[Port, ...]
    graph: OnnxFile | None = None
    passport: Passport | None = None

    @property
    def runs_on(self) -> str:
        """For people: the one kind of machine that a built model is for."""
        if self.passport is None:
            prepared = self.graph.metadata.get(PREPARED_KEY) if self.graph else None
            return f"any machine; prepared for {prepared}" if prepared else "any machine"
        if self.kind == "cpu":
            return f"CPUs like that of the machine that built it, {self.passport.runs_on}"
        device, settings = self.passport.device, self.passport.settings
        capability = device.get("compute_capability")
        part = f", compute capability {capability}" if capability else ""
        wider = {"AMPERE_PLUS": "GPUs from Ampere on", "SAME_COMPUTE_CAPABILITY": "GPUs of that capability"}
        others = wider.get(str(settings.get("hardware_compatibility")), "no other GPU")
        return f"{self.passport.runs_on}{part}, TensorRT {self.passport.runtime_version}; {others}"


def read_served(path: Path) -> ServedModel:
    """Read a model that a server may be given.

    Raises:
        SamkrError: SE-A23 missing, SE-B87 no ONNX model, SE-A26 in two files, SE-A21 without a card, SE-A27 with
            another network's; of a built one SE-A51 to SE-A55 as for ``verified_bytes``.
    """
    if not path.is_file():
        raise missing_file(path, "model", ready_instead(path))
    name = path.name.removesuffix(CPU_MODEL) if path.name.endswith(CPU_MODEL) else path.stem
    name = re.sub(r"[^A-Za-z0-9_.-]", "_", name).lstrip(".-") or "pose"
    passport, data = verified_bytes(path) if is_built(path) else (None, read_bytes(path))
    if passport is not None and path.suffix != ".onnx":
        card = passport.card_of(path)
        image, outputs = _of_engine(passport, card)
        return ServedModel(path, name, "engine", data, card, image, outputs, passport=passport)
    graph = decoded(data, path)
    card = card_of(graph, path)
    if passport is None and TARGET_KEY in graph.metadata:
        read_passport(path)  # renamed, and without its passport: raises
    image = _tensor(graph.inputs[0])
    expected = _shapes(card, image.shape[0])
    found = {value.name: value for value in graph.outputs}
    outputs = tuple(
        _tensor(found[one], expected[one]) if one in found else Port(one, "float32", expected[one])
        for one in card.outputs
    )
    kind: Kind = "onnx" if passport is None else "cpu"
    return ServedModel(path, name, kind, data, card, image, outputs, graph, passport)


def table_of(model: ServedModel) -> dict[str, Any]:
    """What a client or probe has to know, as JSON. The card is without its provenance, which the model itself has."""
    card, image = model.card, model.image
    is_planar = image.shape[-1] != 3
    return {
        "schema_version": TABLE_VERSION,
        "written_by": f"{_WRITER} {__version__}",
        "tried": "not yet: written to the specification",
        "runs_on": model.runs_on,
        "input": {
            **_described(image),
            "layout": "NCHW" if is_planar else "NHWC",
            "colours": "RGB",
            "values": "0 to 255 as they are; the network normalises them itself",
            "fit": "the whole frame, scaled by min(W / w, H / h), bilinear, centred, the rest black",
        },
        "to_frame": {
            "scale": "min(W / w, H / h) of the input's W, H and the frame's w, h",
            "x": "(x_input + 0.5 - (W - scale * w) / 2) / scale - 0.5",
            "y": "(y_input + 0.5 - (H - scale * h) / 2) / scale - 0.5",
            "convention": "whole coordinates are pixel centres",
        },
        "outputs": [{**_described(one), "meaning": _MEANING[one.name]} for one in model.outputs],
        "people": _people(card),
        "sure_person": card.sure_person,
        "card": replace(card, provenance={}).to_dict(),
    }


def refuse_others(
    folder: Path, name: str, files: Mapping[Path, bytes], table: Path, new: dict[str, Any], force: bool
) -> None:
    """Before anything is written: files that exist must be what an earlier run wrote for the same network.

    Args:
        folder: as the user named it.
        name: under which the model is served there.
        files: that would be replaced.
        table: the one of them that ``table_of`` describes.
        new: what would be written to it.
        force: replace them in any case.

    Raises:
        SamkrError: SE-D05 they are not ours, SE-D07 they are another network's.
    """
    if force or not any(path.exists() for path in files):
        return
    there = json_in(table)
    ours = isinstance(there, dict) and str(there.get("written_by")).startswith(_WRITER)
    refuse_foreign(files, made=lambda _: ours, fix="choose another folder, or replace them: --force")
    if isinstance(there, dict) and _interface(there) != _interface(new):
        raise SamkrError(
            "SE-D07",
            f"{folder} has another network under the name {name}, so nothing was written",
            {"there": _titled(there), "this is": _titled(new)},
            fix="replace it: --force   # or give the model's file another name",
        )


def write_files(files: Mapping[Path, bytes]) -> None:
    """Write files so that those of one folder agree; a folder that lies in another comes before it.

    Raises:
        SamkrError: SE-D01 they cannot be written.
    """
    folders = sorted({path.parent for path in files}, key=lambda folder: -len(folder.parts))
    for folder in folders:
        own = [path for path in files if path.parent == folder]
        with replacing_together(*own) as temporaries:
            for temporary, path in zip(temporaries, own, strict=True):
                temporary.write_bytes(files[path])


def _of_engine(passport: Passport, card: ModelCard) -> tuple[Port, tuple[Port, ...]]:
    """As the engine's plan has them: only TensorRT itself could read them from an engine."""
    shape = passport.settings.get("input_shape")
    batch = shape[0] if isinstance(shape, list) and shape and type(shape[0]) is int else 1
    steps = passport.settings.get("steps")
    floats = isinstance(steps, list) and "float_input" in steps
    image = Port("image", "float32" if floats else "uint8", (batch, *card.input_size, 3))
    shapes = _shapes(card, batch)
    return image, tuple(Port(name, "float32", shapes[name]) for name in card.outputs)


def _shapes(card: ModelCard, batch: int | None) -> dict[str, tuple[int | None, ...]]:
    """Outputs by name, with this batch and as many candidates as decoding in the graph gives."""
    _, h, w = card.map_shapes[card.maps[0]]
    people = min(card.decode.max_people, h * w)
    return {
        name: (batch, *(people if size is None else size for size in shape[1:]))
        for name, shape in output_shapes(card).items()
    }


def _tensor(value: Value, expected: tuple[int | None, ...] = ()) -> Port:
    dtype = DTYPES.get(value.elem_type)
    return Port(
        value.name, dtype.__name__ if dtype else f"ONNX type {value.elem_type}", value.shape or expected
    )


def _described(tensor: Port) -> dict[str, Any]:
    return {
        "name": tensor.name,
        "type": tensor.dtype,
        "shape": [-1 if n is None else n for n in tensor.shape],
    }


def _people(card: ModelCard) -> list[str]:
    """How outputs become people, one step a line."""
    python = "in Python: samkr_edge.decoding.people_in_image(outputs of one image, in this table's order, card, fit)"
    if card.grouping is not None:
        return ["peaks are grouped by their tags, which no server does", python]
    if card.decode_in == "host":
        return ["centres are found, and their offsets followed, which no server does", python]
    return [
        "a candidate counts while its score is above center_threshold of the card's decode settings",
        "candidates with more than nms_joints joints nearer to a candidate's than nms_distance of its box's diagonal "
        "are the same person (joints before refinement, where there are proposals); the best mean heatmap value stays",
        "a joint's score is the candidate's score times the heatmap's value there, a person's the mean of its joints'",
        "people whose joints' box has its centre outside the frame fall; those above sure_person are what `samkr-edge "
        "predict` shows",
        python,
    ]


def _interface(table: dict[str, Any]) -> tuple[Any, ...]:
    """What a client relies on."""
    card = table.get("card")
    card = card if isinstance(card, dict) else {}
    return card.get("model"), table.get("input"), table.get("outputs"), card.get("skeleton")


def _titled(table: dict[str, Any]) -> str:
    try:
        return ModelCard.from_dict(table["card"]).title
    except (ValueError, KeyError, TypeError):
        return "unknown"
