"""Builds that gave no engine, as TensorRT's versions tell it: what is said of each, and what is advised."""

from dataclasses import replace

import pytest
from plan_facts import FP32, INT8

from samkr_edge.builder.tensorrt.builder_errors import build_error
from samkr_edge.builder.tensorrt.features import features_for
from samkr_edge.builder.tensorrt.plan import BuildPlan, plan_build
from samkr_edge.builder.tensorrt.wishes import Wishes
from samkr_edge.errors import SamkrError
from samkr_edge.onnx_graph.onnx_file import Node, OnnxFile
from samkr_edge.runtime.tensorrt_log import Messages
from targets.profile import load_target

W, E = "WARNING", "ERROR"
NO_ENGINE = (
    E,
    "2: [builder.cpp::buildSerializedNetwork::751] Error Code 2: Internal Error (Assertion engine != nullptr failed. )",
)


def plan(precision: str = "int8", **changes: object) -> BuildPlan:
    facts = INT8 if precision == "int8" else FP32
    wishes = Wishes(precision=precision, workspace_mib=512)
    made = plan_build(load_target("rtx-4090"), features_for("10.3.0"), facts, wishes)
    return replace(made, **changes)


def graph(*names: str) -> OnnxFile:
    nodes = [Node(name.rpartition("/")[2].partition("_")[0], name, [], [], {}, b"") for name in names]
    return OnnxFile(nodes, {}, [], [], 17, {})


def judged(
    *said: tuple[str, str], names: tuple[str, ...] = ("/net/conv1/Conv",), by: BuildPlan | None = None
) -> SamkrError:
    messages = Messages(None, 200, False)
    for severity, text in said:
        messages.hear(severity, text)
    return build_error("m.onnx", "TensorRT 10.3.0", messages, by or plan(), graph(*names))


@pytest.mark.parametrize(
    "said",
    [
        # onnx/onnx-tensorrt#758 and open-mmlab/mmdeploy#48
        [
            (
                W,
                "Skipping tactic 0 due to insuficient memory on requested size of 1170309120 detected for tactic 0.",
            ),
            (
                E,
                "10: [optimizer.cpp::computeCosts::2011] Error Code 10: Internal Error (Could not find any "
                "implementation for node {ForeignNode[transformer.wte.weight...MatMul_2899]}.)",
            ),
            NO_ENGINE,
        ],
        # open-mmlab/mmdeploy#1059 and ultralytics/ultralytics#22271
        [
            (
                W,
                "Tactic Device request: 4364MB Available: 3788MB. Device memory is insufficient to use tactic.",
            ),
            (E, "10: Could not find any implementation for node MaxPool_40."),
        ],
        [
            (
                W,
                "UNSUPPORTED_STATE: Skipping tactic 9 due to insufficient memory on requested size of 1048576000 "
                "detected for tactic 0x8a196054417f1c8a.",
            ),
            (
                E,
                "IBuilder::buildSerializedNetwork: Error Code 10: Internal Error (Could not find any implementation "
                "for node /net/conv1/Conv.)",
            ),
        ],
        [(E, "[defaultAllocator.cpp::allocate::20] Error Code 1: Cuda Runtime (out of memory)"), NO_ENGINE],
        [
            (
                E,
                "Requested amount of GPU memory (8589934592 bytes) could not be allocated. There may not be enough "
                "free memory for allocation to succeed.",
            ),
            NO_ENGINE,
        ],
    ],
)
def test_memory_is_named_where_the_log_names_it(said: list[tuple[str, str]]) -> None:
    error = judged(*said)
    assert error.code == "SE-B96"
    assert "not enough memory" in error.message
    assert "--workspace 1024" in (error.fix or "")


@pytest.mark.parametrize(
    ("said", "node"),
    [
        # Model-Optimizer#50
        (
            [
                (
                    E,
                    "10: Could not find any implementation for node model.10.attn.pe.conv.weight + "
                    "model.10.attn.pe.conv.weight_QuantizeLinear + /model.10/attn/pe/conv/Conv + /model.10/attn/Add.",
                ),
                (
                    E,
                    "10: [optimizer.cpp::computeCosts::3869] Error Code 10: Internal Error (Could not find any "
                    "implementation for node model.10.attn.pe.conv.weight + "
                    "model.10.attn.pe.conv.weight_QuantizeLinear + /model.10/attn/pe/conv/Conv + /model.10/attn/Add.)",
                ),
            ],
            "/model.10/attn/pe/conv/Conv",
        ),
        # NVIDIA/TensorRT#3579
        (
            [
                (
                    E,
                    "10: Could not find any implementation for node SandGlass4.8.weight + "
                    "/SandGlass4/SandGlass4.8/_weight_quantizer/QuantizeLinear + /SandGlass4/SandGlass4.8/Conv + /Add.",
                )
            ],
            "/SandGlass4/SandGlass4.8/Conv",
        ),
        # NVIDIA/TensorRT#3972: 10.x puts no number before it
        (
            [
                (
                    E,
                    "Error Code: 10: Could not find any implementation for node "
                    "{ForeignNode[/net/a/Slice_4.../net/a/Reshape_6]}.",
                )
            ],
            "/net/a/Reshape_6",
        ),
    ],
)
def test_a_missing_kernel_names_the_layer_and_offers_another_precision(
    said: list[tuple[str, str]], node: str
) -> None:
    """A tactic of another layer that was skipped for its memory, as in every build, is not the reason."""
    skipped = (
        W,
        "Skipping tactic 3 due to insuficient memory on requested size of 449 detected for tactic 4.",
    )
    names = (node, "/other/Conv", "/model.10/attn/Add", "/Add")
    error = judged(
        skipped, (W, "Detected invalid timing cache, setup a local cache instead"), *said, names=names
    )
    assert error.code == "SE-B90"
    assert "has no kernel for a layer" in error.message
    assert error.facts["node"].startswith(f"{node} (")
    assert "memory would not help" in error.sentence()
    assert "--workspace" not in str(error)
    assert "--precision fp16" in (error.fix or "")
    assert "another version of TensorRT" in (error.fix or "")


@pytest.mark.parametrize(
    ("by", "fix"),
    [
        (plan("fp16"), "--precision fp32"),
        (plan("fp32"), "another version of TensorRT"),
        (plan("fp16", dla_core=1), "leave --dla-core out"),
        (plan("fp16", target="rtx-any", compute_capabilities=("8.6",)), "--target rtx-any"),
    ],
)
def test_what_is_offered_goes_by_what_was_asked(by: BuildPlan, fix: str) -> None:
    said = (E, "10: Could not find any implementation for node /net/conv1/Conv.")
    assert fix in (judged(said, by=by).fix or "")


def test_what_the_compiler_said_of_its_tactics_is_the_reason_that_is_told() -> None:
    """NVIDIA/TensorRT#2647."""
    error = judged(
        (W, "Skipping tactic 0x0000000000000000 due to Myelin error: Autotuner: no tactics to implement operation"),
        (E, "[optimizer.cpp::computeCosts::3712] Error Code 10: Internal Error (Could not find any implementation for "
            "node {ForeignNode[onnx::Gather_543...Transpose_3934 + Reshape_3943]}.)"),
        NO_ENGINE,
    )  # fmt: skip
    assert "no tactics to implement operation" in error.sentence()
    assert "has no kernel" in error.message


@pytest.mark.parametrize(
    ("said", "meaning", "fix"),
    [
        # NVIDIA/TensorRT#3291
        (
            "1: [codeGenerator.cpp::compileGraph::894] Error Code 1: Myelin (No Myelin Error exists)",
            "compiler failed",
            "--precision fp16",
        ),
        # NVIDIA/TensorRT#4468, in a graph whose nodes have names that mean something elsewhere
        (
            "Internal Error: MyelinCheckException: gvn.cpp:318: CHECK(graph().ssa_validation()) failed. "
            "/head/GridSample",
            "compiler failed",
            "another version of TensorRT",
        ),
        # NVIDIA/TensorRT#3983
        (
            "IBuilder::buildSerializedNetwork: Error Code 6: API Usage Error (Unable to load library: "
            "libnvinfer_builder_resource_win.so.10.2.0: cannot open shared object file: No such file or directory)",
            "not installed",
            "--force-reinstall",
        ),
        (
            "Error Code 1: Cuda Runtime (CUDA driver version is insufficient for CUDA runtime version)",
            "driver is too old",
            "update the NVIDIA driver",
        ),
        (
            "Error Code 1: Cuda Runtime (no kernel image is available for execution on the device)",
            "does not support this GPU",
            "samkr-edge targets",
        ),
        (
            "Error Code 10: Internal Error (something at /head/GridSample)",
            "a bug in this TensorRT",
            "--precision fp16",
        ),
        (
            "Error Code 4: API Usage Error (IShuffleLayer /head/GridSample: reshape changes volume to a multiple)",
            "another batch or image size",
            "--batch",
        ),
    ],
)
def test_what_is_neither_memory_nor_a_kernel_has_a_meaning(said: str, meaning: str, fix: str) -> None:
    error = judged((E, said), NO_ENGINE, names=("/head/GridSample",))
    assert error.code == "SE-B90"
    assert meaning in error.sentence()
    assert fix in (error.fix or "")
    assert "not enough memory" not in error.message
    if "/head" in said:
        assert error.facts["node"] == "/head/GridSample (GridSample)"


def test_a_calibration_that_tensorrt_fails_at_is_sent_to_quantizers() -> None:
    """NVIDIA/TensorRT#4797."""
    said = "[checkSanity.cpp::checkLinks::218] Error Code 2: Internal Error (Assertion item.second != nullptr failed.)"
    assert "samkr-edge quantize" in (judged((E, said), by=plan(calibrate=True)).fix or "")


def test_any_other_failure_quotes_the_last_message_that_says_something() -> None:
    error = judged((E, "first"), (E, "last words"), NO_ENGINE, (W, "a warning"))
    assert error.facts == {"TensorRT": "last words"}
    assert "no reason" in judged().facts["TensorRT"]
    assert "no reason" in judged(NO_ENGINE).facts["TensorRT"]
