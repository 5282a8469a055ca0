"""Modules of the network from the names of exported nodes, in a graph and in the layers of an engine."""

from __future__ import annotations


def module_of(node_name: str) -> str:
    """Module of the network behind a node of the exported graph.

    ``/net/backbone/stage3/stage3.1/branches.0/branches.0.2/conv1/Conv`` -> ``backbone.stage3.1.branches.0.2.conv1``:
    the exporter repeats every container's name in its child's.
    """
    parts: list[str] = []
    for part in node_name.strip("/").split("/")[:-1]:
        if part.endswith("_quantizer"):
            continue
        if parts and part.startswith(f"{parts[-1]}."):
            parts[-1] = part
        else:
            parts.append(part)
    if parts[:1] == ["net"]:
        parts = parts[1:]
    return ".".join(parts) or node_name
