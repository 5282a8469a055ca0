"""Files of benchmarks/host as modules."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

HOST = Path(__file__).parents[2] / "benchmarks" / "host"


def script(name: str) -> ModuleType:
    """A file of benchmarks/host, which is no package; its siblings are found as Python finds a script's."""
    spec = importlib.util.spec_from_file_location(name, HOST / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module
