"""What is built right agrees with its source with room; a known fault is refused and named, also below the noise.

Judged on a samkr_tiny trained on rendered people, whose faults are made in the graph and computed by ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from graph_faults import broken, half_grid, half_offsets, nearest, no_mean, swapped

from benchmarks.selftest.carried import TRAINED, write_network
from samkr_edge.builder.check import suspects
from samkr_edge.builder.check.agreement import FLOAT_BOUNDS, ON_NOISE, Agreement, Reference, judge
from samkr_edge.builder.check.candidates import STANDING_OUT, judge_candidates
from samkr_edge.builder.check.maps import Maps, opened, run_maps
from samkr_edge.builder.check.people import refuse_blind
from samkr_edge.builder.check.probe import PROBE_KEY, make_probe
from samkr_edge.builder.check.reference import reference_of
from samkr_edge.builder.cpu.retarget import retarget
from samkr_edge.builder.tensorrt.half import bake
from samkr_edge.errors import SamkrError
from samkr_edge.model_card import ModelCard
from samkr_edge.onnx_graph.onnx_file import OnnxFile, with_metadata
from samkr_edge.onnx_graph.onnx_reading import decode_onnx
from samkr_edge.pose.skeleton import COCO17

NEAREST, GRID = "GridSample took the nearest pixel", "the sampling grid were rounded to FP16"
SWAPPED, LAST = "red and blue were swapped", "the last operation of the offset were in FP16"


@dataclass(frozen=True)
class Judged:
    """A graph with its probe, what it is judged by, and the images to run."""

    graph: bytes
    card: ModelCard
    reference: Reference
    images: np.ndarray

    def of(self, model: OnnxFile, precision: str, images: np.ndarray | None = None) -> Agreement:
        found = run_maps(model, self.images if images is None else images)
        return judge(self.reference, found, self.card, precision)

    def of_candidates(self, model: OnnxFile, precision: str) -> Agreement:
        with opened(model, self.card.outputs) as runner:
            found = runner.run(self.images)
        return judge_candidates(self.reference, found, self.card, precision)


def figures() -> list[np.ndarray]:
    """Rendered people."""
    pytest.importorskip("torch")
    from training.data.rendered.probe import rendered_probe

    jpegs = rendered_probe().jpegs
    return [cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)[..., ::-1] for jpeg in jpegs]


def judged(folder: Path, **options: object) -> Judged:
    card = write_network(folder / "tiny.onnx", TRAINED, **options)  # type: ignore[arg-type]
    model = decode_onnx((folder / "tiny.onnx").read_bytes())
    model.drop_metadata(PROBE_KEY)
    graph = with_metadata(model.encode(), PROBE_KEY, make_probe("rendered", figures()).to_text())
    reference, images = reference_of(decode_onnx(graph), card)
    return Judged(graph, card, reference, images)


@pytest.fixture(scope="module")
def floats(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    return judged(tmp_path_factory.mktemp("float"))


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    return judged(tmp_path_factory.mktemp("int8"), quantized=True)


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    return judged(tmp_path_factory.mktemp("candidates"), decode_in="graph")


def use(agreement: Agreement) -> float:
    """The largest share of a bound that is used."""
    shares = [error / bound for error, bound in zip(agreement.errors, agreement.allowed, strict=True)]
    if agreement.largest_allowed is not None:
        shares.append(agreement.largest / agreement.largest_allowed)
    moved = agreement.joints_largest if agreement.precision in FLOAT_BOUNDS else agreement.joints_median
    return max(*shares, moved / agreement.joints_allowed)


def built_for_cpu(graph: bytes) -> OnnxFile:
    return decode_onnx(retarget(onnx.load_from_string(graph))[0].SerializeToString())


def test_right_float_builds_agree_with_room(floats: Judged) -> None:
    assert floats.reference.people
    for model, precision in (
        (decode_onnx(floats.graph), "fp32"),
        (built_for_cpu(floats.graph), "fp32"),
        (decode_onnx(bake(floats.graph)), "fp16"),
    ):
        agreement = floats.of(model, precision)
        assert agreement.holds, agreement.facts()
        assert use(agreement) < 0.5
        assert agreement.kept == agreement.people > 3


def test_right_int8_builds_agree_with_room(int8: Judged) -> None:
    for model in (decode_onnx(int8.graph), built_for_cpu(int8.graph), decode_onnx(bake(int8.graph))):
        agreement = int8.of(model, "int8")
        assert agreement.holds, agreement.facts()
        assert use(agreement) < 0.6


@pytest.mark.parametrize("baked", [False, True], ids=["fp32", "fp16"])
@pytest.mark.parametrize(
    ("fault", "name"),
    [(nearest, NEAREST), (half_grid, GRID), (half_offsets, LAST)],
    ids=lambda x: str(x)[:12],
)
def test_a_fault_of_a_float_build_is_named(
    floats: Judged, fault: Callable[[OnnxFile], None], name: str, baked: bool
) -> None:
    graph = bake(floats.graph) if baked else floats.graph
    agreement = floats.of(broken(graph, fault), "fp16" if baked else "fp32")
    assert not agreement.holds
    assert agreement.faults == (name,)
    assert agreement.facts()["fault"] == [f"it computes as if {name}"]


def test_a_grid_in_fp16_is_seen_below_the_bounds(floats: Judged) -> None:
    agreement = floats.of(broken(bake(floats.graph), half_grid), "fp16")
    assert use(agreement) < 0.5
    assert not agreement.holds


@pytest.mark.parametrize("baked", [False, True], ids=["fp32", "fp16"])
@pytest.mark.parametrize(
    ("fault", "name"), [(nearest, NEAREST), (half_offsets, LAST)], ids=["nearest", "last"]
)
def test_a_fault_of_an_int8_build_is_named(
    int8: Judged, fault: Callable[[OnnxFile], None], name: str, baked: bool
) -> None:
    graph = bake(int8.graph) if baked else int8.graph
    agreement = int8.of(broken(graph, fault), "int8")
    assert use(agreement) < 0.6
    assert agreement.faults == (name,)
    assert not agreement.holds


def test_swapped_channels_and_a_wrong_normalisation_are_refused(floats: Judged, int8: Judged) -> None:
    for source, precision in ((floats, "fp32"), (floats, "fp16"), (int8, "int8")):
        agreement = source.of(decode_onnx(source.graph), precision, swapped(source.images))
        assert not agreement.holds
        assert agreement.faults == (SWAPPED,)
        assert not source.of(broken(source.graph, no_mean), precision).holds


def test_int8_that_the_builder_chose_is_judged_by_its_people(floats: Judged, int8: Judged) -> None:
    """The source has no quantizers: what differs by 0.1 is right, what loses people is not."""
    agreement = floats.of(decode_onnx(int8.graph), "int8")
    assert max(agreement.errors) > 0.05
    assert agreement.holds, agreement.facts()
    assert use(agreement) < 0.5
    away = floats.reference.maps.heatmap.copy()
    away[:, -1] = 0
    lost = judge(floats.reference, Maps(away, floats.reference.maps.association), floats.card, "int8")
    assert not lost.holds
    assert lost.kept == 0
    aside = Maps(floats.reference.maps.heatmap, floats.reference.maps.association + 2)
    assert not judge(floats.reference, aside, floats.card, "int8").holds


def test_a_few_pixels_far_out_are_no_fault_of_fp16(floats: Judged) -> None:
    """A right FP16 graph of a trained network whose weights were scattered by 15 % was off by 0.022 there."""
    heatmap, offset = floats.reference.maps
    for share, holds in ((0.025, True), (0.1, False)):
        off = offset.copy()
        off[2, 25, -3:, -3:] += share * np.abs(offset).max()
        assert judge(floats.reference, Maps(heatmap, off), floats.card, "fp16").holds is holds


@pytest.mark.parametrize(
    ("value", "code", "words"),
    [
        (np.nan, "SE-B55", "itself computes NaN"),
        (0, "SE-A28", "the same centre heatmap for every picture"),
    ],
)
def test_a_source_that_computes_nan_or_sees_nothing_is_told_as_that(
    floats: Judged, value: float, code: str, words: str
) -> None:
    model = decode_onnx(floats.graph)
    name, weight = next((name, one) for name, one in model.tensors.items() if len(one.dims) == 4)
    values = weight.array()
    assert values is not None
    model.put({name: np.full_like(values, value)})
    with pytest.raises(SamkrError, match=words) as raised:
        reference_of(model, floats.card)
    assert raised.value.code == code


@pytest.mark.filterwarnings("error")
def test_what_a_fault_changes_is_compared_without_a_warning_also_where_maps_are_infinite() -> None:
    infinite = Maps(*np.full((2, 1, 3, 4, 4), np.inf, np.float32))
    assert np.isnan(suspects._difference(infinite, infinite).heatmap).all()


@pytest.mark.parametrize("pictures", [1, 4])
def test_whoever_answers_to_the_picture_at_all_is_not_blind(pictures: int) -> None:
    """Also as faintly as an untrained network."""
    heatmap = np.full((pictures, 3, 4, 4), -4.6, np.float32)
    offset = np.zeros((pictures, 4, 4, 4), np.float32)
    with pytest.raises(SamkrError, match="for every picture"):
        refuse_blind(Maps(heatmap, offset), ModelCard("samkr_tiny", COCO17, (64, 64)), "noise")
    heatmap[0, -1, 2, 2] += 1e-4
    refuse_blind(Maps(heatmap, offset), ModelCard("samkr_tiny", COCO17, (64, 64)), "noise")


def _gone(maps: np.ndarray, channels: slice) -> np.ndarray:
    maps = maps.copy()
    maps[:, channels] = 0
    return maps


def _exchanged(maps: np.ndarray, one: slice, other: slice) -> np.ndarray:
    exchanged = maps.copy()
    exchanged[:, one], exchanged[:, other] = maps[:, other], maps[:, one]
    return exchanged


def test_one_keypoint_computed_wrongly_is_seen_behind_int8(floats: Judged, int8: Judged) -> None:
    """Less than a whole map's error of quantization, and no joint of the median."""
    heatmap, offset = run_maps(decode_onnx(bake(int8.graph)), int8.images)
    for wrong, part, names in (
        (Maps(_gone(heatmap, slice(9, 10)), offset), "heatmap", {"left_wrist"}),
        (
            Maps(_exchanged(heatmap, slice(5, 6), slice(6, 7)), offset),
            "heatmap",
            {"left_shoulder", "right_shoulder"},
        ),
        (Maps(heatmap, _gone(offset, slice(30, 32))), "offset", {"left_ankle"}),
    ):
        for source in (int8, floats):  # of floats: the builder chose the INT8
            agreement = judge(source.reference, wrong, source.card, "int8")
            assert not agreement.holds
            (fault,) = agreement.faults
            assert fault in {f"the {part} of {name} were something else" for name in names}


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_what_computes_nothing_is_refused_in_every_precision(
    floats: Judged, int8: Judged, value: float
) -> None:
    for source, precision in ((floats, "fp32"), (floats, "fp16"), (floats, "int8"), (int8, "int8")):
        nothing = Maps(*(np.full_like(maps, value) for maps in source.reference.maps))
        agreement = judge(source.reference, nothing, source.card, precision)
        assert not agreement.holds
        # It resembles what an image that was not normalised gives, and zeros are BF16 numbers.
        assert all("something else" in fault for fault in agreement.faults)


def test_an_untrained_network_raises_no_alarm(float_onnx: Path, int8_onnx: Path) -> None:
    for path, precision in ((float_onnx, "fp32"), (int8_onnx, "int8")):
        graph = path.read_bytes()
        card = replace(ModelCard.from_json(decode_onnx(graph).metadata["samkr_edge"]), provenance={})
        reference, images = reference_of(decode_onnx(graph), card)
        found = run_maps(decode_onnx(bake(graph)), images)
        agreement = judge(reference, found, card, "fp16" if precision == "fp32" else precision)
        assert agreement.holds, agreement.facts()
        assert agreement.people == 0
        assert "nobody" in agreement.sentence()


def test_candidates_in_another_order_are_the_same_people(candidates: Judged) -> None:
    with opened(decode_onnx(candidates.graph), candidates.card.outputs) as runner:
        outputs = runner.run(candidates.images)
    order = np.random.default_rng(0).permutation(outputs[0].shape[1])
    found = [output[:, order] for output in outputs]
    agreement = judge_candidates(candidates.reference, found, candidates.card, "fp32")
    assert agreement.holds, agreement.facts()
    assert agreement.kept == agreement.people > 3
    assert agreement.joints_largest < 1e-3


def test_candidates_are_judged_as_maps_are(candidates: Judged) -> None:
    right = candidates.of_candidates(decode_onnx(bake(candidates.graph)), "fp16")
    assert right.holds, right.facts()
    assert use(right) < 0.5
    for fault, name in ((nearest, NEAREST), (half_grid, GRID), (half_offsets, LAST)):
        agreement = candidates.of_candidates(broken(candidates.graph, fault), "fp32")
        assert agreement.faults == (name,)
    nobody = candidates.reference.maps.heatmap[:, :1, :30, 0].reshape(-1, 30) * 0
    nowhere = np.zeros((len(nobody), 30, 17, 3), np.float32)
    lost = (nowhere, nobody, nowhere[..., :2])
    assert not judge_candidates(candidates.reference, lost, candidates.card, "int8").holds


def test_behind_int8_people_and_joints_decide_of_candidates(
    candidates: Judged, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What quantizing did to a few peaks says little of what another rounding does to them."""
    monkeypatch.setitem(STANDING_OUT, "int8", STANDING_OUT["fp16"])  # so that there are peaks to compare
    with opened(decode_onnx(candidates.graph), candidates.card.outputs) as runner:
        poses, *others = runner.run(candidates.images)
    reference = candidates.reference._replace(unquantized=candidates.reference.maps)

    def moved(pixels: float) -> Agreement:
        shift = np.random.default_rng(0).normal(0, pixels, (*poses.shape[:3], 2)).astype(np.float32)
        found = np.concatenate([poses[..., :2] + shift, poses[..., 2:]], axis=3)
        joints = [found[..., :2]] if len(others) > 1 else []
        return judge_candidates(reference, [found, others[0], *joints], candidates.card, "int8")

    assert moved(0.5).holds
    assert max(moved(0.5).errors) > 0.02  # of noise that is 0, no more is allowed in maps
    assert not moved(6.0).holds


def test_the_sentence_speaks_of_people_and_pixels(floats: Judged) -> None:
    agreement = floats.of(broken(floats.graph, nearest), "fp32")
    sentence = agreement.sentence()
    assert sentence.startswith(
        f"on 4 rendered images people {agreement.kept} of {agreement.people} stay; joints move"
    )
    assert f"offset {agreement.errors[1]:.0e} of 2e-03 allowed" in sentence
    assert agreement.to_dict()["faults"] == [NEAREST]
    assert agreement.to_dict()["people"]["seen"] == agreement.people


def test_a_file_without_a_probe_is_judged_on_noise_and_says_so(floats: Judged) -> None:
    model = decode_onnx(floats.graph)
    model.drop_metadata(PROBE_KEY)
    reference, images = reference_of(model, floats.card)
    assert len(images) == 1
    agreement = judge(reference, run_maps(decode_onnx(bake(floats.graph)), images), floats.card, "fp16")
    assert agreement.holds
    assert "export it again" in agreement.sentence()
    assert agreement.allowed[0] == ON_NOISE * FLOAT_BOUNDS["fp16"][0]
