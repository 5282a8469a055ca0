"""Code that no GPU has run cannot call what does not exist: every TensorRT name, in every version it is used with."""

import json

import pytest
from tensorrt_api import SNAPSHOT, SOURCES, used_names, uses

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
    ("ILayer", "precision"): ((0,), (11,)),
    ("ILayer", "set_output_type"): ((0,), (11,)),
    ("HardwareCompatibilityLevel", "SAME_COMPUTE_CAPABILITY"): ((10, 13), (99,)),
    ("IBuilderConfig", "int8_calibrator"): ((0,), (11,)),
    ("IBuilderConfig", "progress_monitor"): ((10,), (99,)),
    ("ParserError", "node_name"): ((10,), (99,)),
    ("ParserError", "node_operator"): ((10,), (99,)),
    ("", "IProgressMonitor"): ((10,), (99,)),
    ("", "IInt8EntropyCalibrator2"): ((0,), (11,)),
}


def test_the_snapshot_covers_every_generation() -> None:
    generations = {version_tuple(version)[:2] for version in API}
    assert {(8, 6), (10, 3)} <= generations
    assert {version[0] for version in generations} == {8, 10, 11}


def test_the_scan_finds_our_calls() -> None:
    """A renamed variable must not blind the scan."""
    names = used_names()
    assert len([use for use in uses() if use[1]]) > 40
    assert {use[0] for use in uses()} == set(SOURCES)
    assert "build_serialized_network" in names["Builder"]
    assert "execute_async_v3" in names["IExecutionContext"]
    assert "set_memory_pool_limit" in names["IBuilderConfig"]
    assert "deserialize_cuda_engine" in names["Runtime"]


@pytest.mark.parametrize("version", API)
def test_every_name_we_use_exists_where_it_is_used(version: str) -> None:
    number = version_tuple(version)
    for owner, members in used_names().items():
        for member in members:
            first, last = SOMETIMES.get((owner, member)) or SOMETIMES.get(("", owner)) or ((0,), (99,))
            expected = first <= number < last
            assert (member in API[version].get(owner, {})) is expected, f"{owner}.{member} in {version}"


@pytest.mark.parametrize("version", API)
def test_every_argument_we_name_exists(version: str) -> None:
    for source, owner, member, keywords in uses():
        known = API[version].get(owner, {}).get(member)
        if keywords and known is not None:
            assert set(keywords) <= set(known), f"{owner}.{member} of {version} in {source}"


def test_nothing_is_listed_as_sometimes_that_is_always_there() -> None:
    for owner, member in SOMETIMES:
        assert any(member not in API[version].get(owner, {}) for version in API), f"{owner}.{member}"


def test_the_feature_table_agrees_with_the_bindings() -> None:
    from types import SimpleNamespace

    from samkr_edge.build.features import features_for, features_of

    for version, classes in API.items():
        plain = {name: members for name, members in classes.items() if name and "." not in name}
        holders = {name: SimpleNamespace(**dict.fromkeys(members)) for name, members in plain.items()}
        module = SimpleNamespace(__version__=version, **holders)
        assert features_of(module) == features_for(version)
