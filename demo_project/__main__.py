"""``python -m demo_project``: start the demo, or check it without a person."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from demo_project.check.sabotage import SABOTAGES
from demo_project.launcher.errors import DemoError, StopRequested
from demo_project.launcher.folder import DEFAULT_FOLDER
from demo_project.launcher.processes import stop_signals


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo_project", description=__doc__)
    parser.add_argument("--port", type=int, default=8001, help="node A's port, B has the next one (0: any free ones)")
    parser.add_argument("--reset", action="store_true", help="start anew: forget both databases")
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER, help="where databases and logs lie")
    parser.add_argument("--places", type=int, metavar="N", help="load only the N largest cities")
    parser.add_argument("--links", action="store_true", help="print new sign-in links of the running demo")
    parser.add_argument("--check", action="store_true", help="check everything without a person, in a temporary folder")
    parser.add_argument("--sabotage", choices=SABOTAGES, help="with --check: break this part, which must be noticed")
    parser.add_argument("--keep", action="store_true", help="with --check: keep the temporary folder")
    options = parser.parse_args(arguments)
    if options.sabotage and not options.check:
        parser.error("--sabotage goes with --check.")
    if options.places is not None and options.places < 1:
        parser.error(f"--places {options.places}: give a number above 0.")
    return options


def main() -> int:
    options = parse()
    try:
        with stop_signals(StopRequested):
            if options.check:
                from demo_project.check.run import run_check

                return run_check(places=options.places, sabotage=options.sabotage, keep=options.keep)
            from demo_project.launcher.run import renew_links, run_demo

            if options.links:
                renew_links(options.folder.resolve())
            else:
                run_demo(options.folder.resolve(), options.port, reset=options.reset, places=options.places)
            return 0
    except StopRequested:
        return 0 if not options.check else 1
    except DemoError as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
