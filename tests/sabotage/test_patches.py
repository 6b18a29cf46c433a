"""Every sabotage can be applied, and names a test that is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sabotage.sabotages import PATCHES, ROOT, Sabotage


@pytest.mark.parametrize("path", sorted(PATCHES.glob("*.toml")), ids=lambda path: path.stem)
def test_a_sabotage_fits_the_tree(path: Path) -> None:
    patch = Sabotage.load(path)
    for part in (patch.replacement, patch.model):
        if part is not None:
            assert (ROOT / part.file).read_text().count(part.old) == 1, f"bring it up to date: {part.file}"
    file, *names = patch.test.split("::")
    assert all(name.split("[")[0] in (ROOT / file).read_text() for name in names), patch.test
