"""The command line: `longmill VERB`."""

from flows.cli.app import app, main

__all__ = ["app", "main"]
