"""Running ``manage.py p2p`` as a person does, on this or on a running replica."""

from __future__ import annotations

import io
import json
from typing import Any

from django.core.management import call_command
from django.core.management.base import CommandError

from tests.live_replicas import LiveReplica


def run(*arguments: str) -> tuple[str, str]:
    """Return what a subcommand has printed, and its error; empty if it ended with 0."""
    stdout, error = io.StringIO(), ""
    try:
        call_command("p2p", *arguments, stdout=stdout, stderr=io.StringIO())
    except CommandError as failed:
        assert failed.returncode == 1
        error = str(failed)
    return stdout.getvalue(), error


def run_json(*arguments: str) -> tuple[Any, str]:
    """The same with ``--json``, read."""
    printed, error = run(*arguments, "--json")
    return json.loads(printed), error


async def on(replica: LiveReplica, *arguments: str) -> tuple[Any, str]:
    """``run_json`` on a running replica, beside its worker."""
    return await replica.do(run_json, *arguments)
