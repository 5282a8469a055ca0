"""FP8 by the real ModelOpt: fake-quantized, saved, fine-tuned, exported, run by ONNX Runtime, built for a GPU."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from test_qat import tune

from calibration.analysis.start import Analysis
from calibration.fp8 import check_fp8
from calibration.policy import Policy, changed_policy, load_policy
from calibration.ptq import enabled_quantizers
from samkr_edge.builder.cpu.build import build_cpu
from samkr_edge.cli import run
from samkr_edge.dataset.keypoint_dataset import open_dataset
from samkr_edge.errors import SamkrError
from samkr_edge.onnx_graph.onnx_facts import facts_of, precision_mix
from samkr_edge.onnx_graph.onnx_reading import read_onnx
from samkr_edge.pose_model import load_model
from samkr_edge.runtime.onnx_runtime import OnnxRunner
from training.checkpoint import Checkpoint, load_checkpoint, network_of
from training.export import export_onnx
from training.models.deploy import normalise

POLICY = changed_policy(load_policy("default"), format="fp8")


@pytest.fixture(scope="module")
def fp8(fp32: Path, people: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fp8") / "fp8.pt"
    code = run(
        ["quantize", str(fp32), "--data", str(people), "--images", "8", "--format", "fp8", "-o", str(out)]
    )
    assert code == 0
    return out


@pytest.fixture(scope="module")
def exported(fp8: Path) -> Iterator[Path]:
    path = fp8.with_name("fp8.onnx")
    assert run(["export", str(fp8), "-o", str(path)]) == 0
    return path


def images(count: int) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 256, (count, 64, 64, 3), dtype=np.uint8)


def test_a_weight_is_what_torch_casts_to_e4m3_with_one_range(fp8: Path) -> None:
    network = network_of(load_checkpoint(fp8))
    quantizers = dict(enabled_quantizers(network))
    weights = [name for name in quantizers if name.endswith("weight_quantizer")]
    assert weights
    for name in weights:
        weight = network.get_submodule(name.rpartition(".")[0]).weight
        assert isinstance(weight, torch.Tensor)
        step = weight.detach().abs().max() / 448
        expected = (weight / step).to(torch.float8_e4m3fn).float() * step
        torch.testing.assert_close(quantizers[name](weight), expected, rtol=1e-6, atol=1e-9)


def test_the_policy_says_where_and_the_format_what(fp8: Path, source: Checkpoint) -> None:
    checkpoint = load_checkpoint(fp8)
    assert checkpoint.card.precision == "fp8"
    assert checkpoint.quantization["policy"] == POLICY.model_dump(mode="json")
    network = network_of(checkpoint)
    quantized = {name for name, _ in enabled_quantizers(network)}
    assert "backbone.conv1.weight_quantizer" in quantized
    assert not any(name.startswith(("heatmap_head.final", "offset_head.final")) for name in quantized)
    image = normalise(torch.from_numpy(images(2)))
    with torch.no_grad():
        pairs = zip(network_of(source).eval()(image), network.eval()(image), strict=True)
        assert all(1e-6 < float((a - b).norm() / a.norm()) < 0.5 for a, b in pairs)


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"calibrator": "mse"}, "mse"), ({"bits": 4}, "8 bits"), ({"activation_bits": 6}, "6")],
)
def test_what_has_no_meaning_for_fp8_is_refused(changes: dict[str, object], word: str) -> None:
    with pytest.raises(SamkrError) as caught:
        check_fp8(changed_policy(POLICY, **changes))
    assert caught.value.code == "SE-U46"
    assert word in str(caught.value)
    check_fp8(changed_policy(POLICY, **changes, format="int8"))


def test_a_rule_with_an_integer_calibrator_is_refused_too() -> None:
    rule = {"match": "*", "precision": "int8", "calibrator": "entropy", "why": "one"}
    policy = Policy.model_validate({"name": "p", "about": "p", "format": "fp8", "rules": [rule]})
    with pytest.raises(SamkrError, match="entropy"):
        check_fp8(policy)


def test_the_analyses_are_of_int8_and_say_so(fp32: Path, people: Path) -> None:
    with pytest.raises(SamkrError) as caught:
        Analysis.of(fp32, people, "default", 8, 0, 1, format="fp8")
    assert caught.value.code == "SE-U47"


def test_an_analysis_is_not_judged_by_the_images_it_calibrates_on(fp32: Path, people: Path) -> None:
    with pytest.raises(SamkrError) as caught:
        Analysis.of(fp32, open_dataset(people, "train").annotation_path, "default", 8, 0, 1)
    assert caught.value.code == "SE-D74"


def test_fine_tuning_goes_on_in_fp8(fp8: Path, people: Path, tmp_path: Path) -> None:
    start = load_checkpoint(fp8)
    finished = tune(start, people, tmp_path, None, 2)
    assert finished.card.precision == "fp8"
    before, after = network_of(start), network_of(finished)
    assert [name for name, _ in enabled_quantizers(before)] == [name for name, _ in enabled_quantizers(after)]
    assert not torch.equal(before.backbone.conv2.weight, after.backbone.conv2.weight)


def test_the_graph_is_of_standard_nodes_with_fp8_zero_points(exported: Path) -> None:
    model = onnx.load(exported)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 19)]
    zeros = {node.input[2] for node in model.graph.node if node.op_type == "QuantizeLinear"}
    types = {tensor.data_type for tensor in model.graph.initializer if tensor.name in zeros}
    assert types == {TensorProto.FLOAT8E4M3FN}
    assert not any(node.op_type.startswith("TRT") or "TRT" in node.name for node in model.graph.node)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_onnx_runtime_computes_what_the_checkpoint_does(fp8: Path, tmp_path: Path, precision: str) -> None:
    path = tmp_path / "fp8.onnx"
    assert run(["export", str(fp8), "-o", str(path), "--precision", precision]) == 0
    expected = load_model(fp8).runner.run(images(2))
    for left, right in zip(expected, load_model(path).runner.run(images(2)), strict=True):
        assert np.linalg.norm(left - right) < 0.3 * np.linalg.norm(left)


def test_optimising_a_graph_does_not_lose_its_relus(exported: Path) -> None:
    """ONNX Runtime drops ReLUs in front of FP8 quantizers, and rounds biases, unless told not to."""
    plain = OnnxRunner(exported, optimise=False).run(images(1))
    for left, right in zip(plain, OnnxRunner(exported).run(images(1)), strict=True):
        assert np.linalg.norm(left - right) < 0.01 * np.linalg.norm(left)


def test_an_opset_without_fp8_is_refused(fp8: Path, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(fp8)
    with pytest.raises(SamkrError) as caught:
        export_onnx(network_of(checkpoint), checkpoint.card, tmp_path / "x.onnx", opset=17)
    assert caught.value.code == "SE-U02"
    assert not list(tmp_path.iterdir())


def test_no_cpu_builds_it(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(SamkrError) as caught:
        build_cpu(exported, tmp_path / "x.onnx")
    assert caught.value.code == "SE-B54"
    assert "int8.onnx" in str(caught.value)


def test_facts_and_mix_name_it(exported: Path) -> None:
    model = read_onnx(exported)
    facts = facts_of(model)
    assert (facts.precision, facts.weights, facts.zero_points) == ("fp8", "fp32", ())
    mix = precision_mix(model)
    assert 0 < mix["fp8_convolutions"] < mix["convolutions"]


def test_inspect_finds_fp8_and_no_asymmetry(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["inspect", str(exported)])
    shown = capsys.readouterr().out
    assert "FP8" in shown
    assert "asymmetric" not in shown
    assert "per-tensor-weight" not in shown


def test_nvidias_builder_takes_it_for_ada_and_refuses_it_for_ampere(exported: Path, tmp_path: Path) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    prepared = tmp_path / "prepared.onnx"
    assert run(["build", str(exported), "--target", "rtx-4090", "--prepared", str(prepared)]) == 0
    log: list[str] = []

    class Log(trt.ILogger):  # type: ignore[misc, name-defined]
        def log(self, _severity: object, message: str) -> None:
            log.append(message)

    def built_for(capability: str) -> bool:
        logger = Log()
        builder = trt.Builder(logger)
        network = builder.create_network(0)
        parser = trt.OnnxParser(network, logger)
        assert parser.parse(prepared.read_bytes()), [
            parser.get_error(i).desc() for i in range(parser.num_errors)
        ]
        config = builder.create_builder_config()
        config.num_compute_capabilities = 1
        config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0)
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        return builder.build_serialized_network(network, config) is not None

    assert built_for("SM89")
    convolutions = [line for text in log for line in text.splitlines() if "LayerType: correlation" in line]
    in_fp8 = [line for line in convolutions if "Datatype: FP8" in line.partition("Constants")[0]]
    assert len(in_fp8) == precision_mix(read_onnx(prepared))["fp8_convolutions"]
    assert not built_for("SM86")
    assert any("fp8_e4m3" in text for text in log)
