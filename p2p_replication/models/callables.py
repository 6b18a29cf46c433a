"""Callables in declarations: stored by name, so that the worker process can find them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.apps import apps
from django.utils.module_loading import import_string

from p2p_replication.exceptions import ConfigurationError


def dotted_name(option: str, function: Callable[..., Any] | str) -> str:
    """Return ``module.name`` of a module-level function of an installed app, given as itself or by this name.

    Raises ConfigurationError for anything that another process could not import.
    """
    if isinstance(function, str):
        resolve(function)
        return function
    module = getattr(function, "__module__", None)
    name = getattr(function, "__qualname__", None)
    reason = None
    if module is None or name is None:
        reason = "it has no name of its own (a partial or an instance)"
    elif module == "__main__":
        reason = "it is defined in __main__, which the worker process does not run"
    elif "<" in name or "." in name:
        reason = "it is not at the top level of its module (a lambda, a method or an inner function)"
    elif apps.get_containing_app_config(module) is None:
        reason = f"its module {module} is in no installed app"
    if reason is not None:
        raise ConfigurationError(
            f"{option}={function!r} can't be used, as {reason}. "
            "Write a function at the top level of a module in an installed app; the worker imports it by name."
        )
    path = f"{module}.{name}"
    if resolve(path) is not function:
        raise ConfigurationError(f"{option}={function!r}: {path} is another object.")
    return path


def resolve(path: str) -> Callable[..., Any]:
    """Import the callable again. Raises ConfigurationError if it is gone."""
    try:
        function = import_string(path)
    except ImportError as error:
        raise ConfigurationError(f"{path} can't be imported any more: {error}") from error
    if not callable(function):
        raise ConfigurationError(f"{path} is no callable.")
    return function  # type: ignore[no-any-return]
