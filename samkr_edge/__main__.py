"""``python -m samkr_edge`` is the ``samkr-edge`` command."""

from samkr_edge.launch import leave_working_folder

leave_working_folder()  # before more is imported: Python has put it first on the path

from samkr_edge.cli import main  # noqa: E402

main()
