"""Fetching a ready network: what can go wrong on the way is told, and the next call goes on."""

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

import numpy as np
import pytest
import torch
from published import Publisher

import samkr_edge
from samkr_edge.cli import run
from samkr_edge.evaluation.rescoring import load_rescoring
from samkr_edge.files import artefact
from samkr_edge.files.artefact import sha256_of, undisturbed
from samkr_edge.pose.skeleton import COCO17
from training.checkpoint import load_checkpoint
from training.models.zoo import build_model, model_config
from training.ready import download, table
from training.ready.get import checkpoint_of, get
from training.ready.place import place_of
from training.ready.table import ReadyNetwork

GET = ["zoo", "get", "dekr_tiny"]


def parts(cache: Path) -> list[Path]:
    return list(cache.rglob("*.part"))


def test_a_network_arrives_with_where_it_comes_from(
    publisher: Publisher, published_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "fp32.pt"
    assert run([*GET, "-o", str(out), "--json"]) == 0
    shown = capsys.readouterr()
    printed = json.loads(shown.out)
    assert "dekr_tiny is not finished" in shown.err  # its offset head is another
    facts = load_checkpoint(out).card.provenance["imported"]
    assert printed["imported"] == facts
    assert facts["sha256"] == sha256_of(published_file)
    assert facts["source"] == publisher.root + f"/v1/dekr/{published_file.name}"
    assert facts["published"] == "12.3 AP on drawn images, by nobody"
    assert facts["licence"] == "Apache-2.0"
    assert printed["rescoring"] == str(tmp_path / "fp32.rescore.npz")
    assert load_rescoring(printed["rescoring"], COCO17).features.links


def test_a_network_trained_at_another_size_than_its_models_keeps_that(
    cache: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "drawn.pth"
    torch.save(build_model(model_config("swahr_tiny")).state_dict(), file)
    digits = sha256_of(file)
    file = file.rename(tmp_path / f"higher-{digits[:8]}.pth")
    line = ReadyNetwork(
        "higher",
        "swahr_tiny",
        17,
        by="nobody",
        trained_on="nothing",
        licence="Apache-2.0",
        address=f"https://nobody.example/{file.name}",
        sha256=digits,
        input_size=(96, 160),
    )
    checkpoint = load_checkpoint(get(line, str(file)))
    assert checkpoint.card.input_size == checkpoint.config.input_size == (96, 160)
    assert "not finished" not in capsys.readouterr().err


def test_what_was_fetched_needs_no_connection(
    publisher: Publisher, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint_of("dekr_tiny")
    assert len(publisher.asked) == 1
    assert [file.suffix for file in cache.rglob("*") if file.is_file()].count(".pth") == 0  # kept once
    publisher.files.clear()
    image = np.zeros((64, 64, 3), np.uint8)
    with samkr_edge.load("zoo:dekr_tiny") as pose:
        assert pose.path == place_of(table.ready_network("dekr_tiny"))
        pose(image)
    assert len(publisher.asked) == 1


def test_a_cut_download_is_taken_up_where_it_ended(
    publisher: Publisher, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publisher.cuts = [1000, 500_000]
    assert run(GET) == 0
    assert publisher.ranges == [None, "bytes=1000-", "bytes=501000-"]
    assert parts(cache) == []
    assert "made anew" in capsys.readouterr().err


def test_a_connection_that_brings_nothing_ends_the_command_and_the_next_goes_on(
    publisher: Publisher, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publisher.cuts = [700_000, 0]
    assert run(GET) == 3
    shown = capsys.readouterr().err
    assert "SE-D30" in shown
    assert "0.7 MB; the same command goes on from there" in shown
    assert [part.stat().st_size for part in parts(cache)] == [700_000]
    assert not place_of(table.ready_network("dekr_tiny")).exists()
    assert run(GET) == 0
    assert publisher.ranges[-1] == "bytes=700000-"


def test_a_server_that_does_not_resume_sends_all_of_it(publisher: Publisher, cache: Path) -> None:
    publisher.cuts, publisher.resumes = [1000], False
    assert run(GET) == 0
    assert publisher.ranges == [None, "bytes=1000-"]


def test_a_part_that_was_complete_is_not_asked_for_again(
    publisher: Publisher, cache: Path, published_file: Path
) -> None:
    place = place_of(table.ready_network("dekr_tiny")).with_name("download")
    place.mkdir(parents=True)
    shutil.copy(published_file, place / f"{published_file.name}.part")
    assert run(GET) == 0
    assert len(publisher.asked) == 1


@pytest.mark.parametrize("length", [1000, 10_000_000])
def test_a_part_of_something_else_is_given_up(
    length: int, publisher: Publisher, cache: Path, published_file: Path
) -> None:
    place = place_of(table.ready_network("dekr_tiny")).with_name("download")
    place.mkdir(parents=True)
    (place / f"{published_file.name}.part").write_bytes(b"\1" * length)
    assert run(GET) == 0
    assert publisher.ranges[-1] is None


def test_a_file_with_another_hash_is_dropped(
    publisher: Publisher, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (path,) = publisher.files
    publisher.files[path] = b"PK" + bytes(5000)
    assert run(GET) == 4
    shown = capsys.readouterr().err
    assert "SE-A36" in shown
    assert "was dropped" in shown
    assert table.NETWORKS[0].sha256 in shown
    assert [file for file in cache.rglob("*") if file.is_file()] == []


def test_a_page_in_place_of_the_file_is_told_and_what_had_come_is_kept(
    publisher: Publisher, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publisher.cuts = [2000, 0]
    assert run(GET) == 3
    (path,), content = publisher.files, dict(publisher.files)
    publisher.files[path], publisher.resumes = b"<!doctype html><p>Log in", False
    assert run(GET) == 4
    assert "a web page" in capsys.readouterr().err
    publisher.kind, publisher.files[path] = "text/html; charset=utf-8", b"Log in"
    assert run(GET) == 4
    assert [part.stat().st_size for part in parts(cache)] == [2000]
    publisher.kind, publisher.resumes = "binary/octet-stream", True
    publisher.files.update(content)
    assert run(GET) == 0


def test_an_address_without_the_file_is_told(
    publisher: Publisher, capsys: pytest.CaptureFixture[str]
) -> None:
    publisher.files.clear()
    assert run(GET) == 3
    shown = capsys.readouterr().err
    assert "SE-D30" in shown
    assert "404 Not Found" in shown
    assert f"--from {table.NETWORKS[0].file}" in shown


def test_a_host_without_a_connection_is_told_what_to_copy(
    nowhere: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["predict", "zoo:dekr_tiny", "a.jpg"]) == 3
    shown = capsys.readouterr().err
    assert "SE-D30" in shown
    assert "refused" in shown
    assert f"copied it here from {nowhere}" in shown


def test_a_full_disk_keeps_what_has_come(
    publisher: Publisher, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    publisher.cuts = [3000, 0]
    assert run(GET) == 3
    free = shutil.disk_usage(cache)._replace(free=10)
    with monkeypatch.context() as full:
        full.setattr(download.shutil, "disk_usage", lambda _: free)
        assert run(GET) == 3
    shown = capsys.readouterr().err
    assert "SE-D01" in shown
    assert "No space left" in shown
    assert [part.stat().st_size for part in parts(cache)] == [3000]
    assert run(GET) == 0


def test_what_came_and_could_not_be_imported_is_not_asked_for_again(
    publisher: Publisher, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 46391744 vs 46391640")

    free = shutil.disk_usage(cache.parent)._replace(free=10_000_000)  # room for the file, not for its import
    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", full)
        patched.setattr(shutil, "disk_usage", lambda _: free)
        assert run(GET) == 3
    assert "No space left" in capsys.readouterr().err
    assert not place_of(table.ready_network("dekr_tiny")).exists()
    assert run(GET) == 0
    assert len(publisher.asked) == 1


def test_ctrl_c_keeps_what_has_come(
    publisher: Publisher, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextmanager
    def interrupted(*_: object, **__: object) -> Iterator[object]:
        def advance(n: float = 1, note: str = "") -> None:
            if n:
                raise KeyboardInterrupt

        yield advance

    with monkeypatch.context() as pressed:
        pressed.setattr(download, "progress", interrupted)
        assert run(GET) == 130
    assert "the same command resumes" in capsys.readouterr().err
    (kept,) = (part.stat().st_size for part in parts(cache))
    assert run(GET) == 0
    assert publisher.ranges[-1] == f"bytes={kept}-"


def test_two_at_once_download_once(publisher: Publisher) -> None:
    found: list[Path] = []
    both = [threading.Thread(target=lambda: found.append(checkpoint_of("dekr_tiny"))) for _ in range(2)]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join()
    assert found[0] == found[1]
    assert len(publisher.asked) == 1


def test_who_waits_for_another_download_says_so(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = place_of(table.ready_network("dekr_tiny")).with_name("download")
    folder.mkdir(parents=True)
    # Not by capsys: what another thread prints while its text is taken out is lost, one time in ten.
    said: Queue[str] = Queue()
    monkeypatch.setattr(artefact, "say", said.put)
    waiting = threading.Thread(target=lambda: checkpoint_of("dekr_tiny"))
    with undisturbed(folder, alone=True):
        waiting.start()
        assert "another process is getting dekr_tiny" in said.get(timeout=60)
    waiting.join()
    assert checkpoint_of("dekr_tiny").is_file()


@pytest.mark.parametrize("where", ["file", "folder", "publisher's folders", "as wget -x", "variable"])
def test_a_host_without_a_connection_takes_the_file_from_a_place(
    where: str, nowhere: str, published_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "downloads"
    host = nowhere.split("/")[2]
    folders = {"publisher's folders": "v1/dekr", "as wget -x": f"{host}/v1/dekr"}
    file = place / folders.get(where, "") / published_file.name
    file.parent.mkdir(parents=True)
    shutil.copy(published_file, file)
    if where == "variable":
        monkeypatch.setenv("SAMKR_EDGE_ZOO", str(place))
        assert run(["zoo", "get", "dekr_tiny"]) == 0
    else:
        assert run([*GET, "--from", str(file if where == "file" else place)]) == 0
    assert file.is_file()  # the user's own
    assert checkpoint_of("dekr_tiny").is_file()


def test_a_place_without_the_file_and_a_wrong_file_are_told(
    nowhere: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*GET, "--from", str(tmp_path)]) == 4
    assert f"copy {nowhere} into" in capsys.readouterr().err
    assert run([*GET, "--from", str(tmp_path / "none")]) == 4
    assert "SE-A23" in capsys.readouterr().err
    (tmp_path / "other.pth").write_bytes(b"other")
    assert run([*GET, "--from", str(tmp_path / "other.pth")]) == 4
    assert "was not used" in capsys.readouterr().err
    assert (tmp_path / "other.pth").is_file()


@pytest.mark.parametrize("beside", [True, False])
def test_a_mirror_has_the_files_side_by_side_or_in_their_folders(
    beside: bool, publisher: Publisher, nowhere: str
) -> None:
    (path,) = publisher.files
    content = publisher.files.pop(path)
    publisher.files[f"/mirror{path[path.rindex('/') :] if beside else path}"] = content
    assert run([*GET, "--from", f"{publisher.root}/mirror/"]) == 0


def test_a_mirror_that_answers_403_for_what_it_lacks_is_asked_for_the_other_place(
    publisher: Publisher, nowhere: str
) -> None:
    publisher.lacking = 403
    (path,) = publisher.files
    publisher.files[f"/mirror{path}"] = publisher.files.pop(path)
    assert run([*GET, "--from", f"{publisher.root}/mirror"]) == 0


def test_a_signed_address_of_the_file_is_asked_for_as_it_is(publisher: Publisher, nowhere: str) -> None:
    (path,) = publisher.files
    publisher.files[f"{path}?signature=a%2Fb"] = publisher.files.pop(path)
    assert run([*GET, "--from", f"{publisher.root}{path}?signature=a%2Fb"]) == 0


def test_a_mirrors_folder_may_have_any_letters(publisher: Publisher, nowhere: str) -> None:
    (path,) = publisher.files
    publisher.files[f"/mein%20B%C3%BCro{path}"] = publisher.files.pop(path)
    assert run([*GET, "--from", f"{publisher.root}/mein B\u00fcro"]) == 0


@pytest.mark.parametrize(("address", "code"), [("http://[::1/", "SE-A23"), ("http://a..b/", "SE-D30")])
def test_what_is_no_address_is_told(
    address: str, code: str, nowhere: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*GET, "--from", address]) != 0
    assert code in capsys.readouterr().err


def test_a_cache_that_cannot_be_written_is_told_with_how_to_choose_another(
    publisher: Publisher, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache.write_bytes(b"")
    for words in (GET, ["eval", "zoo:dekr_tiny", "--data", "people"]):
        assert run(words) == 3
        shown = capsys.readouterr().err
        assert "SE-D01" in shown
        assert "export SAMKR_EDGE_CACHE=" in shown
    assert publisher.asked == []


def test_a_password_of_a_mirror_reaches_it_and_is_never_shown(
    publisher: Publisher, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher.files.clear()
    monkeypatch.setenv("SAMKR_EDGE_ZOO", publisher.root.replace("//", "//me:s3cret%21@"))
    assert run(GET) == 3
    shown = "".join(capsys.readouterr())
    assert "s3cret" not in shown
    assert {headers["Authorization"] for _, _, headers in publisher.asked} == {"Basic bWU6czNjcmV0IQ=="}


def test_a_proxy_of_the_environment_is_used(
    nowhere: str, publisher: Publisher, published_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is asked for whole addresses."""
    address = f"http://publisher.invalid/v1/dekr/{published_file.name}"
    (content,) = publisher.files.values()
    publisher.files[address] = content
    monkeypatch.setenv("http_proxy", publisher.root)
    assert run([*GET, "--from", address]) == 0
    assert [path for _, path, _ in publisher.asked] == [address]


def test_get_takes_a_name_with_or_without_zoo(
    publisher: Publisher, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["zoo", "get", "zoo:dekr_tiny"]) == 0
    assert "predict zoo:dekr_tiny SOURCE" in capsys.readouterr().out


def test_an_unknown_name_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["zoo", "get", "dekr_w32"], ["eval", "zoo:dekr_w32", "--data", "coco"]):
        assert run(words) == 2
        assert "dekr_w32_coco" in capsys.readouterr().err
