"""One runner, called from many threads at once."""

import threading
from collections.abc import Callable

import numpy as np

from samkr_edge.runtime.runner import Runner

THREADS, CALLS = 4, 10


def wrong_results(runner: Runner, images: Callable[[int, int], np.ndarray]) -> list[str]:
    """Threads that got other results than alone, each with images of its own: ``images(count, seed)``."""
    expected = [runner.run(images(2, seed))[0] for seed in range(THREADS)]
    wrong: list[str] = []
    together = threading.Barrier(THREADS)

    def work(seed: int) -> None:
        together.wait()
        for _ in range(CALLS):
            if not np.array_equal(runner.run(images(2, seed))[0], expected[seed]):
                wrong.append(f"thread {seed}")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return wrong
