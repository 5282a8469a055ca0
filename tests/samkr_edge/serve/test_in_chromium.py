"""The live page in a real browser: pictures arrive, the controls change what is drawn, and its console stays empty."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from served_page import SCORES, served

from benchmarks.host.chromium import BrowserTab, Chromium, installed
from samkr_edge.pose_model import PoseModel, load_model

pytestmark = pytest.mark.skipif(installed() is None, reason="no Chromium here")

PICTURES = "Number(document.body.dataset.pictures || 0)"
PEOPLE = "document.querySelector('figure').dataset.people"
# How many pixels of the first canvas have a colour of ours, of which a gray picture has none.
COLOURED = """(() => {
  const { width, height } = document.querySelector("canvas");
  const ink = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  ink.drawImage(document.querySelector("canvas"), 0, 0);
  const { data } = ink.getImageData(0, 0, width, height);
  let found = 0;
  for (let at = 0; at < data.length; at += 4) {
    if (Math.abs(data[at] - data[at + 1]) + Math.abs(data[at + 1] - data[at + 2]) > 100) found += 1;
  }
  return found;
})()"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    with Chromium() as running:
        yield running


@pytest.fixture(scope="module")
def model(red_dot_model: Path) -> Iterator[PoseModel]:
    with load_model(red_dot_model) as opened:
        yield opened


def slide(tab: BrowserTab, threshold: float) -> None:
    """Move the slider, as a hand does."""
    tab.value(
        f"(() => {{ const slider = document.getElementById('threshold'); slider.value = {threshold}; "
        "slider.dispatchEvent(new Event('input')); })()"
    )


def press(tab: BrowserTab, selector: str) -> None:
    tab.value(f"document.querySelector({selector!r}).click()")


def test_pictures_arrive_and_the_slider_changes_who_is_drawn_for_one_viewer_alone(
    browser: Chromium, model: PoseModel, tmp_path: Path
) -> None:
    with served(model=model, rate=15) as page, page.running():
        tab, other = (browser.open(page.server.link, width=width) for width in (1280, 390))
        for each in (tab, other):
            assert each.until(f"{PICTURES} > 3")
        counts, drawn = {}, {}
        for threshold in (0, 0.1, 0.5, 1):
            slide(tab, threshold)
            seen = tab.value(PICTURES)
            tab.until(f"{PICTURES} > {seen}")
            counts[threshold], drawn[threshold] = tab.value(PEOPLE), tab.value(COLOURED)
        assert counts == {t: str(sum(s >= t for s in SCORES)) for t in (0, 0.1, 0.5, 1)}
        assert drawn[0] > drawn[0.1] > drawn[0.5] > drawn[1] == 0
        assert other.value(PEOPLE) == "2"
        # Two viewers and one encoding a picture.
        both = tab.value(PICTURES) + other.value(PICTURES)
        assert page.live.encoded < 0.9 * both
        for each in (tab, other):
            assert each.value("document.documentElement.scrollWidth <= window.innerWidth")
            assert each.errors() == []
        tab.picture(tmp_path / "page.png")
        assert (tmp_path / "page.png").stat().st_size > 10_000
        tab.close()
        other.close()


def test_two_models_are_shown_side_by_side_or_wiped(browser: Chromium, model: PoseModel) -> None:
    shown = "[...document.querySelectorAll('.one')].filter((one) => !one.hidden).length"
    with served(model=model, compared=model, rate=15) as page, page.running():
        tab = browser.open(page.server.link)
        tab.until(f"{PICTURES} > 1")
        assert tab.value(shown) == 2
        press(tab, "[data-view=wipe]")
        assert tab.value(shown) == 1
        # The second model finds nobody in gray pictures: the further right the line, the more is drawn.
        drawn = []
        for x in (0.0, 0.3, 1.0):
            tab.value(f"setDivider({x})")
            drawn.append(tab.value(COLOURED))
        assert drawn[0] == 0 < drawn[1] < drawn[2]
        tab.value("document.querySelector('canvas').focus()")
        for kind in ("keyDown", "keyUp"):
            tab.call("Input.dispatchKeyEvent", type=kind, key="ArrowLeft", code="ArrowLeft")
        assert tab.value("CONTROLS.divider") == 0.95
        place = tab.value(
            "(() => { const b = document.querySelector('canvas').getBoundingClientRect(); "
            "return [b.left + b.width / 4, b.top + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            tab.call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=place[0],
                y=place[1],
                button="left",
                buttons=1,
                clickCount=1,
            )
        assert tab.value("CONTROLS.divider") == pytest.approx(0.25, abs=0.01)
        press(tab, "[data-view=second]")
        assert tab.value(COLOURED) == 0
        assert "second" in tab.value("document.getElementById('figures').textContent")
        assert tab.errors() == []
        tab.close()


def test_several_streams_have_a_tab_each_and_a_hidden_one_is_not_asked_for(
    browser: Chromium, model: PoseModel
) -> None:
    with served("a.mp4", "<b>camera", model=model, rate=15) as page, page.running():
        tab = browser.open(page.server.link)
        tab.until("streams.length === 2 && streams.every((stream) => stream.shown > 1)")
        assert tab.value("document.querySelectorAll('figure').length") == 2
        assert "<b>camera" in tab.value("document.body.innerText")  # a name is no markup
        press(tab, "[data-only='1']")
        seen = tab.value(PICTURES)
        tab.until(f"{PICTURES} > {seen + 1}")
        before = page.live.streams[0].number
        tab.until(f"{PICTURES} > {seen + 4}")
        assert page.live.streams[0].number == before
        assert tab.value("document.querySelector('figure').hidden")
        assert tab.errors() == []
        tab.close()


def test_the_page_says_that_the_video_has_ended_and_asks_no_more(browser: Chromium, model: PoseModel) -> None:
    with served(model=model) as page:
        with page.running():
            tab = browser.open(page.server.link)
            tab.until(f"{PICTURES} > 1")
        page.live.streams[0].end()
        tab.until("document.getElementById('said').textContent === 'ended'")
        assert tab.value("document.getElementById('again').hidden") is False
        assert "ended" in tab.value("document.querySelector('figcaption').textContent")
        # The slider still works on the last picture.
        slide(tab, 0)
        assert tab.value(PEOPLE) == str(len(SCORES))
    assert tab.errors() == []
    tab.close()


def test_a_page_of_one_stream_alone_says_that_the_command_has_ended(
    browser: Chromium, model: PoseModel
) -> None:
    with served("a.mp4", "b.mp4", model=model, rate=15) as page:
        with page.running():
            tab = browser.open(page.server.link)
            tab.until("streams.length === 2 && streams.every((stream) => stream.shown > 1)")
            press(tab, "[data-only='1']")
            seen = tab.value(PICTURES)
            tab.until(f"{PICTURES} > {seen + 2}")
        for stream in page.live.streams:
            stream.end()
        tab.until("document.getElementById('said').textContent === 'ended'")
    assert tab.errors() == []
    tab.close()


def test_the_link_lets_a_browser_in_and_leaves_the_address_without_the_token(
    browser: Chromium, model: PoseModel
) -> None:
    with served(model=model, place="0.0.0.0:0", rate=15) as page, page.running():
        here = f"http://127.0.0.1:{page.port}/"
        refused = browser.open(here)
        assert "ends with a token" in refused.value("document.body.innerText")
        refused.close()
        tab = browser.open(f"{here}?token={page.server.token}")
        tab.until(f"{PICTURES} > 1")
        assert tab.value("location.href") == here
        assert tab.value("document.cookie") == ""  # no script reads it
        assert tab.errors() == []
        tab.call("Page.reload")
        tab.until(f"document.readyState === 'complete' && {PICTURES} > 1")
        tab.close()
