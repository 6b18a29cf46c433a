"""``manage.py runp2psync``: run the replication worker."""

from __future__ import annotations

import logging
import os
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from p2p_replication.exceptions import P2PError


class Command(BaseCommand):
    help = (
        "Run the worker that replicates: it joins the declared pools, posts what the application commits, and applies "
        "what peers send. Runs until Ctrl-C or SIGTERM."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--log", action="store_true", help="write log lines even on a terminal")
        parser.add_argument(
            "--stats-file",
            default=os.environ.get("P2P_STATS_FILE", ""),
            help="write the traffic of data channels and signaling there, as JSON, at a clean stop and on SIGUSR1",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        use_uvloop()
        # Imported here: the worker pulls in what no other command needs.
        from p2p_replication.worker import terminal
        from p2p_replication.worker.process import SyncWorker

        on_terminal = sys.stdout.isatty() and not options["log"]
        if not on_terminal:
            log_to(self.stdout, options["verbosity"])
        try:
            SyncWorker(options["stats_file"], terminal.show if on_terminal else None).run()
        except P2PError as error:
            raise CommandError(str(error)) from error


def use_uvloop() -> None:
    """Use uvloop where it exists: two to four times the throughput of a data channel."""
    try:
        import uvloop
    except ImportError:
        return
    uvloop.install()


def log_to(stream: Any, verbosity: int) -> None:
    """Let the package's log lines go to the command's output, unless the project has set up logging for it."""
    logger = logging.getLogger("p2p_replication")
    if logger.handlers or logging.getLogger().handlers:
        return
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if verbosity > 1 else logging.INFO)
