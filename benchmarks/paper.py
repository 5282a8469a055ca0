"""The paper's tables, and which of its figures are shown next to ours. They are quoted, never mixed with ours.

Paper: L. Chen, D. Zhou, R. Liu, Q. Zhang, "SAMKR: Bottom-up Keypoint Regression Pose Estimation Method Based On
Subspace Attention Module". Its figures are quoted as printed, slips included (Table 2 prints g = 8 for 12_SAMKR_24).
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.schema import Results

# In a cell that the paper leaves open.
_NOTHING = "-"


@dataclass(frozen=True)
class PaperRow:
    """One printed row.

    Attributes:
        cells: as printed, in the order of the table's columns.
        networks: our zoo names for it; empty for other methods.
    """

    cells: tuple[str, ...]
    networks: tuple[str, ...] = ()


@dataclass(frozen=True)
class PaperTable:
    """One table of the paper.

    Attributes:
        title: what it shows.
        columns: headings of the paper's cells.
        metrics: keys of our accuracy or, in a table of times, of ``LatencyStats`` and ``SplitMs``, with the headings of
            our columns.
        skeleton: ours must be scored on these keypoints; None for a table of times.
        split: on which the printed AP were measured.
        note: how their figures differ from ours.
    """

    number: int
    title: str
    columns: tuple[str, ...]
    metrics: tuple[tuple[str, str], ...]
    skeleton: str | None
    split: str | None
    rows: tuple[PaperRow, ...]
    note: str = ""

    def printed(self, network: str, heading: str) -> float | None:
        """The figure in the row of one of our networks; None if there is no such row, or no figure in it."""
        column = self.columns.index(heading)
        cell = next((row.cells[column] for row in self.rows if row.networks[:1] == (network,)), _NOTHING)
        return None if cell == _NOTHING else float(cell)


_AP = (("ap", "AP"),)
_SIZES = (("ap", "AP"), ("apm", "AP M"), ("apl", "AP L"))
_COCO = (
    ("ap", "AP"), ("ap50", "AP 50"), ("ap75", "AP 75"), ("apm", "AP M"), ("apl", "AP L"),
    ("ar", "AR"), ("arm", "AR M"), ("arl", "AR L"),
)  # fmt: skip
_CROWD = (
    ("ap", "AP"), ("ap50", "AP 50"), ("ap75", "AP 75"), ("easy", "AP E"), ("medium", "AP M"), ("hard", "AP H"),
)  # fmt: skip
_TIME = (("network", "network ms"), ("decode", "decode ms"), ("p50_ms", "p50 ms"), ("p90_ms", "p90 ms"))
_COCO_HEADS = tuple(heading for _, heading in _COCO)


def _row(text: str, *networks: str) -> PaperRow:
    """Cells of one line, separated by ``|``."""
    return PaperRow(tuple(cell.strip() for cell in text.split("|")), networks)


_W32, _W48, _SWAHR = ("samkr_w32", "8_samkr_16"), ("samkr_w48",), "swahr_w48"

TABLES = (
    PaperTable(
        1, "Structures of the regression branch (COCO val2017, HRNet-W32)", ("m", "c", "g", "s", "AP"), _AP, "coco17",
        "val",
        (
            _row("272 | 272 | 8 | 34 | 67.3", "single_branch_272"),
            _row("272 | 16 | 1 | 16 | 64", "1_samkr_16"),
            _row("272 | 16 | 16 | 1 | 64.2", "16_samkr_16"),
            _row("272 | 16 | 8 | 2 | 68.9", *_W32),
        ),
    ),
    PaperTable(
        2, "Groups, channels and subspaces (COCO val2017, HRNet-W32)",
        ("Model", "g", "c", "s", "AP", "AP M", "AP L"), _SIZES, "coco17", "val",
        (
            _row("2_SAMKR_16 | 2 | 16 | 8 | 64.4 | 56.8 | 75.6", "2_samkr_16"),
            _row("4_SAMKR_16 | 4 | 16 | 4 | 64.1 | 56.4 | 75.6", "4_samkr_16"),
            _row("8_SAMKR_16 | 8 | 16 | 2 | 68.9 | 62.8 | 78.2", *_W32),
            _row("8_SAMKR_8 | 8 | 8 | 1 | 62.9 | 56.5 | 72.8", "8_samkr_8"),
            _row("8_SAMKR_24 | 8 | 24 | 3 | 63.5 | 55.1 | 76.1", "8_samkr_24"),
            _row("4_SAMKR_8 | 4 | 8 | 2 | 63.9 | 57.1 | 74.2", "4_samkr_8"),
            _row("12-SAMKR_24 | 8 | 24 | 2 | 65.7 | 58.6 | 76.5", "12_samkr_24"),
        ),
        "The last row is printed with g = 8; its name and c = g × s say 12.",
    ),
    PaperTable(
        3, "COCO val2017, single scale", ("Method", "Input", "Params M", "GFLOPs", *_COCO_HEADS), _COCO, "coco17",
        "val",
        (
            _row("PifPaf | - | - | - | 67.4 | - | - | - | - | - | - | -"),
            _row("HGG | 512 | - | - | 60.4 | 83.0 | 66.2 | - | - | 64.8 | - | -"),
            _row("PersonLab | 601 | - | - | 54.1 | 76.4 | 57.7 | 40.6 | 73.3 | 57.7 | 43.5 | 77.4"),
            _row("PersonLab | 1401 | 68.7 | 405.5 | 66.5 | 86.2 | 71.9 | 62.3 | 73.2 | 70.7 | 65.6 | 77.9"),
            _row("HrHRNet-W32 | 512 | 28.5 | 47.9 | 67.1 | 86.2 | 73 | - | - | - | 61.5 | 76.1", "higherhrnet_w32"),
            _row("HrHRNet-W48 | 640 | 63.8 | 154.3 | 69.9 | 87.2 | 76.1 | - | - | - | 65.4 | 76.4", "higherhrnet_w48"),
            _row("SWAHR (HrHRNet-W32) | 512 | 28.6 | 48 | 68.9 | 87.8 | 74.9 | 63 | 77.4 | - | - | -", "swahr_w32"),
            _row("SWAHR (HrHRNet-W48) | 640 | 63.8 | 154.6 | 70.8 | 88.5 | 76.8 | 66.3 | 77.4 | - | - | -", _SWAHR),
            _row("CenterNet-DLA | 512 | - | - | 58.9 | - | - | - | - | - | - | -"),
            _row("CenterNet-HG | 512 | 227.8 | 206.9 | 64.0 | - | - | - | - | - | - | -"),
            _row("DEKR (W32) | 512 | 29.6 | 45.4 | 68 | 86.7 | 74.5 | 62.1 | 77.7 | 73 | 66.2 | 82.7", "dekr_w32"),
            _row("DEKR (W48) | 640 | 65.7 | 141.5 | 71 | 88.3 | 77.4 | 66.7 | 78.5 | 76 | 70.6 | 84", "dekr_w48"),
            _row("SAMKR (W32) | 512 | 29.6 | 44.9 | 68.9 | 87.6 | 74.9 | 62.8 | 78.2 | 73.4 | 66.6 | 83.1", *_W32),
            _row("SAMKR (W48) | 640 | 65.7 | 140.9 | 71.6 | 88.5 | 78.2 | 67.2 | 78.9 | 76.5 | 71.2 | 84.3", *_W48),
        ),
        "Of HrHRNet the figures below AR M and AR L are AP M and AP L: they are these in HigherHRNet's own paper.",
    ),
    PaperTable(
        4, "COCO test-dev2017, single scale; ours on val2017", ("Method", "Input", *_COCO_HEADS), _COCO, "coco17",
        "test-dev",
        (
            _row("OpenPose | - | 61.8 | 84.9 | 67.5 | 57.1 | 68.2 | 66.5 | - | -"),
            _row("Hourglass | 512 | 56.6 | 81.8 | 61.8 | 49.8 | 67 | - | - | -"),
            _row("PifPaf | - | 66.7 | - | - | 62.4 | 72.9 | - | - | -"),
            _row("PersonLab | 1401 | 66.5 | 88 | 72.6 | 62.4 | 72.3 | 71 | 66.1 | 77.7"),
            _row("HrHRNet-W32 | 512 | 66.4 | 87.5 | 72.8 | 61.2 | 74.2 | - | - | -", "higherhrnet_w32"),
            _row("HrHRNet-W48 | 640 | 68.4 | 88.2 | 75.1 | 64.4 | 74.2 | - | - | -", "higherhrnet_w48"),
            _row("SWAHR (HrHRNet-W32) | 512 | 67.9 | 88.9 | 74.5 | 62.4 | 75.5 | - | - | -", "swahr_w32"),
            _row("SWAHR (HrHRNet-W48) | 640 | 70.2 | 89.9 | 76.9 | 65.2 | 77 | - | - | -", _SWAHR),
            _row("CenterNet-DLA | 512 | 57.9 | 84.7 | 63.1 | 52.5 | 67.4 | - | - | -"),
            _row("CenterNet-HG | 512 | 63 | 86.8 | 69.6 | 58.9 | 70.4 | - | - | -"),
            _row("SPM | - | 66.9 | 88.5 | 72.9 | 62.6 | 73.1 | - | - | -"),
            _row("DEKR (W32) | 512 | 67.3 | 87.9 | 74.1 | 61.5 | 76.1 | 72.4 | 65.4 | 81.9", "dekr_w32"),
            _row("DEKR (W48) | 640 | 70 | 89.4 | 77.3 | 65.7 | 76.9 | 75.4 | 69.7 | 83.2", "dekr_w48"),
            _row("SAMKR (W32) | 512 | 67.9 | 88.4 | 74.7 | 62 | 76.5 | 72.8 | 65.9 | 82.2", *_W32),
            _row("SAMKR (W48) | 640 | 70.4 | 89.5 | 77.4 | 66.3 | 77.2 | 75.7 | 70.2 | 83.3", *_W48),
        ),
        "The labels of test-dev are not public: ours are of val2017, so the two sides are not the same images.",
    ),
    PaperTable(
        5, "CrowdPose test", ("Method", "AP", "AP 50", "AP 75", "AP E", "AP M", "AP H"), _CROWD, "crowdpose14", "test",
        (
            _row("OpenPose | - | - | - | 62.7 | 48.7 | 32.3"),
            _row("HrHRNet-W48 | 65.9 | 86.4 | 70.6 | 73.3 | 66.5 | 57.9", "higherhrnet_w48"),
            _row("SWAHR (HrHRNet-W48) | 71.6 | 88.5 | 77.6 | 78.9 | 72.4 | 63", _SWAHR),
            _row("DEKR (W32) | 65.7 | 85.7 | 70.4 | 73 | 66.4 | 57.5", "dekr_w32"),
            _row("DEKR (W48) | 67.3 | 86.4 | 72.2 | 74.6 | 68.1 | 58.7", "dekr_w48"),
            _row("SAMKR (W32) | 73 | 89.6 | 78.7 | 80.7 | 74 | 62.8", *_W32),
            _row("SAMKR (W48) | 74.4 | 89.8 | 80.4 | 81.5 | 75.8 | 64", *_W48),
        ),
    ),
    PaperTable(
        6, "Time per image", ("Model", "Backbone", "ms, RTX 3090"), _TIME, None, None,
        (
            _row("SWAHR | HRNet-W48 | 816.3", _SWAHR),
            _row("DEKR | HRNet-W48 | 137.8", "dekr_w48"),
            _row("SAMKR | HRNet-W48 | 164.4", *_W48),
        ),
        "The paper times a PyTorch network on an RTX 3090 and does not say what is counted. Ours is from an image in "
        "memory to poses, one stream, one pass, on the device that the row names. Network and decode are means of the "
        "frames between p10 and p90. With random weights decode is that of noise: "
        "benchmarks.host.paper_times decodes a crowd.",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class PaperFigure:
    """What the paper prints for one network on one data set.

    Attributes:
        ap: its AP, 0..100.
        where: data split and table.
        latency_ms: its cost time (Table 6, RTX 3090); None if not given.
    """

    ap: float
    where: str
    latency_ms: float | None = None


# Tables whose AP is shown next to ours, and what it was measured on. Of a row's networks the first is the paper's.
_QUOTED = {3: "COCO val2017, Table 3", 5: "CrowdPose test, Table 5"}
_TIMES = 6


def paper_figure(model: str, skeleton: str) -> PaperFigure | None:
    """The paper's figure for a zoo network on a skeleton, or None: most of our models are not in the paper."""
    for table in TABLES:
        if table.number in _QUOTED and table.skeleton == skeleton:
            ap = table.printed(model, "AP")
            return None if ap is None else PaperFigure(ap, _QUOTED[table.number], _latency(model, skeleton))
    return None


def _latency(model: str, skeleton: str) -> float | None:
    """Table 6 times the networks of COCO."""
    return TABLES[_TIMES - 1].printed(model, "ms, RTX 3090") if skeleton == "coco17" else None


# (skeleton, split) -> number of images of published AP.
_PUBLISHED = {("coco17", "val"): 5000, ("crowdpose14", "test"): 8000}


def is_measured_alike(results: Results, split: str) -> bool:
    """Whether our AP is comparable with published single-scale AP of a split: all images, flip and the paper's resize.
    Rescoring may be on or off: DEKR's figures include it, and the paper does not say.
    """
    dataset, protocol = results.dataset, results.protocol
    return (
        dataset is not None
        and dataset.split == split
        and dataset.images == _PUBLISHED.get((dataset.skeleton, split))
        and protocol.name == "paper"
        and protocol.scales == (1.0,)
        and not protocol.match
    )


def beside_the_paper(results: Results) -> str:
    """What the paper's AP and ours were each measured on; empty if the run shows none of the paper's."""
    figures = {model.paper.where for model in results.models if model.paper}
    if not figures or results.dataset is None:
        return ""
    text = f"{'; '.join(sorted(figures))}; ours: {results.dataset.name}/{results.ap_label}"
    alike = is_measured_alike(results, results.dataset.split)
    return text if alike else f"{text}, which is not measured alike"
