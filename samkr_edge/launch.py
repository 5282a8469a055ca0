"""The entry point of the ``samkr-edge`` script and of ``python -m samkr_edge``.

Nothing that a user's file could hide is imported before the import path is in order.
"""

import sys

from samkr_edge import child_process


def main() -> None:
    """Run the command line in ``sys.argv``, and exit with its code.

    PYTHONPATH may still name a project with a `training` of its own: for the command line, ours come first.
    """
    child_process.leave_working_folder()
    child_process.find_ours()
    try:
        from samkr_edge.cli import main as command_line
    except ImportError as failed:
        from samkr_edge.errors import SamkrError, reason_of
        from samkr_edge.json_output import print_json_error
        from samkr_edge.memory_errors import short_of_memory

        error = short_of_memory(failed) or SamkrError(
            "SE-U97",
            "the command line cannot start: a package that it needs does not import",
            {"reason": reason_of(failed), "python": sys.executable},
            fix="pip install --force-reinstall samkr-edge",
        )
        if "--json" in sys.argv[1:]:
            print_json_error(error.to_dict())
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    command_line()
