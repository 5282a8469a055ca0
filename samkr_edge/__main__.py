"""``python -m samkr_edge`` is the ``samkr-edge`` command."""

from samkr_edge.launch import main

main()
