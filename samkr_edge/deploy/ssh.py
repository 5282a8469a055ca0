"""A device behind the system's ssh: find ``samkr-edge`` there, copy files, run a command, and stop it with ours.

Keys, jump hosts and passwords work as in a terminal. ``rsync`` copies if both sides have it, else ``scp``. The remote
command ends when this one does: a small shell around it watches its standard input, which closes with the connection,
whether through Ctrl-C, a killed process or a lost network.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from samkr_edge import __version__
from samkr_edge.errors import SamkrError
from samkr_edge.files.temporary import made_folder, temporary_file
from samkr_edge.stream_address import without_secrets

_CONNECT_SECONDS = 10
_SSH_FAILED = 255  # ssh's own exit code; the remote command's codes are below
# This distinguishes the probe's lines from what a login script prints.
_MARK = "samkr-edge-probe"


@dataclass(frozen=True)
class Host:
    """Where to run: ``ssh://[user@]host[:port][/folder/of/samkr-edge]``; the name may be one of ``~/.ssh/config``."""

    name: str
    user: str | None = None
    port: int | None = None
    folder: str | None = None

    @property
    def address(self) -> str:
        return f"{self.user}@{self.name}" if self.user else self.name

    @property
    def bracketed(self) -> str:
        """The address as scp and rsync want it: an IPv6 address in brackets."""
        name = f"[{self.name}]" if ":" in self.name else self.name
        return f"{self.user}@{name}" if self.user else name

    @classmethod
    def parse(cls, text: str) -> Host:
        """Raises SamkrError SE-U95 for anything else, including whatever ssh could take for an option."""
        matched = re.fullmatch(
            r"(?:ssh://)?(?:(?P<user>[\w.][\w.-]*)@)?(?P<name>\[[0-9a-fA-F:.%\w]+\]|[\w][\w.-]*)"
            r"(?::(?P<port>\d{1,5}))?(?P<folder>/.*)?",
            text,
            flags=re.ASCII,
        )
        port = int(matched["port"]) if matched and matched["port"] else None
        if matched is None or (port is not None and not 0 < port < 65536):
            raise SamkrError(
                "SE-U95",
                f"{without_secrets(text)!r} is not a device address",
                {
                    "needed": "ssh://user@host, ssh://user@host:port, or a name of ~/.ssh/config",
                    "password": "ssh itself asks for it",
                },
                fix="--on ssh://nvidia@192.168.1.20",
            )
        folder = (matched["folder"] or "").rstrip("/") or None
        return cls(matched["name"].strip("[]"), matched["user"], port, folder)


@dataclass(frozen=True)
class ProbeResult:
    """The probe's result: the command there, the folder that it made for this run, and whether rsync exists."""

    command: str
    job: str
    rsync: bool


class Remote:
    """One connection, shared by all calls; use as a context manager."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._sockets = ""

    def __enter__(self) -> Remote:
        # A short path: a socket's name is limited to about a hundred bytes.
        self._sockets = str(made_folder("samkr-"))
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run([*self.ssh(), "-O", "exit", self.host.address], capture_output=True, timeout=10)
        shutil.rmtree(self._sockets, ignore_errors=True)

    def options(self) -> list[str]:
        """Options of both ssh and scp. The first call opens the connection (and may ask for a password)."""
        options = [
            f"ConnectTimeout={_CONNECT_SECONDS}",
            "ServerAliveInterval=15",
            "ServerAliveCountMax=4",
            "ControlMaster=auto",
            f"ControlPath={self._sockets}/%C",
            "ControlPersist=60",
        ]
        if not sys.stdin or not sys.stdin.isatty():
            options.append("BatchMode=yes")  # there is no user to answer
        return [word for option in options for word in ("-o", option)]

    def ssh(self) -> list[str]:
        """The command line of ssh up to the address."""
        port = ["-p", str(self.host.port)] if self.host.port else []
        return ["ssh", *self.options(), *port]

    def probe(self) -> ProbeResult:
        """Find ``samkr-edge`` there, compare versions, make the run's folder.

        Raises:
            SamkrError: SE-V93 ssh is missing here, SE-V94 the host cannot be reached, SE-V95 no samkr-edge there, or
                another version.
        """
        done = self._run_shell(_probe_script(self.host.folder))
        found = dict(
            line.split(" ", 1)[1].split("=", 1)
            for line in done.stdout.splitlines()
            if line.startswith(f"{_MARK} ") and "=" in line
        )
        if not found.get("command"):
            raise SamkrError(
                "SE-V95",
                f"there is no samkr-edge on {self.host.address}",
                {
                    "looked in": self.host.folder
                    or "the PATH of a login shell, ~/.local/bin, ~/samkr-edge/.venv/bin"
                },
                fix=f"on the device: pip install samkr-edge=={__version__}   "
                "# or name its folder: --on ssh://user@host/path/to/venv/bin",
            )
        version = found.get("version", "").replace("samkr-edge", "").strip()
        if _minor(version) != _minor(__version__):
            self._run_shell(f"rmdir {shlex.quote(found.get('job', ''))}")
            raise SamkrError(
                "SE-V95",
                f"samkr-edge on {self.host.address} has another version, so nothing was run",
                {"here": __version__, "there": f"{version or 'did not start'}  {found['command']}"},
                fix=f"on the device: pip install samkr-edge=={__version__}",
            )
        return ProbeResult(found["command"], found["job"], found.get("rsync") == "yes")

    def push(self, paths: Sequence[Path], device: ProbeResult) -> None:
        """Copy files and folders into the run's folder."""
        sources = [str(path) for path in paths]
        self._carry([*sources, f"{self.host.bracketed}:{device.job}/"], device)

    def pull(self, names: Sequence[str], device: ProbeResult, folder: Path) -> None:
        """Copy files and folders of the run's folder to ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        sources = [f"{self.host.bracketed}:{device.job}/{name}" for name in names]
        self._carry([*sources, f"{folder}/"], device)

    def listing(self, device: ProbeResult) -> list[str]:
        """Names in the run's folder."""
        done = self._run_shell(f"ls -A1 {shlex.quote(device.job)}")
        return [name for name in done.stdout.splitlines() if name not in (".", "..") and "/" not in name]

    def remove(self, device: ProbeResult) -> None:
        self._run_shell(f"rm -rf {shlex.quote(device.job)}")

    def run(self, device: ProbeResult, arguments: Sequence[str]) -> int:
        """Run ``samkr-edge ARGUMENTS`` in the run's folder, passing its output on; returns its exit code."""
        script = _run_script(device, arguments)
        # Standard input is a pipe that nobody writes to: it closes when this process ends in any way.
        child = subprocess.Popen([*self.ssh(), self.host.address, _sh(script)], stdin=subprocess.PIPE)
        try:
            code = child.wait()
        except KeyboardInterrupt:
            if child.stdin:
                child.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(timeout=10)
            child.kill()
            raise
        finally:
            if child.stdin:
                child.stdin.close()
        if code == _SSH_FAILED:
            raise self._unreachable("the connection was lost; the command on the device was stopped")
        return code

    def _run_shell(self, script: str) -> subprocess.CompletedProcess[str]:
        """Run a POSIX shell script there and return its output; raises SE-V93, SE-V94."""
        try:
            done = _captured([*self.ssh(), self.host.address, _sh(script)])
        except FileNotFoundError as error:
            raise SamkrError(
                "SE-V93",
                "--on needs the program ssh, which is not installed",
                fix="sudo apt install openssh-client",
            ) from error
        if done.returncode == _SSH_FAILED:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise self._unreachable(lines[-1].strip() if lines else "ssh gave no reason")
        return done

    def _carry(self, words: list[str], device: ProbeResult) -> None:
        if device.rsync and shutil.which("rsync"):
            command = [
                "rsync",
                "--recursive",
                "--copy-links",
                "--times",
                "--protect-args",
                "-e",
                shlex.join(self.ssh()),
            ]
        else:
            port = ["-P", str(self.host.port)] if self.host.port else []
            command = ["scp", "-q", "-r", *self.options(), *port]
        done = _captured([*command, "--", *words])
        if done.returncode != 0:
            lines = [line for line in done.stderr.splitlines() if line.strip()]
            raise SamkrError(
                "SE-D95",
                f"copying between here and {self.host.address} failed",
                {"reason": [line.strip()[:150] for line in lines[:2]]},
                fix=f"ssh{self._port} {self.host.address} df -h   # is there room?",
            )

    @property
    def _port(self) -> str:
        """For showing command lines."""
        return f" -p {self.host.port}" if self.host.port else ""

    def _unreachable(self, reason: str) -> SamkrError:
        return SamkrError(
            "SE-V94",
            f"{self.host.address} cannot be reached by ssh",
            {"reason": reason[:150]},
            fix=f"ssh{self._port} {self.host.address} true   # until that works",
        )


def _captured(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run without input; both outputs as text, through files, since older ssh masters keep a pipe open forever."""
    with temporary_file() as out, temporary_file() as err:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        texts = []
        for stream in (out, err):
            stream.seek(0)
            texts.append(stream.read().decode(errors="replace"))
    return subprocess.CompletedProcess(command, done.returncode, *texts)


def _sh(script: str) -> str:
    """A POSIX script as one command for any login shell."""
    return f"sh -c {shlex.quote(script)}"


def _probe_script(folder: str | None) -> str:
    """Prints ``samkr-edge-probe KEY=VALUE`` lines."""
    places = [f"{folder}/samkr-edge", f"{folder}/bin/samkr-edge"] if folder else []
    given = " ".join(shlex.quote(place) for place in places)
    usual = '"$HOME/.local/bin/samkr-edge" "$HOME/samkr-edge/.venv/bin/samkr-edge"'
    # A login shell, since a virtual environment is often on the PATH only there.
    on_path = '$(command -v samkr-edge || sh -lc "command -v samkr-edge" 2>/dev/null | tail -n 1)'
    candidates = given if folder else f'"{on_path}" {usual}'
    return "\n".join(
        [
            f"for place in {candidates}; do",
            '  if [ -x "$place" ]; then',
            f'    echo "{_MARK} command=$place"',
            f'    echo "{_MARK} version=$("$place" --version 2>/dev/null | tail -n 1)"',
            f'    echo "{_MARK} job=$(mktemp -d "${{TMPDIR:-/tmp}}/samkr-edge.XXXXXX")"',
            "    break",
            "  fi",
            "done",
            f'command -v rsync >/dev/null && echo "{_MARK} rsync=yes"',
            "exit 0",
        ]
    )


def _run_script(device: ProbeResult, arguments: Sequence[str]) -> str:
    """The command in its own process group, and a watcher that ends it when standard input closes.

    TERM, not INT: a shell starts background commands with INT ignored. The watcher's output goes nowhere, so that ssh
    does not wait for it.
    """
    job = shlex.quote(device.job)
    command = shlex.join([device.command, *arguments])
    return "\n".join(
        [
            f"cd {job} || exit 1",
            "exec 3<&0",
            f"setsid {command} </dev/null 3<&- &",
            "child=$!",
            "(",
            "  cat <&3 >/dev/null",
            f"  touch {job}/.stopped",
            "  for second in 1 2 3 4 5; do",
            # Both: the group does not exist before setsid has run. `-s TERM --` is a form that dash accepts too.
            '    kill -s TERM -- "-$child" "$child" || break',
            "    sleep 1",
            "  done",
            '  kill -s KILL -- "-$child"',
            ") >/dev/null 2>&1 &",
            "watcher=$!",
            "exec 3<&-",
            'wait "$child"',
            "code=$?",
            'kill "$watcher" 2>/dev/null',
            f"if [ -e {job}/.stopped ]; then rm -rf {job}; fi",
            'exit "$code"',
        ]
    )


def _minor(version: str) -> tuple[str, ...]:
    return tuple(version.split(".")[:2])
