"""Runs the command line: ``python -m gnnbridge``."""

from gnnbridge.cli import main

main()
