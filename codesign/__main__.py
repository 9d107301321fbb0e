"""`python -m codesign`."""

from codesign.cli.main import run

run()
