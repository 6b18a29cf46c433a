"""The sabotages in ``patches/``: what each one replaces, and the copies of the tree in which it does so."""

from __future__ import annotations

import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PATCHES = Path(__file__).parent / "patches"
COPIED = ("p2p_replication", "tests", "demo_project", "manage.py", "setup.cfg", "pyproject.toml")
#: Who gets in, and what bytes may do: the simulation's replicas know each other and mean well.
NOT_SIMULATED = (6, 7)


@dataclass(frozen=True)
class Replacement:
    file: str
    old: str
    new: str

    def apply(self, tree: Path, name: str) -> None:
        path = tree / self.file
        text = path.read_text()
        if text.count(self.old) != 1:
            raise SystemExit(
                f"{name}: its text is {text.count(self.old)} times in {self.file}; it has to be there once. "
                "Bring the patch up to date."
            )
        path.write_text(text.replace(self.old, self.new))


@dataclass(frozen=True)
class Sabotage:
    """One patch, and the test that must fail with it."""

    name: str
    #: Number of the guarantee (docs/guarantees.md) that breaks.
    guarantee: int
    title: str
    replacement: Replacement
    test: str
    #: The same fault in the simulation's model of storage, for a patch in storage.
    model: Replacement | None = None
    #: Whether the simulation has to find it.
    is_simulated: bool = False

    @classmethod
    def load(cls, path: Path) -> Sabotage:
        values: dict[str, Any] = tomllib.loads(path.read_text())
        model = Replacement(**values["model"]) if "model" in values else None
        file, guarantee = values["file"], values["guarantee"]
        in_protocol = file.startswith("p2p_replication/protocol/") and guarantee not in NOT_SIMULATED
        return cls(
            path.stem,
            guarantee,
            values["title"],
            Replacement(file, values["old"], values["new"]),
            values["test"],
            model,
            values.get("simulation", in_protocol),
        )

    def apply(self, tree: Path) -> None:
        self.replacement.apply(tree, self.name)
        if self.model is not None:
            self.model.apply(tree, self.name)


def load(names: list[str]) -> list[Sabotage]:
    patches = [Sabotage.load(path) for path in sorted(PATCHES.glob("*.toml"))]
    unknown = set(names) - {patch.name for patch in patches}
    if unknown:
        raise SystemExit(f"There is no sabotage {', '.join(sorted(unknown))}.")
    return [patch for patch in patches if not names or patch.name in names]


def copy_tree(target: Path) -> None:
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target / name)
