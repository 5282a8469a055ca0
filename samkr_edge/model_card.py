"""What must travel with a network so that any runtime can decode it: the model card.

It is part of every checkpoint, is stored as JSON under ``samkr_edge`` in an ONNX file's metadata, and is copied
into the passport of a built model. There is no side file that could be lost.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from samkr_edge.decode import DecodeSettings
from samkr_edge.skeleton import Skeleton

METADATA_KEY = "samkr_edge"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class ModelCard:
    """Facts about one network.

    Attributes:
        model: zoo name, ``samkr_w32``.
        skeleton: the keypoints, in channel order.
        input_size: (height, width) of the network input in pixels.
        stride: input pixels per map pixel; map pixel i is centred on input pixel ``stride * i``.
        precision: ``fp32``, ``fp16``, ``int8`` or ``fp8``.
        stage: ``fp32``, ``ptq`` or ``qat``: how the weights came to be.
        decode: settings of the decoder.
        decode_in: ``host``: the network gives maps; ``graph``: it gives candidates (see :attr:`outputs`).
        provenance: hashes and figures: weights, policy, calibration images, measured AP. Free-form JSON.
    """

    model: str
    skeleton: Skeleton
    input_size: tuple[int, int]
    stride: int = 4
    precision: str = "fp32"
    stage: str = "fp32"
    decode: DecodeSettings = field(default_factory=DecodeSettings)
    decode_in: str = "host"
    provenance: dict[str, Any] = field(default_factory=dict)

    @property
    def quantized(self) -> bool:
        """Its graph has Q/DQ, its checkpoint fake quantizers."""
        return self.precision in ("int8", "fp8")

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the network's outputs, in order.

        ``heatmap`` (N, K+1, h, w) and ``offset`` (N, 2K, h, w), or with decoding in the graph ``poses`` (N, P, K, 3)
        and ``scores`` (N, P), and ``proposals`` (N, P, K, 2) where joints are refined: see samkr_edge/proposals.py.
        """
        if self.decode_in == "host":
            return ("heatmap", "offset")
        return ("poses", "scores", "proposals") if self.decode.refine_radius else ("poses", "scores")

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
            "decode": asdict(self.decode),
            "decode_in": self.decode_in,
            "provenance": self.provenance,
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> ModelCard:
        """Inverse of :meth:`to_dict`.

        Raises:
            ValueError, KeyError, TypeError: not a card of this schema version.
        """
        if data.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(
                f"model card schema {data.get('schema_version')!r}, this version reads {SCHEMA_VERSION}"
            )
        height, width = data["input_size"]
        return cls(
            model=str(data["model"]),
            skeleton=Skeleton.from_dict(data["skeleton"]),
            input_size=(int(height), int(width)),
            stride=int(data["stride"]),
            precision=str(data["precision"]),
            stage=str(data["stage"]),
            decode=DecodeSettings(**data["decode"]),
            decode_in=str(data.get("decode_in", "host")),
            provenance=dict(data["provenance"]),
        )

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        return cls.from_dict(json.loads(text))
