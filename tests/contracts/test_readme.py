"""The README is short, begins with what it is and two commands, and its three jobs are a few lines each."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MOST_WORDS = 1200
LARGEST_PICTURE = 1_000_000
JOBS = ("An INT8 engine for a Jetson", "Latency on the device", "Quantized AP on COCO val")
LINKS = (
    "doi.org/10.1109/ijcnn55064.2022.9891995",  # SAMKR
    "arxiv.org/abs/2104.02300",  # DEKR
    "arxiv.org/abs/1908.07919",  # HRNet
    "arxiv.org/abs/2006.15102",  # ULSAM
    "arxiv.org/abs/2012.15175",  # SWAHR
    "github.com/HRNet/DEKR",
    "github.com/HRNet/HRNet-Image-Classification",
    "cocodataset.org",
    "github.com/Jeff-sjtu/CrowdPose",
)


def commands_of(text: str) -> list[str]:
    """Lines of the shell blocks, without their comments."""
    blocks = re.findall(r"```sh\n(.*?)```", text, flags=re.DOTALL)
    return [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]


def test_the_readme_is_short() -> None:
    words = [word for word in README.split() if any(map(str.isalnum, word))]  # the bars of a table are none
    assert len(words) <= MOST_WORDS


def test_the_readme_says_what_it_is_and_then_how_to_begin() -> None:
    before, _, _ = README.partition("```")
    title, sentence = (part.strip() for part in before.strip().split("\n\n"))
    assert title == "# samkr-edge"
    assert sentence.count(". ") == 0
    assert commands_of(README)[:2] == ["make demo", "make test"]


def test_each_job_is_at_most_five_commands() -> None:
    chapters = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", README, flags=re.DOTALL | re.MULTILINE))
    for job in JOBS:
        assert 1 <= len(commands_of(chapters[job])) <= 5, job


def test_the_readme_shows_real_output_in_a_small_picture() -> None:
    (picture,) = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    assert (ROOT / picture).stat().st_size <= LARGEST_PICTURE


def test_papers_weights_and_data_sets_are_linked() -> None:
    assert [link for link in LINKS if f"https://{link}" not in README] == []


def test_the_readme_says_what_has_not_run() -> None:
    assert re.search(r"Jetson or a card: not run yet", README)
