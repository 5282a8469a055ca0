"""Code that no GPU has run cannot call what does not exist: every TensorRT name, in every version it is used with."""

import json
from types import SimpleNamespace

import pytest
from tensorrt_api import SNAPSHOT, SOURCES, look, used_names, uses

from samkr_edge.builder.tensorrt.features import features_for, features_of
from samkr_edge.machine.tensorrt_module import Flavour
from targets.profile import version_tuple

API = json.loads(SNAPSHOT.read_text())
# What only some versions have: (class, member) -> (from, before); a class stands for its members. The code asks first,
# by hasattr or through the plan.
SOMETIMES: dict[tuple[str, str], tuple[tuple[int, ...], tuple[int, ...]]] = {
    ("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH"): ((0,), (11,)),
    ("NetworkDefinitionCreationFlag", "STRONGLY_TYPED"): ((10,), (99,)),
    ("BuilderFlag", "FP16"): ((0,), (11,)),
    ("BuilderFlag", "INT8"): ((0,), (11,)),
    ("BuilderFlag", "OBEY_PRECISION_CONSTRAINTS"): ((0,), (11,)),
    ("BuilderFlag", "PREFER_PRECISION_CONSTRAINTS"): ((0,), (11,)),
    ("ILayer", "precision"): ((0,), (11,)),
    ("ILayer", "set_output_type"): ((0,), (11,)),
    ("HardwareCompatibilityLevel", "SAME_COMPUTE_CAPABILITY"): ((10, 9), (99,)),
    ("IBuilderConfig", "int8_calibrator"): ((0,), (11,)),
    ("IBuilderConfig", "progress_monitor"): ((10,), (99,)),
    ("ICudaEngine", "create_runtime_config"): ((10, 13), (99,)),
    ("ParserError", "node_name"): ((10,), (99,)),
    ("ParserError", "node_operator"): ((10,), (99,)),
    ("", "IProgressMonitor"): ((10,), (99,)),
    ("", "IInt8EntropyCalibrator2"): ((0,), (11,)),
    ("", "IRuntimeConfig"): ((10, 13), (99,)),
}
# What TensorRT has in no version and TensorRT for RTX in all of them; for the rest it is like TensorRT 11.
ONLY_RTX = {
    ("", "ComputeCapability"),
    ("", "IRuntimeCache"),
    ("IBuilderConfig", "num_compute_capabilities"),
    ("IBuilderConfig", "set_compute_capability"),
    ("IRuntimeConfig", "create_runtime_cache"),
    ("IRuntimeConfig", "set_runtime_cache"),
}


def parsed(key: str) -> tuple[Flavour, str]:
    """``rtx 1.7.1.116`` -> ``rtx``, ``1.7.1.116``."""
    flavour, _, version = key.rpartition(" ")
    return ("rtx" if flavour else "tensorrt"), version


def is_expected(key: str, owner: str, member: str) -> bool:
    flavour, version = parsed(key)
    if {(owner, member), ("", owner)} & ONLY_RTX:
        return flavour == "rtx"
    first, before = SOMETIMES.get((owner, member)) or SOMETIMES.get(("", owner)) or ((0,), (99,))
    return first <= features_for(version, flavour).number < before


def test_the_snapshot_covers_every_generation_of_both_flavours() -> None:
    versions = [(flavour, version_tuple(version)) for flavour, version in map(parsed, API)]
    generations = {number[:2] for flavour, number in versions if flavour == "tensorrt"}
    assert {(8, 6), (10, 3)} <= generations
    assert {number[0] for number in generations} == {8, 10, 11}
    assert {number[:2] for flavour, number in versions if flavour == "rtx"} == {(1, 7)}


def test_the_scan_finds_our_calls() -> None:
    """A renamed variable must not blind the scan."""
    names = used_names()
    assert len([use for use in uses() if use[1]]) > 40
    assert {use[0] for use in uses()} == set(SOURCES)
    assert "build_serialized_network" in names["Builder"]
    assert "execute_async_v3" in names["IExecutionContext"]
    assert {"set_memory_pool_limit", "set_compute_capability"} <= names["IBuilderConfig"]
    assert "deserialize_cuda_engine" in names["Runtime"]
    assert names["IRuntimeConfig"] == {"create_runtime_cache", "set_runtime_cache"}
    assert names["IRuntimeCache"] == {"deserialize", "serialize"}
    assert ("ICudaEngine", "create_execution_context", ("runtime_config",)) in {use[1:] for use in uses()}


@pytest.mark.parametrize("key", API)
def test_every_name_we_use_exists_where_it_is_used(key: str) -> None:
    for owner, members in used_names().items():
        for member in members:
            found = member in API[key].get(owner, {})
            assert found is is_expected(key, owner, member), f"{owner}.{member} in {key}"


@pytest.mark.parametrize("key", API)
def test_every_argument_we_name_exists(key: str) -> None:
    for source, owner, member, keywords in uses():
        known = API[key].get(owner, {}).get(member)
        if not keywords or known is None:
            continue
        if keywords == ("runtime_config",) and parsed(key)[0] == "tensorrt":
            continue  # the runtime gives one to TensorRT for RTX only
        assert set(keywords) <= set(known), f"{owner}.{member} of {key} in {source}"


def test_nothing_is_listed_as_special_that_is_not() -> None:
    for owner, member in SOMETIMES:
        assert any(member not in API[key].get(owner, {}) for key in API), f"{owner}.{member}"
    for owner, member in ONLY_RTX:
        assert any(member in API[key].get(owner, {}) for key in API), f"{owner}.{member}"


@pytest.mark.parametrize("key", API)
def test_the_feature_table_agrees_with_the_bindings(key: str) -> None:
    flavour, version = parsed(key)
    plain = {name: members for name, members in API[key].items() if name and "." not in name}
    holders = {name: SimpleNamespace(**dict.fromkeys(members)) for name, members in plain.items()}
    module = SimpleNamespace(__version__=version, **holders)
    assert features_of(module, flavour) == features_for(version, flavour)


def test_a_capability_that_a_later_release_adds_is_found_without_us() -> None:
    """And one that TensorRT itself may name some day does not make it build ahead of time."""
    plain = {name: members for name, members in API["rtx 1.7.1.116"].items() if name and "." not in name}
    holders = {name: SimpleNamespace(**dict.fromkeys(members)) for name, members in plain.items()}
    module = SimpleNamespace(__version__="1.8.0.1", **holders)
    module.ComputeCapability = SimpleNamespace(NONE=0, CURRENT=1, SM89=2, SM130=3)
    assert features_of(module, "rtx").capabilities == ("8.9", "13.0")
    assert features_of(module, "tensorrt").capabilities == ()


def test_the_snapshot_is_what_the_installed_tensorrt_for_rtx_has() -> None:
    """With its libraries behind it, not stand-ins."""
    module = pytest.importorskip("tensorrt_rtx", exc_type=ImportError)
    key = f"rtx {module.__version__}"
    if key not in API:
        pytest.skip(f"the snapshot has no {key}")
    _, found = look("tensorrt_rtx", {owner: sorted(members) for owner, members in used_names().items()})
    assert found == API[key]
