"""The root of the command line: one table, command -> "module:function", and nothing that is slow to import.

A command lives with the package that does its work, and is imported only when it runs. So ``--help`` is instant,
a Jetson without torch lists every command, and a command whose packages are missing names the extra to install.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, Any

import typer

from samkr_edge import __version__, child_process, stopping
from samkr_edge.cli.usage_errors import USAGE, empty_word, help_instead, usage_error
from samkr_edge.doctor import typer_check
from samkr_edge.doctor.opencv_install import missing_opencv, pip_line
from samkr_edge.errors import SamkrError, fact_lines, reason_of
from samkr_edge.files.refused import refused_file
from samkr_edge.json_output import print_json_error
from samkr_edge.memory_errors import short_of_memory
from samkr_edge.packages import PACKAGES, does_not_import, foreign_behind, not_installed, resolve
from samkr_edge.stream_address import hide_secrets, without_secrets
from samkr_edge.terminal import delivered, discard_stdout, nobody_reads, open_streams, say


@dataclass(frozen=True)
class Command:
    """Where a command lives, its line in ``--help``, its group there, and the extra that brings what it needs.

    ``goes_on``: stopped, the same command line resumes.
    """

    target: str
    help: str
    panel: str
    extra: str | None = None
    goes_on: bool = False


_ROOM_FOR_PANELS = 60
ROAD, STEPS, DEVICE, LOOK = "From start to end", "On the host", "On the device", "Information"

COMMANDS: dict[str, Command] = {
    "demo": Command(
        "samkr_edge.cli.demo:demo",
        "Run every step below on this machine, ending in a report.",
        ROAD,
        "all",
        True,
    ),
    "data": Command(
        "training.cli.data:app", "Render people as a COCO data set; check, cut or split one.", STEPS
    ),
    "train": Command("training.cli.train:train", "Train a network from a recipe.", STEPS, "train"),
    "recipes": Command("training.cli.train:recipes", "List the recipes and keys of `train`.", LOOK),
    "import": Command(
        "training.cli.import_weights:import_weights",
        "Import weights of HRNet, DEKR, HigherHRNet, SWAHR or mmpose.",
        STEPS,
        "train",
    ),
    "rescore": Command(
        "training.cli.rescoring:rescore", "Train a network that rescores poses, for eval.", STEPS, "train"
    ),
    "quantize": Command(
        "calibration.cli.quantize:quantize", "Calibrate to INT8 by a policy (PTQ).", STEPS, "quantize"
    ),
    "qat": Command(
        "calibration.cli.qat:qat", "Fine-tune a quantized checkpoint (QAT).", STEPS, "quantize", True
    ),
    "sensitivity": Command(
        "calibration.cli.sensitivity:sensitivity",
        "Measure the AP that each group of layers loses in INT8.",
        STEPS,
        "quantize",
        True,
    ),
    "search": Command(
        "calibration.cli.search:search",
        "Find the policy with the most INT8 within an AP budget.",
        STEPS,
        "quantize",
        True,
    ),
    "ledger": Command(
        "calibration.cli.ledger:ledger", "Show at which step accuracy was lost.", STEPS, "quantize"
    ),
    "export": Command(
        "training.cli.export:export", "Export a checkpoint to ONNX, INT8 as Q/DQ.", STEPS, "train"
    ),
    "build": Command(
        "samkr_edge.cli.build:build", "Build an ONNX file into what a target runs fastest.", DEVICE, "build"
    ),
    "bundle": Command(
        "samkr_edge.cli.bundle:bundle", "Pack ONNX, model card and built models into one file.", DEVICE
    ),
    "predict": Command(
        "samkr_edge.cli.predict:predict", "Find people in images, videos and camera streams.", DEVICE
    ),
    "eval": Command("samkr_edge.cli.evaluate:evaluate", "Measure AP on a COCO or CrowdPose split.", DEVICE),
    "bench": Command("benchmarks.cli.bench:bench", "Compare AP and latency of several models.", DEVICE),
    "sweep": Command(
        "benchmarks.cli.sweep:sweep",
        "Run a suite of benchmarks; resumes where it stopped.",
        DEVICE,
        goes_on=True,
    ),
    "report": Command(
        "benchmarks.cli.report:report", "Write results as one self-contained HTML page.", DEVICE, "report"
    ),
    "selftest": Command(
        "benchmarks.cli.selftest:selftest",
        "Check, in stages, that this GPU computes the networks correctly.",
        DEVICE,
    ),
    "doctor": Command(
        "samkr_edge.cli.doctor:doctor", "Show what works on this machine, and how to fix the rest.", LOOK
    ),
    "models": Command(
        "training.cli.models:models",
        "List the model zoo: parameters, GMACs, the paper's figures.",
        LOOK,
        "train",
    ),
    "zoo": Command(
        "training.cli.zoo:app",
        "List networks that are ready to use, and get one.",
        LOOK,
        "train",
        goes_on=True,
    ),
    "targets": Command("samkr_edge.cli.targets:targets", "List the device profiles.", LOOK, "build"),
    "inspect": Command(
        "samkr_edge.cli.inspect:inspect",
        "Show what is inside a model, and what keeps it from being fast.",
        LOOK,
        "build",
    ),
}


def load_command(name: str) -> typer.Typer:
    """Import one command and wrap it as its own Typer application.

    Raises:
        SamkrError: SE-U70 when a package that the command needs is not installed.
    """
    entry = COMMANDS[name]
    try:
        found = resolve(entry.target)
    except ModuleNotFoundError as error:
        raise missing_package(name, error) from error
    if isinstance(found, typer.Typer):
        return found
    application = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    application.command(name)(found)
    return application


def missing_package(command: str, error: ModuleNotFoundError) -> Exception:
    """The error for a command whose package is not installed; if that is ours, the installation is broken."""
    package = (error.name or "?").split(".")[0]
    if package in PACKAGES:
        return error
    if package == "cv2":
        return missing_opencv()
    extra = COMMANDS[command].extra
    fix = pip_line(extra, find_spec("cv2") is None) if extra else "pip install --force-reinstall samkr-edge"
    return not_installed(f"`{command}`", package, fix)


def _dispatcher(name: str) -> Any:
    def dispatch(context: typer.Context) -> Any:
        context.obj.append(name)  # ``run`` checks whether this was reached
        command = typer.main.get_command(load_command(name))
        # Without standalone mode the code of a typer.Exit comes back as the result.
        return command.main(context.args, prog_name=f"samkr-edge {name}", standalone_mode=False)

    return dispatch


def _application() -> typer.Typer:
    application = typer.Typer(
        name="samkr-edge",
        help="Train, quantize, export and deploy SAMKR pose networks, with accuracy and speed measured at every step.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        # On a narrow terminal panels truncate the names of options; plain help does not.
        rich_markup_mode="rich" if shutil.get_terminal_size().columns >= _ROOM_FOR_PANELS else None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @application.callback()
    def options(
        version: Annotated[
            bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version.")
        ] = False,
        debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    ) -> None:
        pass

    for name, entry in COMMANDS.items():
        application.command(
            name,
            help=entry.help,
            rich_help_panel=entry.panel,
            # Everything after the name, --help included, is the command's own.
            context_settings={
                "allow_extra_args": True,
                "ignore_unknown_options": True,
                "help_option_names": [],
            },
        )(_dispatcher(name))
    return application


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"samkr-edge {__version__}")
        raise typer.Exit()


def run(arguments: list[str], heard: Sequence[int] = ()) -> int:
    """Run one command line and return its exit code; errors are printed once, here.

    ``heard``: signals treated like Ctrl-C so far; the caller adds to it.
    """
    # Before torch is imported: its idle OpenMP threads shall spin for microseconds, then sleep. Spinning for long
    # (the default) makes a training step tens of times slower beside another busy process; not spinning at all
    # halves its speed on two quiet cores.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")
    as_json = "--json" in arguments
    debug = "--debug" in arguments
    if not debug:  # OpenCV and its FFmpeg print whole addresses, and lines without end about one damaged file
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    # --debug is accepted anywhere, since it is wanted after a command has failed.
    arguments = [argument for argument in arguments if argument != "--debug"]
    entered: list[str] = []
    if (empty := empty_word(arguments)) is not None:
        return _print_error(_without_secrets(empty, arguments), as_json)
    try:
        code = typer.main.get_command(_application()).main(
            _with_its_dashes(arguments), prog_name="samkr-edge", standalone_mode=False, obj=entered
        )
        if code == stopping.CTRL_C:  # Typer's answer to it
            raise KeyboardInterrupt
        if typer_check.did_nothing(arguments, entered):
            raise typer_check.mismatch("it ended without running the command")
        return code if isinstance(code, int) else 0
    except SamkrError as error:
        if debug:
            raise
        if stopping.caused(error):
            return _print_stopped(arguments, heard)
        return _print_error(_without_secrets(short_of_memory(error) or error, arguments), as_json)
    except (KeyboardInterrupt, typer.Abort):
        return _print_stopped(arguments, heard)
    except SystemExit:
        if entered:
            raise
        return 0  # Rich, where nobody reads the root's help any more (`| head`)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and nobody_reads():
            discard_stdout()
            return 0
        if heard or stopping.caused(error):  # what breaks while it is being stopped breaks because of it
            return _print_stopped(arguments, heard)
        if (shown := help_instead(error)) is not None:
            say(shown)
            return 2
        cause = error
        try:
            known = usage_error(error, arguments) or _known_cause(error, arguments)
        except Exception as failed:  # an old Typer's, while it words its own
            cause, known = failed, _known_cause(failed, arguments)
        if debug and (known is None or known.code != USAGE):
            if cause is error:
                raise  # with all that led to it
            raise cause from None
        if known is not None:
            return _print_error(_without_secrets(known, arguments), as_json)
        return _print_bug(cause, arguments, as_json)


def _with_its_dashes(arguments: list[str]) -> list[str]:
    """The root's parser takes the ``--`` that stands before a file named ``-dash.mp4``: the command needs one too."""
    if "--" not in arguments:
        return arguments
    place = arguments.index("--")
    named = any(argument in COMMANDS for argument in arguments[:place])
    return [*arguments[:place], "--", *arguments[place:]] if named else arguments


def _without_secrets(error: SamkrError, arguments: list[str]) -> SamkrError:
    """The error without the password of an address that was given where a command takes a path."""
    facts = {label: _hidden(value, arguments) for label, value in error.facts.items()}
    fix = error.fix and hide_secrets(error.fix, arguments)
    return SamkrError(error.code, hide_secrets(error.message, arguments), facts, fix)


def _hidden(value: object, arguments: list[str]) -> object:
    if isinstance(value, list):
        return [_hidden(one, arguments) for one in value]
    return hide_secrets(value, arguments) if isinstance(value, str) else value


def _known_cause(error: Exception, arguments: list[str]) -> SamkrError | None:
    """What is wrong with this installation, where an exception that is not ours comes from that; else None."""
    known = short_of_memory(error) or foreign_behind(error)
    if known is not None:
        return known
    if isinstance(error, ModuleNotFoundError):
        command = next((argument for argument in arguments if argument in COMMANDS), None)
        found = missing_package(command, error) if command else error
        return found if isinstance(found, SamkrError) else None
    if isinstance(error, ImportError):
        if arguments[:1] == ["doctor"]:
            return does_not_import(error, "pip install --force-reinstall samkr-edge")
        return does_not_import(error)
    if not isinstance(error, OSError) and typer_check.is_too_old():
        return typer_check.mismatch(reason_of(error))
    return refused_file(error)


def _print_stopped(arguments: list[str], heard: Sequence[int]) -> int:
    """Say who asked, and what was left behind as far as it can be said of a command; some say more themselves."""
    by = f"stopped by {stopping.name_of(heard)}"
    command = COMMANDS.get(next((argument for argument in arguments if argument in COMMANDS), ""))
    goes_on = command is not None and command.goes_on
    say(f"{by}; finished work is kept, and the same command resumes from there" if goes_on else by)
    return stopping.exit_code(heard)


def _print_error(error: SamkrError, as_json: bool) -> int:
    if as_json:
        print_json_error(error.to_dict())
    say(str(error))
    return error.exit_code


def _print_bug(error: Exception, arguments: list[str], as_json: bool) -> int:
    again = shlex.join(map(without_secrets, arguments))
    told: dict[str, Any] = {
        "code": "SE-X01",
        "message": f"{type(error).__name__}: {hide_secrets(str(error), arguments)}",
        "facts": {"cause": "a bug in samkr-edge, or a case it does not handle yet"},
        "fix": f"samkr-edge --debug {again}   # and send the traceback",
    }
    if as_json:
        print_json_error(told)
    say(f"error SE-X01: {told['message']}\n  {fact_lines(told['facts'])[0]}\nfix: {told['fix']}")
    return 1


def main() -> None:
    """The ``samkr-edge`` command; ``samkr_edge.launch.main`` calls it."""
    open_streams()
    child_process.protect_children()
    with stopping.heard_as_ctrl_c() as heard:
        code = run(sys.argv[1:], heard)
    sys.exit(delivered(code))
