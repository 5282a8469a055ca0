"""The list of ready networks with one line, that of a file on the loopback, and a cache that is empty."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from published import Publisher, entry_of, serving, write_published

from benchmarks.selftest.rendered import rendered_people
from benchmarks.selftest.stage import Rig
from samkr_edge.dataset.keypoint_dataset import KeypointDataset
from training.ready import table


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> KeypointDataset:
    """50 rendered images of what the shipped network knows."""
    folder = tmp_path_factory.mktemp("rendered")
    return rendered_people(Rig(folder, folder))


@pytest.fixture(scope="session")
def published_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_published(tmp_path_factory.mktemp("published"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Also without what the environment says of mirrors and proxies."""
    for name in (
        "SAMKR_EDGE_ZOO",
        "http_proxy",
        "HTTP_PROXY",
        "all_proxy",
        "ALL_PROXY",
        "no_proxy",
        "NO_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SAMKR_EDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def publisher(published_file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publisher]:
    """Serves the one file of the list, under its publisher's folders."""
    with serving() as found:
        path = f"/v1/dekr/{published_file.name}"
        found.files[path] = published_file.read_bytes()
        monkeypatch.setattr(table, "NETWORKS", (entry_of(published_file, found.root + path),))
        yield found


@pytest.fixture
def nowhere(published_file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The list's line leads to a port that nobody listens to: a host without a connection."""
    with serving() as closed:
        address = f"{closed.root}/v1/dekr/{published_file.name}"
    monkeypatch.setattr(table, "NETWORKS", (entry_of(published_file, address),))
    return address
