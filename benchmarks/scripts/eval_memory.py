"""Does an evaluation need more memory for more images? Resident memory against images done, of one pass.

    samkr-edge data synth many --train 10 --val 5000 --size 96
    python -m benchmarks.scripts.eval_memory demo/qat.cpu.onnx --data many -o benchmarks/results/eval_memory.json

Prints the memory with model and annotations loaded, what each 1000 images add to it while predicting, and the peaks of
AP and of its interval, which keep what pycocotools matched: a few arrays an image. Linux only.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.measure.peak_memory import peak_rss_mb, resident_mb
from benchmarks.scripts.run_facts import run_facts
from samkr_edge.dataset.keypoint_dataset import open_dataset
from samkr_edge.evaluation.ap import paired_bootstrap, predict_dataset, score
from samkr_edge.files.artefact import require_writable, write_json
from samkr_edge.pose_model import load_model

_EVERY = 250


def main() -> None:
    """Measure, print, and write JSON if ``--out`` is given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--images", type=int, help="only the first N")
    parser.add_argument("-o", "--out", type=Path)
    given = parser.parse_args()
    if given.out:
        require_writable(given.out)
    dataset, model = open_dataset(given.data, given.split), load_model(given.model)
    loaded = resident_mb()
    done, seen = 0, [(0, loaded)]

    def advance() -> None:
        nonlocal done
        done += 1
        if done % _EVERY == 0:
            seen.append((done, resident_mb()))

    results = predict_dataset(model, dataset, limit=given.images, advance=advance)
    images, megabytes = np.array(seen).T
    # Skip the first reading: until then buffers and caches fill, a cost that does not grow with the number of images.
    slope = float(np.polyfit(images[1:], megabytes[1:], 1)[0]) if len(seen) > 2 else float("nan")
    predicted = peak_rss_mb()
    ids = [record.id for record in dataset.images[: given.images]]
    score(dataset, results, ids)
    scored = peak_rss_mb()
    paired_bootstrap(dataset, results, results, image_ids=ids, rounds=20)
    compared = peak_rss_mb()
    print(f"model and annotations loaded     {loaded:7.1f} MB")
    print(f"while predicting, at most        {predicted:7.1f} MB   {done} images, {len(results)} poses kept")
    print(f"each 1000 images more            {1000 * slope:+7.1f} MB")
    print(f"AP, at most                      {scored:7.1f} MB")
    print(f"interval of two models, at most  {compared:7.1f} MB")
    if given.out:
        payload = {
            **run_facts(model, given.model),
            "images": done,
            "poses_kept": len(results),
            "resident_mb": [[int(count), round(value, 1)] for count, value in seen],
            "mb_per_1000_images": round(1000 * slope, 2),
            "peak_mb": {"predicting": predicted, "ap": scored, "interval": compared},
        }
        write_json(given.out, payload)


if __name__ == "__main__":
    main()
