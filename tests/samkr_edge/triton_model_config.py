"""Write tests/data/triton_model_config.json: how Triton defines ``config.pbtxt``, as the tests read it.

It is the compiled ``model_config.proto`` in NVIDIA's client package, with that package's licence. The package itself is
no requirement of the tests: it wants another protobuf than onnx does, and gRPC. To make the file anew:

    pip download --no-deps -d wheels tritonclient==2.73.0
    python tests/samkr_edge/triton_model_config.py wheels/tritonclient-*.whl
"""

from __future__ import annotations

import ast
import base64
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

DEFINITION = Path(__file__).parents[1] / "data" / "triton_model_config.json"
_MODULE = "tritonclient/grpc/model_config_pb2.py"


def model_config() -> Any:
    """The class of Triton's ``ModelConfig`` messages."""
    from google.protobuf import descriptor_pool, message_factory

    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(base64.b64decode(json.loads(DEFINITION.read_text(encoding="utf-8"))["descriptor"]))
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))


def read_wheel(wheel: Path) -> dict[str, str]:
    """The descriptor in the wheel's generated module, and its licence."""
    with zipfile.ZipFile(wheel) as archive:
        source = ast.parse(archive.read(_MODULE))
        licence = next(name for name in archive.namelist() if name.endswith("LICENSE.txt"))
        text = archive.read(licence).decode()
    calls = (node for node in ast.walk(source) if isinstance(node, ast.Call))
    call = next(call for call in calls if getattr(call.func, "attr", "") == "AddSerializedFile")
    return {
        "source": f"{_MODULE} of {wheel.name}",
        "licence": text,
        "descriptor": base64.b64encode(ast.literal_eval(call.args[0])).decode(),
    }


if __name__ == "__main__":
    DEFINITION.write_text(json.dumps(read_wheel(Path(sys.argv[1])), indent=1) + "\n", encoding="utf-8")
