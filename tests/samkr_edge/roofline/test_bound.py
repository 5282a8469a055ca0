"""The bound by hand: layers, peaks and sums small enough for a head."""

import math

import pytest

from samkr_edge.roofline.bound import LayerWork, bound, scaled, weight_bytes
from targets.peaks import Peaks

# 1000 INT8 and 100 FP16 products, and 10 bytes a second; 50 bytes stay in the cache.
PEAKS = Peaks({"int8": 1000, "fp16": 100}, ((50, math.inf), (math.inf, 10)))
CONV = LayerWork("conv", "int8", macs=4000, read=60, written=20, weights=10)


def test_a_layer_takes_the_longer_of_computing_and_moving() -> None:
    found = bound([CONV], PEAKS)
    (layer,) = found.layers
    assert (layer.compute, layer.memory) == (4, (60 + 20 + 10 - 50) / 10)
    assert found.seconds == 4
    slow = bound([LayerWork("conv", "int8", 1000, 100, 50, 0)], PEAKS)
    assert slow.seconds == 10
    assert slow.by == "bandwidth"


def test_layers_run_one_after_the_other_each_at_its_own_precision() -> None:
    wide = LayerWork("sum", "fp16", macs=100, read=130, written=20, weights=0)
    found = bound([CONV, wide, LayerWork("head", "fp16", 500, 10, 10, 10)], PEAKS)
    assert [layer.seconds for layer in found.layers] == [4, 10, 5]
    assert [layer.by for layer in found.layers] == ["compute", "bandwidth", "compute"]
    assert found.seconds == 19
    assert found.bandwidth_share == pytest.approx(10 / 19)
    assert found.by == "bandwidth"


def test_a_layer_without_products_needs_no_peak() -> None:
    assert bound([LayerWork("copy", "?", 0, 50, 50, 0)], PEAKS).seconds == 5


def test_a_precision_without_a_peak_has_no_bound() -> None:
    with pytest.raises(KeyError):
        bound([LayerWork("conv", "fp8", 1, 0, 0, 0)], PEAKS)


def test_no_layers_take_no_time() -> None:
    assert bound([], PEAKS).seconds == 0
    assert bound([], PEAKS).bandwidth_share == 0


def test_more_pixels_are_more_work_but_no_more_weights() -> None:
    (twice,) = scaled([CONV], 2)
    assert twice == LayerWork("conv", "int8", 8000, 120, 40, 10)
    assert weight_bytes([CONV, twice]) == 20
