"""`--on` runs the command on a device and brings its results back; whatever goes wrong there is one clear error.

Most tests put a fake ``ssh`` on the PATH that notes its command line and runs the script here: all shell code is real.
One runs against a real sshd on the loopback interface, where there is one.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_model import tiny_onnx

from samkr_edge import __version__
from samkr_edge.cli import run
from samkr_edge.deploy.bundle import write_bundle
from samkr_edge.deploy.ssh import Host
from samkr_edge.errors import SamkrError
from samkr_edge.pose_model import load_model

ROOT = Path(__file__).parents[3]


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + textwrap.dedent(text))
    path.chmod(0o755)
    return path


@pytest.fixture
def fake_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `ssh` that notes its command line and runs the rest here, a scp that copies; returns the note."""
    log = tmp_path / "ssh.log"
    script(
        tmp_path / "fake" / "ssh",
        f"""\
        echo "$@" | head -n 1 >> {log}
        while [ $# -gt 0 ]; do
          case "$1" in
            -o|-p|-P|-l) shift 2 ;;
            -O) exit 0 ;;
            *) break ;;
          esac
        done
        shift
        exec sh -c "$*"
        """,
    )
    script(
        tmp_path / "fake" / "scp",
        f"""\
        echo "scp $*" >> {log}
        while [ "$1" != "--" ]; do shift; done
        shift
        for word in "$@"; do target="${{word#*:}}"; done
        while [ $# -gt 1 ]; do cp -r "${{1#*:}}" "$target"; shift; done
        """,
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'fake'}:{os.environ['PATH']}")
    return log


@pytest.fixture
def real_command(tmp_path: Path) -> Path:
    """A folder on "the device" with the real samkr-edge of this checkout."""
    script(
        tmp_path / "device" / "samkr-edge",
        f'PYTHONPATH={ROOT} exec {sys.executable} -m samkr_edge "$@"\n',
    )
    return tmp_path / "device"


Faker = Callable[[str], Path]


@pytest.fixture
def fake_command(tmp_path: Path) -> Faker:
    """A folder with a samkr-edge that prints its version and else runs the given shell text."""

    def make(body: str, version: str = __version__) -> Path:
        text = f'if [ "$1" = --version ]; then echo "samkr-edge {version}"; exit; fi\n{body}\n'
        return script(tmp_path / "device" / "samkr-edge", text).parent

    return make


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "here").mkdir()
    return tiny_onnx(tmp_path / "here" / "tiny.onnx")


def build(model: Path, folder: Path, *more: str) -> int:
    return run(["build", str(model), "--target", "cpu", "--on", f"ssh://me@orin:2222{folder}", *more])


# Addresses.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ssh://nvidia@orin", Host("orin", "nvidia")),
        ("orin", Host("orin")),
        ("ssh://me@10.0.0.5:2222/home/me/venv/bin", Host("10.0.0.5", "me", 2222, "/home/me/venv/bin")),
        ("me@[fe80::1]:22", Host("fe80::1", "me", 22)),
    ],
)
def test_an_address_is_read(text: str, expected: Host) -> None:
    assert Host.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "ssh://", "-oProxyCommand=touch x", "a@-x", "ssh://me@orin:99999", "a b", "me@orin;rm", "http://x"],
)
def test_what_is_no_address_or_would_be_an_option_is_refused(text: str) -> None:
    with pytest.raises(SamkrError) as caught:
        Host.parse(text)
    assert caught.value.code == "SE-U95"


# What works.


@pytest.mark.parametrize("carrier", ["rsync", "scp"])
def test_a_model_built_there_comes_back_with_its_passport_and_opens(
    model: Path,
    real_command: Path,
    fake_ssh: Path,
    carrier: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if carrier == "rsync" and shutil.which("rsync") is None:
        pytest.skip("rsync is not installed here")
    if carrier == "scp":
        monkeypatch.setattr("samkr_edge.deploy.ssh.shutil.which", lambda name: None)
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    assert build(model, real_command, "--json") == 0
    shown = capfd.readouterr()
    assert json.loads(shown.out)["passport"]["target"] == "cpu"
    assert "copied back" in shown.err
    assert load_model(model.with_name("tiny.cpu.onnx")).card.model == "samkr_tiny"
    assert not list((tmp_path / "tmp").glob("samkr-edge.*"))  # the run's folder there is gone
    assert ("scp" in fake_ssh.read_text()) == (carrier == "scp")


def test_ssh_is_told_the_port_and_asks_nobody_where_nobody_is(
    model: Path, fake_command: Faker, fake_ssh: Path
) -> None:
    assert build(model, fake_command("exit 0")) == 0
    first = fake_ssh.read_text().splitlines()[0]
    assert "-p 2222 me@orin" in first
    assert "BatchMode=yes" in first
    assert "ConnectTimeout" in first


def test_options_travel_paths_are_replaced_and_results_land_where_asked(
    model: Path, fake_command: Faker, fake_ssh: Path, tmp_path: Path
) -> None:
    there = fake_command(f'echo "$@" > {tmp_path / "words"}; mkdir results; echo 1 > results/results.json')
    (tmp_path / "people").mkdir()
    (tmp_path / "people" / "a.txt").write_text("")
    words = [
        "bench",
        str(model),
        "--data",
        str(tmp_path / "people"),
        "--baseline",
        str(model),
        "--rounds",
        "3",
        "--mode",
        "offline",
    ]
    words += ["--no-reuse", "--out", str(tmp_path / "far" / "results"), "--on", f"ssh://me@orin{there}"]
    assert run(words) == 0
    got = (tmp_path / "words").read_text().split()
    assert got[:2] == ["bench", "tiny.onnx"]
    options = " ".join(got[2:])
    for expected in (
        "--data people",
        "--baseline tiny.onnx",
        "--rounds 3",
        "--mode offline",
        "--no-reuse",
        "--out results",
    ):
        assert expected in options
    assert "--on" not in options
    assert "--threads" not in options  # a default stays the device's own
    assert (tmp_path / "far" / "results" / "results.json").read_text() == "1\n"
    assert not (tmp_path / "far" / "people").exists()


def test_data_that_is_there_already_is_not_carried(
    model: Path, fake_command: Faker, fake_ssh: Path, tmp_path: Path
) -> None:
    there = fake_command(f'echo "$@" > {tmp_path / "words"}')
    assert run(["bench", str(model), "--data", "remote:/data/coco", "--on", f"ssh://me@orin{there}"]) == 0
    assert "--data /data/coco" in (tmp_path / "words").read_text()


def test_a_glob_of_photos_is_carried_as_the_pictures_that_it_matches(
    model: Path, fake_command: Faker, fake_ssh: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = fake_command(f'echo "$@" > {tmp_path / "words"}; ls > {tmp_path / "carried"}')
    (tmp_path / "album").mkdir()
    for name in ("a1.png", "b1.png", "a2.png"):
        cv2.imwrite(str(tmp_path / "album" / name), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "album" / "notes1.txt").write_text("no picture")
    words = [
        "bench",
        str(model),
        "--photos",
        "remote:/data/*.jpg",
        "--on",
        f"ssh://me@orin{there}",
        "--photos",
    ]
    assert run([*words, str(tmp_path / "album" / "*1*")]) == 0
    assert "--photos /data/*.jpg --photos a1.png --photos b1.png" in (tmp_path / "words").read_text()
    assert set((tmp_path / "carried").read_text().split()) >= {"a1.png", "b1.png"}
    assert run([*words, str(tmp_path / "album" / "*3*")]) == 3
    assert "SE-D29: nothing matches" in capsys.readouterr().err


def test_a_failure_there_keeps_its_exit_code(
    model: Path, fake_command: Faker, fake_ssh: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert build(model, fake_command("echo 'error SE-B60: no memory' >&2; exit 5")) == 5
    assert "SE-B60" in capfd.readouterr().err


# What goes wrong on the way.


def test_a_host_that_does_not_answer_is_a_device_error_with_ssh_s_reason(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script(
        tmp_path / "bin" / "ssh", "echo 'ssh: connect to host orin port 22: No route to host' >&2; exit 255\n"
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    assert build(model, Path("/x")) == 7
    shown = capsys.readouterr().err
    assert "SE-V94" in shown
    assert "No route to host" in shown


def test_without_ssh_here_the_package_is_named(
    model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert build(model, Path("/x")) == 7
    assert "openssh-client" in capsys.readouterr().err


def test_a_device_without_samkr_edge_says_what_to_install(
    model: Path, fake_ssh: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(model, tmp_path / "nowhere") == 7
    assert f"pip install samkr-edge=={__version__}" in capsys.readouterr().err


def test_another_version_there_is_refused_before_anything_is_carried(
    model: Path, fake_ssh: Path, fake_command: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(model, fake_command("exit 0", "9.3.0")) == 7
    shown = capsys.readouterr().err
    assert "9.3.0" in shown
    assert __version__ in shown
    assert "copying" not in shown


def test_a_model_that_is_not_here_is_an_error_before_connecting(
    tmp_path: Path, fake_ssh: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert build(tmp_path / "no.onnx", Path("/x")) == 4
    assert "SE-A23" in capsys.readouterr().err
    assert not fake_ssh.exists()


def test_two_files_of_one_name_are_refused(
    model: Path, tmp_path: Path, fake_ssh: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = shutil.copy(model, tmp_path / "tiny.onnx")
    assert run(["bench", str(model), str(other), "--on", "orin"]) == 2
    assert "SE-U93" in capsys.readouterr().err


def is_alive(pid: int) -> bool:
    state = Path(f"/proc/{pid}/stat")
    return state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def wait_for(condition: Callable[[], object], seconds: float = 20) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_the_command_there_ends_with_the_one_here(
    model: Path, fake_ssh: Path, fake_command: Faker, tmp_path: Path, how: signal.Signals
) -> None:
    there = fake_command(
        f"echo $$ > {tmp_path / 'pid.part'}; mv {tmp_path / 'pid.part'} {tmp_path / 'pid'}; sleep 60"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    words = ["build", str(model), "--target", "cpu", "--on", f"ssh://me@orin{there}"]
    local = subprocess.Popen(
        [sys.executable, "-m", "samkr_edge", *words],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert wait_for((tmp_path / "pid").exists)
    pid = int((tmp_path / "pid").read_text())
    assert is_alive(pid)
    local.send_signal(how)
    local.communicate(timeout=30)
    assert wait_for(lambda: not is_alive(pid))
    assert wait_for(lambda: not list(tmp_path.glob("samkr-edge.*")))
    assert local.returncode == (130 if how is signal.SIGINT else -signal.SIGKILL)


# A real sshd.


@pytest.fixture
def sshd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A loopback sshd with keys of its own, and ssh and scp on the PATH that know it; gives its port."""
    server = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
    if server is None or shutil.which("ssh-keygen") is None:
        pytest.skip("no sshd on this machine")
    folder = tmp_path / "sshd"
    folder.mkdir(mode=0o700)
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\n"
        f"AuthorizedKeysFile {folder}/user.pub\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n"
        "PermitRootLogin yes\nSubsystem sftp internal-sftp\n"
    )
    (folder / "ssh_config").write_text(
        f"Host *\n  IdentityFile {folder}/user\n  IdentitiesOnly yes\n  StrictHostKeyChecking no\n"
        f"  UserKnownHostsFile {folder}/known\n  LogLevel ERROR\n"
    )
    for name in ("ssh", "scp"):
        script(tmp_path / "bin" / name, f'exec {shutil.which(name)} -F {folder}/ssh_config "$@"\n')
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd's own demand where it starts as root
    log = open(folder / "log", "w")  # noqa: SIM115 - closed below
    process = subprocess.Popen([server, "-D", "-e", "-f", str(folder / "sshd_config")], stderr=log)

    def answers() -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    if not wait_for(answers, 10):
        process.kill()
        pytest.skip(f"sshd does not start here: {(folder / 'log').read_text()[-200:]}")
    yield port
    process.terminate()
    process.wait(timeout=10)
    log.close()


@pytest.mark.parametrize("carrier", ["rsync", "scp"])
def test_a_bundle_travels_through_a_real_sshd(
    sshd: int,
    model: Path,
    real_command: Path,
    carrier: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    if carrier == "scp":
        monkeypatch.setattr("samkr_edge.deploy.ssh.shutil.which", lambda name: None)
    elif shutil.which("rsync") is None:
        pytest.skip("rsync is not installed here")
    bundle = write_bundle(model, model.with_suffix(".samkr")).path
    code = run(["build", str(bundle), "--target", "cpu", "--on", f"ssh://127.0.0.1:{sshd}{real_command}"])
    shown = capfd.readouterr()
    assert code == 0, shown.err
    assert load_model(model.with_name("tiny.cpu.onnx")).card.model == "samkr_tiny"


def test_ctrl_c_through_a_real_sshd_ends_the_command_there(
    sshd: int, model: Path, fake_command: Faker, tmp_path: Path
) -> None:
    there = fake_command(
        f"echo $$ > {tmp_path / 'pid.part'}; mv {tmp_path / 'pid.part'} {tmp_path / 'pid'}; sleep 60"
    )
    words = ["build", str(model), "--target", "cpu", "--on", f"ssh://127.0.0.1:{sshd}{there}"]
    local = subprocess.Popen(
        [sys.executable, "-m", "samkr_edge", *words], stderr=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert wait_for((tmp_path / "pid").exists)
    pid = int((tmp_path / "pid").read_text())
    local.send_signal(signal.SIGINT)
    _, said = local.communicate(timeout=30)
    assert local.returncode == 130, said
    assert wait_for(lambda: not is_alive(pid))
