"""Runs the command line: ``python -m brodmann``."""

from .cli import main

main()
