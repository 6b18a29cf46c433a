"""The subcommands of ``manage.py p2p``: each module here defines one ``Subcommand`` class and gives it its name.

A module is found by lying here; nothing has to be registered.
"""

from __future__ import annotations

import abc
import importlib
import pkgutil
from argparse import ArgumentParser
from typing import Any, ClassVar

from django.core.management.base import BaseCommand


class Subcommand(abc.ABC):
    """One ``manage.py p2p <name>``. Errors for the user are raised as ``CommandError``."""

    #: One line for ``manage.py p2p --help``.
    help: ClassVar[str]

    def __init__(self, command: BaseCommand) -> None:
        self.stdout = command.stdout
        self.stderr = command.stderr
        self.style = command.style

    @classmethod
    @abc.abstractmethod
    def add_arguments(cls, parser: ArgumentParser) -> None:
        """Declare the arguments."""

    @abc.abstractmethod
    def handle(self, **options: Any) -> None:
        """Run it."""


def subcommands() -> dict[str, type[Subcommand]]:
    """All subcommands by name."""
    found: dict[str, type[Subcommand]] = {}
    for info in pkgutil.iter_modules(__path__):
        module = importlib.import_module(f"{__name__}.{info.name}")
        classes = [
            value
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, Subcommand) and value.__module__ == module.__name__
        ]
        if len(classes) != 1:
            raise ImportError(f"{module.__name__} must define one Subcommand, not {len(classes)}.")
        found[info.name] = classes[0]
    return found
