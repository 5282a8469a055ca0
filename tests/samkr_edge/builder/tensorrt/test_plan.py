"""The build plan: every JetPack of the matrix, every card, every refusal; no TensorRT needed."""

from dataclasses import replace
from typing import Any

import pytest
from plan_facts import FP32, INT8

from samkr_edge.builder.tensorrt.features import features_for
from samkr_edge.builder.tensorrt.plan import MIB, BuildPlan, plan_best, plan_build, workspace
from samkr_edge.builder.tensorrt.wishes import Wishes
from samkr_edge.errors import SamkrError
from samkr_edge.onnx_graph.onnx_facts import OnnxFacts
from targets.jetpack import JETPACKS, NANO, ORIN, THOR, TX2, XAVIER
from targets.profile import load_target

NODC = replace(FP32, ops={"Conv": 300}, grid_modes=())
BAKED_FP16 = replace(FP32, precision="fp16", weights="fp16", opset=19)
BAKED_INT8 = replace(INT8, weights="fp16", opset=19, fp16_scales=900)
FP8 = replace(INT8, precision="fp8", opset=19)
MODULE = {
    NANO: "jetson-nano", TX2: "jetson-tx2", XAVIER: "jetson-xavier-nx", ORIN: "jetson-agx-orin", THOR: "jetson-thor",
}  # fmt: skip
# JetPack -> typing, network flags, builder flags and steps of an FP32-weight Q/DQ graph.
WEAK_INT8 = ("FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS")
BAKED_STEPS = ("drop_branch_quantizers", "cast_first", "bake_fp16")
WEAK_ROW = ("weak", ("EXPLICIT_BATCH",), WEAK_INT8, ("drop_branch_quantizers", "cast_first"))
STRONG_ROW = ("strong", ("STRONGLY_TYPED",), (), BAKED_STEPS)
EXPECTED: dict[str, tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "5.1": WEAK_ROW,
    "6.0": WEAK_ROW,
    "6.1": STRONG_ROW,
    "6.2": STRONG_ROW,
    "7.0": STRONG_ROW,
    "7.1": STRONG_ROW,
    "7.2": STRONG_ROW,
    "7.2.2": ("strong", (), (), BAKED_STEPS),
}
ROWS = [(release, chip) for release in JETPACKS for chip in release.chips]


def plan(
    target: str, version: str, onnx: OnnxFacts = INT8, free_bytes: int | None = None, **wishes: Any
) -> BuildPlan:
    return plan_build(load_target(target), features_for(version), onnx, Wishes(**wishes), free_bytes)


def refusal(*arguments: Any, **wishes: Any) -> SamkrError:
    with pytest.raises(SamkrError) as raised:
        plan(*arguments, **wishes)
    return raised.value


@pytest.mark.parametrize(("release", "chip"), ROWS, ids=lambda v: getattr(v, "version", v))
def test_every_jetpack_gives_a_plan_or_says_why_not(release: Any, chip: str) -> None:
    if release.version in EXPECTED:
        made = plan(MODULE[chip], release.tensorrt)
        assert (made.typing, made.network_flags, made.builder_flags, made.steps) == EXPECTED[release.version]
        assert made.precision == "int8"
        assert made.cleared_flags == ("TF32",)
        assert made.by_hand is None
    else:
        error = refusal(MODULE[chip], release.tensorrt)
        assert error.code in ("SE-V80", "SE-V88")
        assert "INT8" in error.message if chip in (NANO, TX2) else "JetPack 5.1" in (error.fix or "")


@pytest.mark.parametrize("name", ["jetson-nano", "jetson-tx2"])
def test_an_old_module_is_offered_fp16_of_a_network_without_sampling(name: str) -> None:
    error = refusal(name, "8.2.1")
    assert "FP16" in str(error.fix)
    assert refusal(name, "8.2.1", FP32).code == "SE-B88"
    made = plan(name, "8.2.1", NODC)
    assert made.precision == "fp16"
    assert made.steps == ("cast_first", "float_input")
    assert "trtexec" in (made.by_hand or "")
    assert "--precision fp16" in (made.by_hand or "")


@pytest.mark.parametrize(
    ("version", "onnx", "typing", "network", "flags"),
    [
        ("8.6.1", FP32, "weak", ("EXPLICIT_BATCH",), ("FP16", "OBEY_PRECISION_CONSTRAINTS")),
        ("10.3.0", FP32, "strong", ("STRONGLY_TYPED",), ()),
        ("10.3.0", BAKED_FP16, "strong", ("STRONGLY_TYPED",), ()),
        ("10.13.3", BAKED_INT8, "strong", ("STRONGLY_TYPED",), ()),
        ("11.4.1", BAKED_FP16, "strong", (), ()),
        ("11.4.1", BAKED_INT8, "strong", (), ()),
    ],
)
def test_precision_comes_by_flags_or_in_the_graph_never_both(
    version: str, onnx: OnnxFacts, typing: str, network: tuple[str, ...], flags: tuple[str, ...]
) -> None:
    made = plan("rtx-4090", version, onnx)
    assert (made.typing, made.network_flags, made.builder_flags) == (typing, network, flags)


@pytest.mark.parametrize("version", ["10.3", "10.16.1", "11.4"])
@pytest.mark.parametrize("onnx", [FP32, INT8])
def test_where_strong_typing_is_fp16_is_baked_into_the_graph(version: str, onnx: OnnxFacts) -> None:
    made = plan("rtx-4090", version, onnx)
    assert (made.typing, made.steps[-1]) == ("strong", "bake_fp16")
    assert any("baked into the graph" in note for note in made.notes)
    whole = plan("rtx-4090", version, onnx, precision="fp32")
    assert (whole.typing, whole.builder_flags) == ("strong", ())
    assert "bake_fp16" not in whole.steps
    assert any("without TF32" in note for note in whole.notes)


@pytest.mark.parametrize(("version", "onnx"), [("8.6.1", INT8), ("10.3.0", BAKED_INT8), ("11.4", BAKED_INT8)])
def test_nothing_is_baked_where_typing_is_weak_or_it_is_done_already(version: str, onnx: OnnxFacts) -> None:
    assert "bake_fp16" not in plan("rtx-4090", version, onnx).steps


def test_without_the_onnx_package_typing_is_weak_and_the_plan_says_what_to_install() -> None:
    features = replace(features_for("10.3.0"), onnx_package=False)
    made = plan_build(load_target("rtx-4090"), features, INT8, Wishes())
    assert (made.typing, made.network_flags, made.builder_flags) == ("weak", (), WEAK_INT8)
    assert "bake_fp16" not in made.steps
    assert "weak typing" in made.describe()
    assert "samkr-edge[build]" in made.describe()
    # Nothing needs to be baked for these.
    for onnx, precision in ((BAKED_INT8, None), (INT8, "fp32")):
        wishes = Wishes(precision=precision)
        assert plan_build(load_target("rtx-4090"), features, onnx, wishes).typing == "strong"
    # Without flags there is no other way, and the build says what it lacks.
    gone = replace(features_for("11.4"), onnx_package=False)
    assert plan_build(load_target("rtx-4090"), gone, INT8, Wishes()).typing == "strong"


def test_int8_in_groups_of_a_few_channels_stays_float_and_is_told() -> None:
    onnx = replace(INT8, odd_groups=3)
    made = plan("rtx-4090", "10.3.0", onnx)
    assert "drop_odd_groups" in made.steps
    assert any(note.startswith("3 grouped convolutions") for note in made.notes)
    assert "drop_odd_groups" not in plan("rtx-4090", "10.3.0", onnx, precision="fp16").steps
    assert "drop_odd_groups" not in plan("rtx-4090", "10.3.0").steps


def test_a_quantized_graph_gives_float_engines_without_its_quantizers() -> None:
    for precision in ("fp16", "fp32"):
        made = plan("rtx-4090", "10.3.0", precision=precision)
        assert made.steps[0] == "strip_quantizers"
        assert "INT8" not in made.builder_flags
    assert plan("rtx-4090", "8.6.1", precision="fp32").builder_flags == ()


@pytest.mark.parametrize(
    ("target", "version"), [("rtx-4090", "10.3"), ("rtx-5090", "11.1"), ("jetson-thor", "10.13")]
)
def test_fp8_is_strongly_typed_from_ada_on(target: str, version: str) -> None:
    found = plan(target, version, FP8)
    assert (found.precision, found.typing) == ("fp8", "strong")
    assert found.steps == ("drop_branch_quantizers", "cast_first", "bake_fp16")
    assert not {"FP16", "INT8"} & set(found.builder_flags)
    assert [p.precision for p in plan_best(load_target(target), features_for(version), FP8, Wishes())] == [
        "fp16",
        "fp8",
    ]


@pytest.mark.parametrize(
    ("target", "version", "reason"),
    [
        ("rtx-3060", "10.3", "SM 8.6"),
        ("jetson-orin-nano", "10.3", "SM 8.7"),
        ("rtx-4090", "8.6", "strongly typed"),
    ],
)
def test_fp8_where_it_cannot_run_is_refused_and_fp16_is_not(target: str, version: str, reason: str) -> None:
    error = refusal(target, version, FP8)
    assert error.code == "SE-V88"
    assert reason in str(error)
    if version != "8.6":  # which takes no opset 19 at all
        assert plan(target, version, FP8, precision="fp16").steps[0] == "strip_quantizers"


def test_fp8_and_int8_are_not_made_of_each_other() -> None:
    assert "no FP8" in str(refusal("rtx-4090", "10.3", INT8, precision="fp8"))
    assert "no INT8" in str(refusal("rtx-4090", "10.3", FP8, precision="int8"))


def test_best_is_fp16_and_int8_of_one_graph() -> None:
    plans = plan_best(load_target("rtx-4090"), features_for("10.3.0"), INT8, Wishes())
    assert [made.precision for made in plans] == ["fp16", "int8"]
    with pytest.raises(SamkrError, match="nothing to make INT8 from"):
        plan_best(load_target("rtx-4090"), features_for("10.3.0"), FP32, Wishes())


@pytest.mark.parametrize(
    ("onnx", "version", "words"),
    [
        (replace(FP32, opset=20), "10.3.0", "nearest pixel"),
        (replace(FP32, opset=19, grid_modes=("linear",)), "11.1", "nearest pixel"),
        (replace(FP32, opset=19), "8.6.1", "up to opset 17"),
        (replace(NODC, opset=22), "10.3.0", "up to opset 21"),
        (replace(NODC, ops={"DeformConv": 2}, opset=19), "10.3.0", "through a plugin"),
        (replace(INT8, zero_points=("/a/QuantizeLinear",)), "10.3.0", "symmetric"),
        (replace(INT8, bad_scales=("/a/QuantizeLinear",)), "10.3.0", "not positive"),
        (replace(INT8, fp16_scales=3), "8.6.1", "noise"),
        (replace(INT8, bare_quantizers=3), "8.6.1", "zero point"),
        (replace(FP32, broken_weights=("conv1.weight",)), "10.3.0", "NaN"),
        (replace(FP32, built_for="cpu"), "10.3.0", "already built"),
    ],
)
def test_a_graph_that_tensorrt_would_refuse_or_misread_is_refused_first(
    onnx: OnnxFacts, version: str, words: str
) -> None:
    error = refusal("rtx-3090", version, onnx)
    assert error.code == "SE-B88"
    assert words in error.message
    assert error.fix


def test_an_int8_problem_of_the_graph_does_not_stop_an_fp16_engine() -> None:
    assert plan("rtx-3090", "10.3.0", replace(INT8, bad_scales=("/a",)), precision="fp16").precision == "fp16"


@pytest.mark.parametrize(
    ("target", "version", "words"),
    [
        ("rtx-5090", "10.3.0", "10.8"),
        ("rtx-4090", "12.0.0", "newer than"),
        ("rtx-3090", "8.4.1", "8.5"),
    ],
)
def test_a_version_that_does_not_fit_the_device_is_refused(target: str, version: str, words: str) -> None:
    error = refusal(target, version, FP32)
    assert error.code == "SE-V80"
    assert words in error.sentence()


@pytest.mark.parametrize(
    ("onnx", "wishes", "words"),
    [
        (FP32, {"precision": "int8"}, "no INT8"),
        (INT8, {"calibrate": True}, "without Q/DQ"),
        (BAKED_FP16, {"precision": "fp32"}, "FP16 already"),
        (FP32, {"batch": 8}, "another batch size"),
        (FP32, {"hardware_compatible": "everywhere"}, "hardware compatibility"),
        (replace(FP32, input_shape=(1, None, None, 3)), {}, "image size open"),
    ],
)
def test_wishes_that_do_not_fit_are_usage_errors(onnx: OnnxFacts, wishes: dict[str, Any], words: str) -> None:
    error = refusal("rtx-4090", "10.3.0", onnx, **wishes)
    assert error.code in ("SE-U36", "SE-U83", "SE-U88", "SE-U90")
    assert words in error.message


def test_calibration_is_for_float_graphs_and_versions_that_have_it() -> None:
    made = plan("rtx-4090", "10.3.0", FP32, calibrate=True)
    assert (made.precision, made.calibrate, made.typing) == ("int8", True, "weak")
    assert made.builder_flags == WEAK_INT8
    assert "float_input" in made.steps
    assert refusal("rtx-4090", "11.4", BAKED_FP16, calibrate=True).code == "SE-U36"


def test_an_open_batch_gets_a_profile_and_a_fixed_one_none() -> None:
    assert plan("rtx-4090", "10.3.0", FP32).profile_batch is None
    made = plan("rtx-4090", "10.3.0", replace(FP32, input_shape=(None, 512, 512, 3)), batch=8)
    assert (made.profile_batch, made.input_shape) == (8, (8, 512, 512, 3))


@pytest.mark.parametrize(
    ("free", "asked", "expected"),
    [(64 << 30, None, 4096), (3 << 30, None, 1536), (100 << 20, None, 128), (8 << 30, 6000, 6000)],
)
def test_the_workspace_follows_the_free_memory(free: int, asked: int | None, expected: int) -> None:
    target = load_target("jetson-orin-nano")
    assert workspace(target, Wishes(workspace_mib=asked), free) == expected * MIB


def test_a_workspace_beyond_the_memory_is_refused_with_one_that_fits() -> None:
    error = refusal("jetson-orin-nano", "10.3.0", INT8, 2 << 30, workspace_mib=4096)
    assert (error.code, error.fix) == ("SE-U85", "--workspace 1024")


def test_where_no_workspace_fits_none_is_offered() -> None:
    error = refusal("jetson-orin-nano", "10.3.0", INT8, 100 << 20, workspace_mib=200)
    assert (error.code, error.fix) == ("SE-U85", "close other programs that use memory")


def test_dla_is_fp16_with_the_gpu_for_the_rest() -> None:
    made = plan("jetson-orin-nx", "10.3.0", precision="fp16", dla_core=1)
    assert made.builder_flags == ("FP16", "OBEY_PRECISION_CONSTRAINTS", "GPU_FALLBACK")
    assert made.dla_core == 1
    assert any("experimental" in note for note in made.notes)


@pytest.mark.parametrize(
    ("target", "version", "wishes", "code"),
    [
        ("jetson-orin-nano", "10.3.0", {"precision": "fp16", "dla_core": 0}, "SE-V81"),
        ("jetson-orin-nx", "10.3.0", {"precision": "fp16", "dla_core": 2}, "SE-V81"),
        ("jetson-orin-nx", "10.16.2", {"precision": "fp16", "dla_core": 0}, "SE-V81"),
        ("jetson-orin-nx", "10.3.0", {"dla_core": 0}, "SE-U36"),
        ("rtx-4090", "10.3.0", {"precision": "fp16", "dla_core": 0}, "SE-V81"),
    ],
)
def test_a_dla_that_cannot_is_refused(target: str, version: str, wishes: dict[str, Any], code: str) -> None:
    assert refusal(target, version, INT8, **wishes).code == code


@pytest.mark.parametrize(
    ("target", "version", "wish", "level"),
    [
        ("rtx-3090", "8.6.1", "ampere+", "AMPERE_PLUS"),
        ("rtx-4090", "10.13.3", "same", "SAME_COMPUTE_CAPABILITY"),
        ("rtx-4090", "10.9.0", "same", "SAME_COMPUTE_CAPABILITY"),  # which its release notes bring
        ("rtx-4090", "10.8.0", "same", None),
        ("rtx-2080", "10.3.0", "ampere+", None),
        ("jetson-agx-orin", "10.13.3", "same", None),
    ],
)
def test_hardware_compatibility_where_it_exists(
    target: str, version: str, wish: str, level: str | None
) -> None:
    if level is None:
        assert refusal(target, version, hardware_compatible=wish).code == "SE-U83"
    else:
        assert plan(target, version, hardware_compatible=wish).hardware_compatibility == level


def test_the_timing_cache_belongs_to_one_device_and_version() -> None:
    names = {plan(t, v).timing_cache for t in ("rtx-3090", "rtx-4090") for v in ("8.6.1", "10.3.0")}
    assert len(names) == 4


def test_a_plan_prints_every_setting() -> None:
    shown = plan("jetson-orin-nano", "10.3.0", level=5, version_compatible=True).describe()
    parts = ("jetson-orin-nano-8gb", "10.3.0", "strong typing", "STRONGLY_TYPED VERSION_COMPATIBLE", "TF32")
    for part in (*parts, "cast_first", "1x512x512x3", "MiB", "slower"):
        assert part in shown
    weak = plan("jetson-xavier-nx", "8.6.2", version_compatible=True).describe()
    assert "FP16 INT8 OBEY_PRECISION_CONSTRAINTS VERSION_COMPATIBLE" in weak
    assert "weak typing" in weak
