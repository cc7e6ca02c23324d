"""The command line: look before you compute."""

from .commands import app as app
