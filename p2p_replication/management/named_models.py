"""Models as people name them on the command line."""

from __future__ import annotations

from collections.abc import Sequence

from django.core.management.base import CommandError

from p2p_replication.registry import registry


def labels_of(names: Sequence[str]) -> list[str]:
    """Return the labels of these models, in any case of letters; of all that replicate, if none is named.

    Raises CommandError for those that don't replicate.
    """
    known = {options.label.lower(): options.label for options in registry}
    unknown = [name for name in names if name.lower() not in known]
    if unknown:
        there = ", ".join(sorted(known.values())) or "none"
        raise CommandError(f"{', '.join(unknown)}: no model that replicates. There is: {there}.")
    return [known[name.lower()] for name in names] or list(known.values())
