"""`samkr-edge inspect`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def inspect(
    model: Annotated[Path, typer.Argument(help="An exported ONNX or a model built for `cpu`.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """What is inside a model: card, passport, and how much of it is INT8.

    Examples:

      samkr-edge inspect qat.onnx

      samkr-edge inspect qat.cpu.onnx --json
    """
    if model.suffix in (".engine", ".samkr"):
        from samkr_edge.cli.inspect_engine import inspect_bundle, inspect_engine

        return (inspect_engine if model.suffix == ".engine" else inspect_bundle)(model, as_json)
    from samkr_edge.build.onnx_runtime import card_of, load_onnx
    from samkr_edge.cli.console import emit
    from samkr_edge.passport import is_built, preflight

    loaded = load_onnx(model)
    card = card_of(loaded, model)
    passport = preflight(model) if is_built(model) else None
    facts = count_precision(loaded)
    lines = [
        f"{model}: {card.model}, {card.precision} ({card.stage}), {len(card.skeleton)} keypoints, "
        f"input {card.input_size[0]}x{card.input_size[1]}, opset {loaded.opset_import[0].version}",
        f"  INT8       {facts['int8_convolutions']} of {facts['convolutions']} convolutions, "
        f"{facts['int8_sums']} of {facts['sums']} sums",
    ]
    lines += [f"  float      {name}" for name in facts["float_convolutions"][:12]]
    lines += [f"  {key:<11}{value}" for key, value in card.provenance.items() if not isinstance(value, dict)]
    if passport:
        lines.append(
            f"  passport   target {passport.target}, built {passport.created} with {passport.versions}"
        )
    payload = {
        "card": card.to_dict(),
        "passport": passport.model_dump(mode="json") if passport else None,
        **facts,
    }
    emit(payload, "\n".join(lines), as_json)


def count_precision(model: Any) -> dict[str, Any]:
    """Convolutions and sums whose data inputs all come from a DequantizeLinear (through a Resize or not)."""
    producer = {output: node for node in model.graph.node for output in node.output}

    def is_int8(name: str) -> bool:
        node = producer.get(name)
        while node is not None and node.op_type in ("Resize", "Relu"):
            node = producer.get(node.input[0])
        return node is not None and node.op_type == "DequantizeLinear"

    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    sums = [node for node in model.graph.node if node.op_type == "Add"]
    floating = [node.name for node in convolutions if not (is_int8(node.input[0]) and is_int8(node.input[1]))]
    return {
        "convolutions": len(convolutions),
        "int8_convolutions": len(convolutions) - len(floating),
        "float_convolutions": floating,
        "sums": len(sums),
        "int8_sums": sum(all(is_int8(name) for name in node.input) for node in sums),
    }
