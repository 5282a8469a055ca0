"""What must travel with a network so that any runtime can decode it: the model card.

It is part of every checkpoint, is stored as JSON under ``samkr_edge`` in an ONNX file's metadata, and is copied
into the passport of a built model. No separate file can get lost.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from math import inf, isfinite
from typing import Any

from samkr_edge.errors import reason_of
from samkr_edge.files.artefact import json_of
from samkr_edge.pose.decode_settings import DECODE_LIMITS, DecodeSettings
from samkr_edge.pose.grouping_settings import GROUPING_LIMITS, GroupingSettings
from samkr_edge.pose.skeleton import Skeleton
from samkr_edge.pose.sure_person import SURE_PERSON

# In the metadata of an ONNX file: the card;
METADATA_KEY = "samkr_edge"
# of a built one, its target: it needs its passport, whatever its file name;
TARGET_KEY = "samkr_edge_target"
# of a graph prepared for a target: it runs like any other, and is not built again.
PREPARED_KEY = "samkr_edge_prepared"
SCHEMA_VERSION = 1
PRECISIONS = ("fp32", "fp16", "int8", "fp8")
STAGES = ("fp32", "ptq", "qat")
PLACES = ("host", "graph")
DECODINGS = ("offsets", "grouping")


@dataclass(frozen=True)
class ModelCard:
    """Facts about one network.

    Attributes:
        model: zoo name, ``samkr_w32``.
        skeleton: the keypoints, in channel order.
        input_size: (height, width) of the network input in pixels.
        stride: input pixels per pixel of the heatmap. With offsets, pixel i is centred on input pixel ``stride * i``;
            with grouping it covers input pixels ``stride * i`` to ``stride * (i + 1)``.
        precision: ``fp32``, ``fp16``, ``int8`` or ``fp8``.
        stage: ``fp32``, ``ptq`` or ``qat``: how the weights came to be.
        decode: settings of decoding by offsets.
        grouping: settings of decoding by grouping; None: the network is decoded by offsets.
        decode_in: ``host``: the network outputs maps; ``graph``: it outputs candidates (see ``outputs``).
        provenance: hashes and figures: weights, policy, calibration images, measured AP. Free-form JSON.
    """

    model: str
    skeleton: Skeleton
    input_size: tuple[int, int]
    stride: int = 4
    precision: str = "fp32"
    stage: str = "fp32"
    decode: DecodeSettings = field(default_factory=DecodeSettings)
    grouping: GroupingSettings | None = None
    decode_in: str = "host"
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def decoding(self) -> str:
        """How joints become people: ``offsets`` from each person's centre, or ``grouping`` of peaks by their tags."""
        return "offsets" if self.grouping is None else "grouping"

    @property
    def sure_person(self) -> float:
        """The least score of a person whom `predict`, a call from Python and a report show."""
        return SURE_PERSON[self.decoding]

    @property
    def maps(self) -> tuple[str, str]:
        """Names of the network's maps: the heatmap, and what says whose joint is where."""
        return ("heatmap", "offset") if self.grouping is None else ("heatmap", "tag")

    @property
    def map_shapes(self) -> dict[str, tuple[int, int, int]]:
        """Channels, height and width of each of the ``maps``; a tag map is half as fine as its heatmap."""
        return map_shapes(self.decoding, len(self.skeleton), self.stride, self.input_size)

    @property
    def quantized(self) -> bool:
        """Whether its graph has Q/DQ, and its checkpoint fake quantizers."""
        return self.precision in ("int8", "fp8")

    @property
    def title(self) -> str:
        """For people: ``samkr_tiny, int8 (qat), 17 keypoints, input 192x192``."""
        # Of a float network's weights there is nothing to say.
        stage = f" ({self.stage})" if self.stage != "fp32" else ""
        height, width = self.input_size
        return (
            f"{self.model}, {self.precision}{stage}, {len(self.skeleton)} keypoints, input {height}x{width}"
        )

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the network's outputs, in order.

        The ``maps``: ``heatmap`` (N, K+1, h, w) and ``offset`` (N, 2K, h, w); with grouping ``heatmap`` (N, K, h, w)
        and ``tag`` (N, K, h/2, w/2). Or with decoding in the graph ``poses`` (N, P, K, 3) and ``scores`` (N, P), and
        ``proposals`` (N, P, K, 2) where joints are refined: samkr_edge/pose/proposals.py.
        """
        if self.decode_in == "host":
            return self.maps
        return ("poses", "scores", "proposals") if self.decode.refine_radius else ("poses", "scores")

    @property
    def left_out(self) -> dict[str, str]:
        """Parts of the network that an export left out -> how that was judged, in words: ``{"attention": ...}``"""
        found = self.provenance.get("without")
        if not isinstance(found, dict):
            return {}
        return {
            str(part): str(facts.get("judged")) for part, facts in found.items() if isinstance(facts, dict)
        }

    @property
    def weights_from(self) -> list[str]:
        """Lines for people: which ready network its weights are, or started from; none for other weights."""
        if isinstance(shipped := self.provenance.get("ready"), dict):
            return [
                f"{shipped.get('name')}, by {shipped.get('by')}, trained on {shipped.get('trained')}",
                f"published as {shipped.get('published')}",
            ]
        for start, facts in (("", self.provenance), ("started from ", self.provenance.get("init"))):
            found = facts.get("imported") if isinstance(facts, dict) else None
            if isinstance(found, dict) and "ready" in found:
                terms = [
                    f"by {found.get('by')}",
                    f"trained on {found.get('trained')}",
                    str(found.get("licence")),
                ]
                lines = [f"{start}{found['ready']}, {', '.join(terms)}"]
                if found.get("published"):
                    lines.append(f"published as {found['published']}")
                return [*lines, str(found.get("source")), f"sha256 {found.get('sha256')}"]
        return []

    def with_provenance(self, **facts: Any) -> ModelCard:
        """A copy with more provenance."""
        return replace(self, provenance={**self.provenance, **facts})

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema_version": SCHEMA_VERSION,
            "model": self.model,
            "skeleton": self.skeleton.to_dict(),
            "input_size": list(self.input_size),
            "stride": self.stride,
            "precision": self.precision,
            "stage": self.stage,
            # A card without it is of offsets, as all were before there was grouping.
            **({} if self.grouping is None else {"decoding": self.decoding}),
            "decode": asdict(self.grouping or self.decode),
            "decode_in": self.decode_in,
            "provenance": self.provenance,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ModelCard:
        """Inverse of ``to_dict``.

        Raises:
            ValueError: not a card of this schema version, or one with an impossible value.
        """
        found = data.get("schema_version") if isinstance(data, dict) else data
        if found != SCHEMA_VERSION:
            raise ValueError(f"model card schema {found!r}, this version reads {SCHEMA_VERSION}")
        try:
            height, width = (_positive("input_size", size) for size in data["input_size"])
            stride = _positive("stride", data["stride"])
            settings = _of(dict, data, "decode")
            decode_in = _one_of(PLACES, {"decode_in": "host", **data}, "decode_in")
            grouped = _one_of(DECODINGS, {"decoding": "offsets", **data}, "decoding") == "grouping"
            if grouped and decode_in != "host":
                raise ValueError("model card: people are grouped on the host, and decode_in is 'graph'")
            return cls(
                model=_of(str, data, "model"),
                skeleton=Skeleton.from_dict(data["skeleton"]),
                input_size=(height, width),
                stride=stride,
                precision=_one_of(PRECISIONS, data, "precision"),
                stage=_one_of(STAGES, data, "stage"),
                decode=DecodeSettings()
                if grouped
                else _decode_settings(settings, max(height, width), stride),
                grouping=_grouping_settings(settings) if grouped else None,
                decode_in=decode_in,
                provenance=_of(dict, data, "provenance"),
            )
        except KeyError as error:
            raise ValueError(f"model card without {error}") from error
        except (TypeError, OverflowError, RecursionError, AttributeError) as error:
            raise ValueError(f"model card: {reason_of(error)}") from error

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """The same of a text; raises ValueError."""
        return cls.from_dict(json_of(text))


def map_shapes(
    decoding: str, keypoints: int, stride: int, input_size: tuple[int, int]
) -> dict[str, tuple[int, int, int]]:
    """Channels, height and width of a network's maps by name.

    Args:
        decoding: ``offsets`` or ``grouping``.
        keypoints: K.
        stride: input pixels per pixel of the heatmap.
        input_size: (height, width) of the input.
    """
    h, w = (size // stride for size in input_size)
    if decoding == "offsets":
        return {"heatmap": (keypoints + 1, h, w), "offset": (2 * keypoints, h, w)}
    return {"heatmap": (keypoints, h, w), "tag": (keypoints, h // 2, w // 2)}


def _of(kind: type[Any], data: dict[str, Any], name: str) -> Any:
    value = data[name]
    if type(value) is not kind:
        raise ValueError(f"model card: {name} is {str(value)[:40]!r}")
    return value


def _one_of(known: tuple[str, ...], data: dict[str, Any], name: str) -> str:
    if data[name] not in known:
        raise ValueError(f"model card: {name} is {str(data[name])[:40]!r}, known are {', '.join(known)}")
    return str(data[name])


def _positive(name: str, value: Any) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"model card: {name} is {str(value)[:40]!r}")
    return value


def _decode_settings(data: dict[str, Any], side: int, stride: int) -> DecodeSettings:
    # A wrong stride does not limit the radius; comparing the card with its network reports it.
    limits = {**DECODE_LIMITS, "refine_radius": (0, side if side % stride else side // stride)}
    _check_settings(
        "offsets", data, asdict(DecodeSettings()), limits, {"refine_radius": f" at stride {stride}"}
    )
    return DecodeSettings(**data)


def _grouping_settings(data: dict[str, Any]) -> GroupingSettings:
    _check_settings("grouping", data, asdict(GroupingSettings()), GROUPING_LIMITS, {})
    try:
        return GroupingSettings(**data)
    except ValueError as error:
        raise ValueError(f"model card: {reason_of(error)}") from error


def _check_settings(
    decoding: str,
    data: dict[str, Any],
    known: dict[str, Any],
    limits: Mapping[str, tuple[float, float]],
    conditions: dict[str, str],
) -> None:
    """Each must be one of this decoding, a whole number, or true or false, where its default is one, and within its
    limits.
    """
    for name, value in data.items():
        if name not in known:
            raise ValueError(
                f"model card: decode.{str(name)[:40]} is no setting of {decoding}; known are {', '.join(known)}"
            )
        default = type(known[name])
        if default is bool and type(value) is bool:
            continue
        kinds = {bool: (), int: (int,)}.get(default, (int, float))
        least, most = limits.get(name, (-inf, inf))
        if type(value) not in kinds or not isfinite(value) or not least <= value <= most:
            expected = "true or false" if default is bool else f"a number from {least} to {most}"
            raise ValueError(
                f"model card: decode.{name} is {str(value)[:40]!r}, expected {expected}{conditions.get(name, '')}"
            )
