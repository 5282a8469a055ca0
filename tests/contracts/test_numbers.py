"""Every figure on a page is one of a kept run in benchmarks/results: the sentences are written here from the runs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))
# A figure: a number of something measured, one with its interval, or one that fills the cell of a table.
FIGURE = re.compile(
    r"[-+−]?\d+(?:\.\d+)?(?:×| (?:%|MB|ms|AP|fps|kernels|times the|to \d+ in)(?!\w))|[-+−]?\d+\.\d+ (?:±|\[)"
    r"|(?<=\| )[-+−]?\d+(?:\.\d+)?(?= \|)"
)
# Numbers that nobody measured: settings, percentiles, sizes of downloads.
SET = {
    "docs/bounds.md": ["needs 15 ms at least"],
    "docs/benchmarks.md": ["95 %"],
    "docs/installing.md": ["| 7 | 3.12 |", "| 6 | 3.10 |", "| 5 | 3.8 |"],
    "docs/recipes.md": ["| | 5 % | 50 % | 95 % |"],
}


def kept(name: str) -> Any:
    return json.loads((ROOT / "benchmarks/results" / f"{name}.json").read_text(encoding="utf-8"))


def words(text: str) -> str:
    return " ".join(text.split())


def read(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def with_interval(figures: list[float], digits: int = 2) -> str:
    difference, low, high = figures
    return f"{difference:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"


def readme() -> Iterator[str]:
    fp32, int8 = (round(model["latency"]["p50_ms"]) for model in kept("w32")["models"])
    yield f"{int8} ms in INT8 against {fp32} ms in FP32"
    yield f"DEKR's in {kept('cpu_build_dekr_w32')['median_wall_ms']['ort_int8_centers']:.0f} ms"
    yield from family()


def family() -> Iterator[str]:
    from benchmarks.host.family import as_markdown

    yield from as_markdown(kept("family")["table"]).splitlines()


def predict() -> Iterator[str]:
    times = {name: time["median_ms"] for name, time in kept("host_cost")["times"].items()}
    yield f"decoding takes {times['decode on the host']:.2f} ms"
    yield f"with refined joints {times['decode on the host, refined']:.2f} ms"
    share = times["decode in the graph, host's share"]
    yield f"{share:.2f} ms on the host where the graph decodes"
    yield f"a 1280x720 frame is resized in {times['preprocess 1280x720']:.2f} ms"
    rate = kept("stream_rate")["share_of_network"]
    yield f"{100 * rate['keypoints']:.0f} % of the frame rate of the network alone"
    yield f"With overlays it reached {100 * rate['overlays']:.0f} %"
    watched = kept("serve_rate")["share_of_no_overlays"]["page, one viewer"]
    yield f"with one viewer kept {100 * watched:.0f} % of the frame rate"


def training() -> Iterator[str]:
    crops = kept("recipe_runs_crop_2000")
    ap = {name: {p: one["mean"] for p, one in scores.items()} for name, scores in crops["ap"].items()}
    yield f"{crops['steps']} updates, one seed"
    yield f"`fit` {ap['fit']['deployment']:.1f} AP as deployed and {ap['fit']['paper']:.1f} by the paper's protocol"
    yield f"`short` {ap['short']['deployment']:.1f} and {ap['short']['paper']:.1f}"
    shipped = kept("shipped-samkr_tiny")["held_out"]
    (ap,) = {f"{shipped[precision]['ap']:.1f}" for precision in ("float16", "float32")}
    yield f"has {ap} AP on {shipped['images']} others, in float16 as in float32"
    fitted = kept("coco-train-fit")
    log = (ROOT / "benchmarks/results/coco-train-fit.log.jsonl").read_text(encoding="utf-8")
    minutes = json.loads(log.splitlines()[-1])["minutes"]
    yield f"train-fit AP {fitted['scores']['ap']:.1f} on {fitted['images']} images of COCO"
    yield f"in {minutes:.0f} minutes"


def recipes() -> Iterator[str]:
    targets = kept("training_targets_coco")
    sizes = targets["input_per_source_pixel_5_50_95"]
    for name, row in (
        ("training, `fit`", "fit"),
        ("training, `short`", "short"),
        ("papers' test", "paper test"),
    ):
        yield f"| {name} | " + " | ".join(f"{size:.2f}" for size in sizes[row]) + " |"
    yield f"shows people {sizes['short'][1] / sizes['fit'][1]:.1f} times as large"
    bare, floored = (targets["offset_loss"][f"person, at least {least}"] for least in (1, 32))
    yield f"{bare['positions_percent']['1']:.1f} % of the positions on those photographs"
    yield f"had {bare['weight_percent']['1']:.0f} % of the weight"
    yield f"they have {floored['weight_percent']['1']:.1f} %"
    yield f"{targets['fitted_factor']:.3f} with `person` weighs as much as 0.03 with `image`"


def quantization() -> Iterator[str]:
    demo, photographs = kept("quantization-demo"), kept("quantization-lspet")
    yield f"A demo network of {demo['fp32']['ap']:.1f} AP"
    yield f"{demo['settings']['steps']} updates of fine-tuning"
    yield f"train-fit AP {photographs['fp32']['ap']:.1f}"
    cost = {
        run: {
            name: f"{figures['ap_against_fp32']:+.2f} ± {figures['between_seeds']:.2f}"
            for name, figures in of["summary"].items()
        }
        for run, of in (("demo", demo), ("photographs", photographs))
    }
    for row in ("ptq", "search", "qat"):
        yield f"| {cost['demo'][row]} | {cost['demo'][f'{row}_w4']} |"
    yield f"| the same fine-tuning in float (control) | {cost['demo']['control']} | |"
    yield f"PTQ {cost['photographs']['ptq']}, QAT {cost['photographs']['qat']};"
    yield f"weights PTQ {cost['photographs']['ptq_w4']}, QAT {cost['photographs']['qat_w4']}"
    rendered, photos = kept("attention")["networks"].values()
    yield f"{rendered['ap']:.2f} AP with it and {rendered['ap_without']:.2f} without on {rendered['data']['images']}"
    yield f"({with_interval(rendered['difference']['ap'])})"
    yield f"{photos['ap']:.2f} and {photos['ap_without']:.2f} train-fit AP on {photos['data']['images']} photographs"
    for run, digits, network in (("w32", 0, "samkr_w32"), ("tiny", 1, "samkr_tiny")):
        ms, without = (model["latency"]["p50_ms"] for model in kept(f"attention-{run}")["models"])
        yield f"{ms - without:.{digits}f} of {ms:.{digits}f} ms for {network}"
    layers, left = (made_of(f"attention-rtx{part}") for part in ("", "-without"))
    yield from agreement()
    saved = (layers["bytes_moved"] - left["bytes_moved"]) / 1e6
    yield f"{layers['kernels'] - left['kernels']} of {layers['kernels']} kernels"
    yield f"and {saved:.0f} of {layers['bytes_moved'] / 1e6:.0f} MB moved"


def agreement() -> Iterator[str]:
    run = kept("without-labels")
    yield f"A trained samkr_tiny ({run['model']['ap']:.1f} AP)"
    count, images = len(run["versions"]), run["data"]["images"]
    yield f"each of {count} versions was scored by the labels and against FP32, on {images} images"
    for version in run["versions"]:
        bits, groups = version["version"].split(", ")[:2]
        if groups.split()[0] == groups.split()[2]:
            lost, low, high = version["ap_lost"]
            found = version["against_fp32"]
            fell, least, most = (100 - found[name] for name in ("ap", "ap_high", "ap_low"))
            cells = (
                f"{lost:.1f} [{low:.1f}, {high:.1f}]",
                f"{fell:.1f} [{least:.1f}, {most:.1f}]",
                f"{found['moved_px']:.2f}",
                f"{found['moved_px_p95']:.1f}",
                f"{found['oks']:.3f}",
                f"{found['kept']}/{found['lost']}/{found['new']}",
            )
            yield f"| {bits} | {' | '.join(cells)} |"
    ranks = run["rank_correlation_with_ap_lost"]
    yield f"is {ranks['moved_px']:.2f} for the median of moved pixels, {ranks['moved_px_p95']:.2f} for p95"
    yield f"{ranks['oks']:.2f} for OKS, {ranks['ap']:.2f} for AP against FP32"
    yield f"and {ranks['lost_or_new']:.2f} for people lost or new"


def made_of(run: str) -> Any:
    """What an engine for an RTX 4090 is made of, as `build --json` says."""
    return kept(run)["passport"]["precision"]["layers"]


def engine_row(name: str, run: str) -> str:
    layers = made_of(run)
    writing = ", ".join(
        f"{of['count']} {of['computes']} -> {of['writes']}"
        for of in layers["convolutions"]
        if of["computes"] in ("int8", "fp8")
    )
    counts = (f"{layers['bytes_moved'] / 1e6:.0f}", layers["kernels"], layers["elementwise_kernels"], writing)
    return f"| {name} | {' | '.join(map(str, counts))} |"


def benchmarks() -> Iterator[str]:
    overheads = {kept(f"eval_overhead_{form}")["clock"]["median"] for form in ("fp32", "int8")}
    (overhead,) = {f"{of:.2f}" for of in overheads}
    yield f"evaluation took {overhead} times the network alone"
    memory = kept("eval_memory")
    yield f"memory grew by {memory['mb_per_1000_images']:.2f} MB per 1,000 images while predicting"
    yield f"({memory['images']:,} images)"


def engines() -> Iterator[str]:
    for name, run in (
        ("FP16", "rtx-fp16"),
        ("INT8, policy `default`", "rtx-default"),
        ("INT8, policy `rtx`", "attention-rtx"),
        ("FP8", "rtx-fp8"),
    ):
        yield engine_row(name, run)
    speed = kept("cpu_build_w32")["int8_speedup_over"]
    for than, text in (
        ("ort_fp32", "{} as fast {} as the exported"),
        ("openvino_bf16", "{} {} as fast as OpenVINO in bfloat16"),
        ("openvino_nncf_int8", "{} {} as fast as its INT8 by NNCF"),
    ):
        of = speed[than]
        yield text.format(f"{of['wall']:.2f}×", f"[{of['wall_p10']:.2f}, {of['wall_p90']:.2f}]")
    rounds = kept("cpu_build_dekr_w32")["round_ms"]
    for than, text in (
        ("ort_fp32", "{} as fast {} as the exported FP32 model of DEKR"),
        ("ort_int8_built", "{} {} as fast as its INT8 with whole maps"),
        ("openvino_bf16", "{} {} as fast as OpenVINO in bfloat16"),
    ):
        ratios = [one[than]["wall"] / one["ort_int8_centers"]["wall"] for one in rounds]
        low, median, high = np.quantile(ratios, [0.1, 0.5, 0.9])
        yield text.format(f"{median:.2f}×", f"[{low:.2f}, {high:.2f}]")


def grouping() -> Iterator[str]:
    from benchmarks.host.paper_times import PAPER, decoding_table, times_table

    yield from family()
    yield from grouping_int8()
    run = kept("paper_times")
    for table in (decoding_table(run), times_table(run)):
        yield from table.splitlines()
    swahr, dekr = (PAPER.printed(name, "ms, RTX 3090") for name in ("swahr_w48", "dekr_w48"))
    yield f"SWAHR takes {swahr} ms an image and DEKR {dekr} ms"
    (few, many) = (
        row["plain_ms"]
        for row in kept("grouping")["rows"]
        if row["setting"] == "papers" and row["people"] > 1
    )
    yield f"takes {few:.0f} ms for 5 people and {many:.0f} ms for 30"
    crowd = {row["setting"]: row for row in kept("grouping")["rows"] if row["people"] == 30}
    deployed, papers = crowd["deployed"], crowd["papers"]
    yield f"ours takes {deployed['ours_ms']:.1f} ms on heatmaps of 256x256, {deployed['ratio']:.1f} times as fast"
    official = deployed["official_ms"] / deployed["ours_ms"]
    yield f"({official:.0f} times as the same with the package munkres"
    yield f"{papers['ours_ms']:.0f} ms with the papers' 640x640 and two tags a pixel"
    yield f"two tags a pixel, {papers['ratio']:.0f} times as fast"


def grouping_int8() -> Iterator[str]:
    alone = {group["group"]: group["alone"] for group in kept("sensitivity-swahr")["groups"]}
    for group in ("tags and heatmap", "stride 2 heatmap", "deconvolution", "stride 2 blocks"):
        found = alone[group]
        errors = (f"{100 * found[name]:.1f} %" for name in ("heatmap_error", "tag_error"))
        yield f"| {group} | {with_interval(found['difference']['ap'])} | {' | '.join(errors)} |"
    _, both = kept("grouping-policy")["models"]
    lost = [both["difference"][name] for name in ("value", "low", "high")]
    yield f"With both in INT8, too, it was {both['speed_up']['value']:.2f} times as fast, at {with_interval(lost)} AP"


def equalisation() -> Iterator[str]:
    run = kept("equalisation")
    ranges = {
        "each channel": "a range a channel",
        "each tensor": "a range a tensor",
        "each tensor, weights balanced": "a range a tensor, weights balanced",
        "each tensor, SmoothQuant 0.5": "a range a tensor, SmoothQuant 0.5",
        "each tensor, least error": "a range a tensor, least error",
        "each channel, least error": "a range a channel, least error",
    }
    yield f"against FP32 ({run['fp32']['ap']:.2f})"
    for network, rows in run["networks"].items():
        for shown, name in ranges.items():
            of = rows[name]
            yield (
                f"| {network} | {shown} | {of['ap']:.2f} | {with_interval(of['against_fp32']['ap'])} "
                f"| {of['heatmap_error']:.1%} | {of['offset_error']:.1%} |".replace("%", " %")
            )


def forms() -> Iterator[str]:
    from benchmarks.host.rtx_forms import FormRow, table

    yield "| file | form | AP | against | difference [95 %] |"
    for stage in kept("ledger-rtx")["stages"]:
        difference = with_interval(stage["difference"]["ap"]) if stage["difference"] else ""
        yield f"| {stage['name']} | {stage['form']} | {stage['ap']:.1f} | {stage['parent'] or ''} | {difference} |"
    rows = table([FormRow(**row) for row in kept("rtx-forms")["rows"]]).splitlines()
    shown = [
        line for line in read("docs/rtx-int8-forms.md").splitlines() if re.match(r"\| .* -> .* \|", line)
    ]
    assert [row for row in shown if row not in rows] == []
    yield from shown


def bounds() -> Iterator[str]:
    least = [model["bound"] for model in kept("bounds")["models"]]
    networks = [model["split_ms"]["network"] for model in kept("w32")["models"]]
    for precision, bound, ms in zip(("FP32", "INT8"), least, networks, strict=True):
        yield f"| {precision} | {bound['ms']:.0f} ms | {ms:.0f} ms | {100 * bound['ms'] / ms:.0f} % |"
    adaptive = [layer for layer in least[1]["layers"] if "adapt_conv" in layer["module"]]
    ms, least_ms = (sum(layer[name] for layer in adaptive) for name in ("ms", "bound_ms"))
    yield f"they take {ms:.0f} ms, and their products {least_ms:.0f} ms at least"


TOLD = {
    "README.md": readme,
    "docs/predict.md": predict,
    "docs/training.md": training,
    "docs/recipes.md": recipes,
    "docs/quantization.md": quantization,
    "docs/benchmarks.md": benchmarks,
    "docs/bounds.md": bounds,
    "docs/engines.md": engines,
    "docs/grouping.md": grouping,
    "docs/equalisation.md": equalisation,
    "docs/rtx-int8-forms.md": forms,
}


@pytest.mark.parametrize("page", TOLD)
def test_what_a_page_tells_is_what_was_measured(page: str) -> None:
    text = words(read(page))
    assert [told for told in TOLD[page]() if words(told) not in text] == []


@pytest.mark.parametrize("page", PAGES)
def test_a_page_tells_no_other_figure(page: str) -> None:
    text = read(page).partition("## All keys")[0]  # the table of recipes' keys, which has a test of its own
    text = re.sub(r"<!-- (\w+)-table -->.*?<!-- /\1-table -->", "", text, flags=re.DOTALL)
    text = words(re.sub(r"```.*?```", "", text, flags=re.DOTALL))
    for told in [*(TOLD[page]() if page in TOLD else ()), *SET.get(page, ())]:
        text = text.replace(words(told), "")
    assert FIGURE.findall(text) == [], page


def rows_of(run: str) -> list[str]:
    """The table of a kept run as `bench` prints it on a wide terminal."""
    from rich.console import Console

    from benchmarks.report.table import render
    from benchmarks.schema import Results

    console = Console(width=118, no_color=True, highlight=False)
    with console.capture() as captured:
        console.print(render(Results.model_validate(kept(run))))
    return [line.rstrip() for line in captured.get().split("\n\n")[0].splitlines()]


@pytest.mark.parametrize(
    ("page", "run"), [("README.md", "demo"), ("docs/benchmarks.md", "demo"), ("docs/engines.md", "w32")]
)
def test_a_table_is_the_one_of_its_kept_run(page: str, run: str) -> None:
    shown = re.search(rf"<!-- {run}-table -->\n```\n(.*?)```\n<!-- /{run}-table -->", read(page), re.DOTALL)
    assert shown is not None
    table, told = shown[1].split("\n\n", 1)
    assert table.splitlines() == rows_of(run)
    if run == "demo":
        assert kept(run)["verdict"] in words(told)


def test_every_kept_run_has_its_command() -> None:
    named = set(
        re.findall(
            r"`([\w.-]+\.jsonl?)`", (ROOT / "benchmarks/results/README.md").read_text(encoding="utf-8")
        )
    )
    assert {path.name for path in (ROOT / "benchmarks/results").glob("*.json*")} == named
