"""benchmarks.host.head: the grouped offset head beside the looped one."""

import pytest

pytest.importorskip("torch")


def test_the_benchmark_measures_both_forms() -> None:
    from benchmarks.host import head

    times = head.measure_times(8, rounds=1)
    assert set(times) == {"forward", "forward+backward"}
    assert all(entry["grouped_ms"] > 0 and entry["looped_ms"] > 0 for entry in times.values())
