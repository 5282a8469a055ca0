"""The page: one file, nothing loaded from elsewhere, below 2 MB, and everything of the run in it."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.measure.samples import evenly_spaced
from benchmarks.report.movement import compare
from benchmarks.report.page import MAX_BYTES, write_report
from benchmarks.report.pareto_plot import Box, Point, place_labels, scatter, text_width, ticks
from benchmarks.sample_pictures import SampleImage, SamplePerson, Samples
from benchmarks.schema import (
    LayerAgainstBound,
    LowerBound,
    ModelResult,
    PaperResult,
    Results,
    write_results,
)
from samkr_edge.files.artefact import write_json
from samkr_edge.pose.skeleton import COCO17

RunMaker = Callable[..., Results]
_VOID = {"meta", "link", "br", "circle", "path", "line", "image", "use"}


class Page(HTMLParser):
    """Checks nesting while collecting what could load something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [
            value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset")
        ]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in _VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def parse(page: str) -> Page:
    parser = Page()
    parser.feed(page)
    assert parser.open == []
    return parser


def person(at: float = 0.0) -> SamplePerson:
    grid = [(60 + 20.0 * (k % 4) + at, 40 + 25.0 * (k // 4), 0.9) for k in range(17)]
    return SamplePerson(score=0.8, joints=grid)


def save_samples(folder: Path, names: list[str], count: int, side: int = 240) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
    images = []
    for number in range(count):
        cv2.imwrite(str(folder / f"{number:02d}.jpg"), noise)
        people = {name: [person(12.0 * min(index, 1))] for index, name in enumerate(names)}
        images.append(SampleImage(file=f"{number:02d}.jpg", width=side, height=side, people=people))
    samples = Samples(
        edges=list(COCO17.edges),
        sigmas=list(COCO17.sigmas),
        keypoints=list(COCO17.keypoints),
        images=images,
    )
    write_json(folder / "samples.json", samples.model_dump(mode="json"))


@pytest.fixture
def page(three_models: list[ModelResult], run_of: RunMaker, tmp_path: Path) -> str:
    results = run_of(three_models, samples="samples")
    write_results(tmp_path / "results.json", results)
    save_samples(tmp_path / "samples", [model.name for model in three_models], 3)
    write_report([tmp_path / "results.json"], tmp_path / "report.html")
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_the_page_is_well_formed_and_loads_nothing(page: str) -> None:
    parser = parse(page)
    assert all(link.startswith(("#", "data:")) for link in parser.links)
    assert not re.search(r"https?://|@import|url\(", page)
    assert "script" not in parser.tags


def test_what_scrolls_or_opens_is_reached_with_the_keyboard_and_has_a_name(page: str) -> None:
    """Nothing else can be operated: the page has no script, and no link but the one to the numbers."""
    tags = re.findall(r"<[a-z][^>]*>", page[page.index("<body>") :])
    scrolling = [tag for tag in tags if 'class="scroll"' in tag]
    assert len(scrolling) >= 2
    for tag in scrolling:
        assert 'tabindex="0" role="region"' in tag
        assert re.search(r'aria-label(ledby)?="([^"]+)"', tag)
    assert len(scrolling) == sum("tabindex" in tag for tag in tags)
    names = re.findall(r'(?:aria-labelledby="|href="#)([^"]+)"', " ".join(tags))
    ids = re.findall(r' id="([^"]+)"', " ".join(tags))
    assert set(names) <= set(ids)
    assert len(ids) == len(set(ids))
    assert [tag for tag in tags if tag.startswith("<a ")] == ['<a class="skip" href="#numbers">']
    assert ":focus-visible { outline: 3px solid" in page


def test_every_model_stands_once_in_the_table(page: str, three_models: list[ModelResult]) -> None:
    table = page[page.index('<table class="models"') : page.index("</table>")]
    for model in three_models:
        assert table.count(model.name) == 1
    assert table.count("recommended") == 1
    assert "[−0.8, +0.2] within noise" in table


def test_the_verdict_comes_first_and_the_hashes_are_there(page: str, three_models: list[ModelResult]) -> None:
    body = page[page.index("<body>") :]
    assert body.index("Take INT8 (QAT).") < body.index("Accuracy against latency") < body.index("<table")
    for model in three_models:
        assert model.sha256 in body
    words = re.findall(r"<span class=\"word\">([^<]*)</span>", body)
    assert words[:3] == ["samkr-edge", "bench", "fp32.cpu.onnx"]
    assert "Example CPU" in body


def test_pictures_are_embedded_once_and_moved_joints_are_ringed(page: str) -> None:
    assert page.count("data:image/jpeg;base64,") == 3
    assert page.count('<use href="#photo-') == 6
    assert page.count('class="moved"') > 3 * 17
    assert "17 of 17 joints moved" in page


def test_pictures_that_would_burst_the_limit_are_left_out(
    three_models: list[ModelResult], run_of: RunMaker, tmp_path: Path
) -> None:
    write_results(tmp_path / "results.json", run_of(three_models, samples="samples"))
    save_samples(tmp_path / "samples", [model.name for model in three_models], 12, side=900)
    written = write_report([tmp_path], tmp_path / "report.html")
    assert 1_000_000 < written.size < MAX_BYTES
    assert written.size == (tmp_path / "report.html").stat().st_size


def test_a_results_file_without_its_samples_still_makes_a_page(
    three_models: list[ModelResult], run_of: RunMaker, tmp_path: Path
) -> None:
    write_results(tmp_path / "results.json", run_of(three_models, samples="samples"))
    write_report([tmp_path], tmp_path / "report.html")
    assert "The same image" not in parse_text(tmp_path / "report.html")


def test_names_are_escaped(three_models: list[ModelResult], run_of: RunMaker, tmp_path: Path) -> None:
    evil = three_models[1].model_copy(update={"name": '<script>alert("x")</script>', "file": "<b>.onnx"})
    write_results(tmp_path / "results.json", run_of([three_models[0], evil]))
    write_report([tmp_path], tmp_path / "report.html")
    assert "script" not in parse(parse_text(tmp_path / "report.html")).tags


def test_a_command_in_a_note_is_set_as_one(
    three_models: list[ModelResult], run_of: RunMaker, tmp_path: Path
) -> None:
    note = "samkr_tiny knows <few>; `samkr-edge zoo` lists others"
    write_results(tmp_path / "results.json", run_of(three_models).model_copy(update={"notes": [note]}))
    write_report([tmp_path], tmp_path / "report.html")
    expected = "knows &lt;few&gt;; <code>samkr-edge zoo</code> lists others</p>"
    assert expected in parse_text(tmp_path / "report.html")


def test_a_name_that_is_no_utf8_makes_a_page(
    three_models: list[ModelResult], run_of: RunMaker, tmp_path: Path
) -> None:
    run = run_of(three_models).model_copy(update={"command": "samkr-edge bench m\udce9.onnx"})
    write_results(tmp_path / "results.json", run)
    write_report([tmp_path], tmp_path / "report.html")
    assert r"m\udce9.onnx" in parse_text(tmp_path / "report.html")


def test_the_papers_figures_have_their_own_column(
    three_models: list[ModelResult], run_of: RunMaker, tmp_path: Path
) -> None:
    quoted = three_models[0].model_copy(update={"paper": PaperResult(ap=68.9, where="COCO val2017, Table 3")})
    write_results(tmp_path / "results.json", run_of([quoted, *three_models[1:]]))
    write_report([tmp_path], tmp_path / "report.html")
    text = parse_text(tmp_path / "report.html")
    assert "AP, as printed" in text
    assert "nothing in that column was measured here" in text


def test_a_run_that_is_named_twice_is_one_run(
    three_models: list[ModelResult], run_of: RunMaker, tmp_path: Path
) -> None:
    write_results(tmp_path / "results.json", run_of(three_models))
    (tmp_path / "link.json").symlink_to(tmp_path / "results.json")
    named = [tmp_path, tmp_path / "results.json", tmp_path / "link.json"]
    assert len(write_report(named, tmp_path / "report.html").verdicts) == 1


def test_latency_alone_and_several_runs_make_a_page(
    three_models: list[ModelResult], run_of: RunMaker, row: Callable[..., ModelResult], tmp_path: Path
) -> None:
    timed = [row("FP32", 24), row("INT8 PTQ", 12, speed=(2.0, 1.9, 2.1))]
    write_results(tmp_path / "a" / "results.json", run_of(timed, images=None))
    write_results(tmp_path / "b" / "results.json", run_of(three_models))
    written = write_report([tmp_path / "a", tmp_path / "b"], tmp_path / "both.html")
    text = parse_text(tmp_path / "both.html")
    parse(text)
    assert len(written.verdicts) == 2
    assert text.count('<article class="run"') == 2
    assert "accuracy was not measured" in text
    write_report([tmp_path / "a"], tmp_path / "a.html")
    assert 'class="plot' not in parse_text(tmp_path / "a.html")


def parse_text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_labels_overlap_neither_each_other_nor_marks_nor_the_frame() -> None:
    points = [Point(f"model number {n}", n % 4, 10 + 0.2 * n, 11 + 0.2 * n, 50 + 0.3 * n) for n in range(6)]
    at = [(300 + 14.0 * n, 200 - 12.0 * n) for n in range(6)]
    marks = [Box(x - 8, y - 8, 16, 16) for x, y in at]
    boxes = place_labels(points, at, marks, 760, 400)
    for number, box in enumerate(boxes):
        assert all(box.overlap(other) == 0 for other in boxes[number + 1 :])
        assert all(box.overlap(mark) == 0 for mark in marks)
        assert box.x >= 52
        assert box.x + text_width(points[number].label) <= 760


def test_equal_points_are_drawn_inside_the_frame() -> None:
    same = [Point(name, n, 10.0, 10.0, 100.0) for n, name in enumerate("ab")]
    drawing = scatter(same, width=400, height=300, title="t", css_class="wide")
    for x, y in re.findall(r'<circle class="dot" cx="([\d.]+)" cy="([\d.]+)"', drawing):
        assert 0 < float(x) < 400
        assert 0 < float(y) < 300


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 25, [0, 5, 10, 15, 20, 25]),
        (56.1, 57.9, [56.5, 57.0, 57.5]),
        (0, 0.9, [0, 0.2, 0.4, 0.6, 0.8]),
        (3, 3, [3]),
    ],
)
def test_ticks_are_round_numbers_inside_the_range(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high, 5) == pytest.approx(expected)


def test_people_are_matched_by_place_whatever_their_order() -> None:
    first, second = person(), person(200)
    movement = compare([first, second], [second, first], COCO17.sigmas)
    assert (len(movement.moved), movement.extra, movement.missing, movement.joints) == (0, 0, 0, 34)


def test_one_moved_joint_is_found_and_a_lost_person_is_no_movement() -> None:
    joints = list(person().joints)
    joints[9] = (joints[9][0] + 40, joints[9][1], 0.9)
    movement = compare([person(), person(300)], [SamplePerson(score=0.5, joints=joints)], COCO17.sigmas)
    assert movement.moved == {(0, 9)}
    assert (movement.missing, movement.extra) == (1, 0)


def test_a_joint_that_the_baseline_guesses_has_not_moved() -> None:
    joints = list(person().joints)
    joints[9] = (joints[9][0], joints[9][1], 0.01)
    guessed = SamplePerson(score=0.5, joints=joints)
    joints[9] = (joints[9][0] + 40, joints[9][1], 0.01)
    movement = compare([guessed], [SamplePerson(score=0.5, joints=joints)], COCO17.sigmas)
    assert (movement.moved, movement.joints) == (frozenset(), 16)


@pytest.mark.parametrize(("grouped", "moved"), [(True, {(0, 9)}), (False, set())])
def test_how_far_is_moved_goes_by_the_joints_that_are_there(
    grouped: bool, moved: set[tuple[int, int]]
) -> None:
    """A joint that grouping did not find lies anywhere: it would make the person as large as the picture."""
    before = list(person().joints)
    before[16] = (before[0][0] + 900, before[0][1] + 900, 0.0)
    after = [*before]
    after[9] = (after[9][0] + 10, after[9][1], 0.9)
    first, second = (SamplePerson(score=0.5, joints=joints) for joints in (before, after))
    assert compare([first], [second], COCO17.sigmas, grouped=grouped).moved == moved


def test_samples_are_spread_over_the_whole_sequence() -> None:
    assert evenly_spaced(range(100), 4) == [12, 37, 62, 87]
    assert evenly_spaced(range(3), 4) == [0, 1, 2]


def test_a_bound_is_drawn_inside_the_measured_time_and_is_called_a_bound(
    three_models: list[ModelResult], run_of: RunMaker, tmp_path: Path
) -> None:
    layer = LayerAgainstBound(module="head.conv<1>", ms=2.0, bound_ms=0.5, by="compute")
    bounds = [
        LowerBound(
            ms=11.45, share=0.5, by="compute", bandwidth_share=0.1, peaks="INT8 218 GMAC/s", layers=[layer]
        ),
        LowerBound(ms=5.6, share=0.5, by="bandwidth", bandwidth_share=0.9, peaks="INT8 218 GMAC/s"),
        None,
    ]
    models = [m.model_copy(update={"bound": b}) for m, b in zip(three_models, bounds, strict=True)]
    write_results(tmp_path / "results.json", run_of(models))
    write_report([tmp_path / "results.json"], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    parse(page)
    assert page.count("measured 22.9 ms") == page.count("bound 11.4 ms, measured 22.9 ms") == 1
    assert 'style="width:50.00%" title="bound 11.4 ms"' in page
    assert 'style="width:24.45%" title="bound 5.60 ms"' in page
    assert "head.conv&lt;1&gt;" in page
    assert "computed, not measured" in page


def test_a_page_without_bounds_has_no_part_for_them(page: str) -> None:
    assert "How far from what is possible" not in page
