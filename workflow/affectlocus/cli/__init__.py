"""The command line: options and files only; the work is done by the rooms above."""

from affectlocus.cli.entry import app, main

__all__ = ["app", "main"]
