"""The documents keep up with the code: settings, checks, sabotages, links and examples."""

from __future__ import annotations

import ast
import re
import tomllib
from dataclasses import fields
from pathlib import Path
from types import EllipsisType

import pytest

from p2p_replication import checks
from p2p_replication.conf import AppSettings
from p2p_replication.management.subcommands import subcommands
from p2p_replication.protocol.messages import TYPES
from p2p_replication.signaling.limits import SignalingLimits
from p2p_replication.transport.webrtc import WebRTCOptions

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
names = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


def text(document: str) -> str:
    return (ROOT / document).read_text()


def described(document: str) -> set[str]:
    """Return what stands in code type in the first column of the document's tables."""
    first_cells = re.findall(r"^\| *([^|]+?) *\|", text(document), re.MULTILINE)
    return {name for cell in first_cells for name in re.findall(r"`([^`]+)`", cell)}


def test_the_faults_that_others_had_are_tests() -> None:
    table = text("docs/guarantees.md").partition("## Faults that others had")[2]
    named = re.findall(r"`([\w/]+\.py)(?:::(\w+))?`", table)
    assert len(named) > 15
    for file, name in named:
        assert f"def {name}" in text(f"tests/{file}"), f"{file}::{name}"


def test_every_concurrent_case_has_its_test() -> None:
    lines = [line for line in text("docs/concurrent-cases.md").splitlines() if line.startswith("| ")]
    cases = [line for line in lines if not line.startswith("| case |")]
    assert len(cases) > 60
    for case in cases:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", case)
        assert named, case
        for file, name in named:
            assert f"def {name}(" in text(file), f"{file}::{name}"


def test_every_setting_is_described() -> None:
    missing = {field.name for field in fields(AppSettings)} - described("docs/settings.md")
    assert not missing, "docs/settings.md"


def test_every_option_of_the_webrtc_handler_is_described() -> None:
    assert {field.name for field in fields(WebRTCOptions)} <= described("docs/settings.md")


def test_every_signaling_limit_is_described() -> None:
    assert {field.name for field in fields(SignalingLimits)} <= described("docs/signaling.md")


def test_defaults_in_the_table_of_settings_are_the_real_ones() -> None:
    defaults = AppSettings()
    rows = re.findall(r"^\| `([A-Z_]+)` \| `([^`]+)` \|", text("docs/settings.md"), re.MULTILINE)
    told = {name: ast.literal_eval(value) for name, value in rows if hasattr(defaults, name)}
    assert len(told) > 10
    assert told == {name: getattr(defaults, name) for name in told}


def test_every_system_check_is_described_and_no_other() -> None:
    package = Path(checks.__file__).parent
    ids = {
        found
        for file in package.rglob("*.py")
        for found in re.findall(r'"(p2p_replication\.[EWI]\d+)"', file.read_text())
    }
    assert ids
    assert {name for name in described("docs/checks.md") if name.startswith("p2p_replication.")} == ids


def test_every_subcommand_is_described() -> None:
    for name in subcommands():
        assert re.search(rf"^## `manage.py p2p {name}\b", text("docs/commands.md"), re.MULTILINE), name


def test_every_message_is_described_with_its_fields() -> None:
    protocol = text("docs/protocol.md")
    for number, message in TYPES.items():
        name = message.__name__.upper()
        rows = [line for line in protocol.splitlines() if re.match(r"\| [\d, ]+\|", line)]
        row = next(line for line in rows if re.search(rf"\b{name}\b", line))
        assert str(number) in row.split("|")[1], name
        assert re.findall(r"`(\w+)`", row) == list(message.__struct_fields__), name


def test_every_sabotage_stands_in_the_row_of_its_guarantee() -> None:
    rows = dict(re.findall(r"^\| (\d+) \|(.*)$", text("docs/guarantees.md"), re.MULTILINE))
    for path in sorted((ROOT / "tests" / "sabotage" / "patches").glob("*.toml")):
        guarantee = str(tomllib.loads(path.read_text())["guarantee"])
        assert f"`{path.stem}`" in rows[guarantee], f"docs/guarantees.md: name the sabotage in row {guarantee}"


def test_every_test_named_as_a_proof_is_there() -> None:
    rows = re.findall(r"^\| \d+ \|.*$", text("docs/guarantees.md"), re.MULTILINE)
    named = re.findall(r"`([\w/]+(?:\.py|/))`", "".join(rows))
    assert len(named) > 8
    for name in named:
        assert (ROOT / "tests" / name).exists(), name


def test_every_test_named_for_a_way_to_write_or_migrate_is_there() -> None:
    cells = re.findall(r"\| `([^`|]+)` \|$", text("docs/writes-and-migrations.md"), re.MULTILINE)
    assert len(cells) > 70
    for cell in cells:
        file, test, case = re.fullmatch(r"([\w/.]+)::(\w+)(?:\[(.+)\])?", cell).groups()  # type: ignore[union-attr]
        code = (ROOT / "tests" / "storage" / file).read_text()
        assert re.search(rf"^def {test}\(", code, re.MULTILINE), cell
        assert case is None or f'"{case}": ' in code, cell


@names
def test_python_blocks_compile(document: Path) -> None:
    for block in re.findall(r"^ *```python\n(.*?)^ *```", document.read_text(), re.MULTILINE | re.DOTALL):
        compile(block, document.name, "exec")


@names
def test_links_to_other_files_lead_somewhere(document: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([\w-]+))?\)", document.read_text()):
        path = document.parent / target if target else document
        assert path.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w-]", "", heading.lower().replace(" ", "-")) for heading in headings}, anchor


def test_the_sqlite_options_of_the_readme_are_those_the_check_asks_for() -> None:
    """The README's settings, tried: the check finds nothing wrong with them."""
    from p2p_replication.checks.databases import _missing

    block = next(b for b in re.findall(r"```python\n(.*?)```", text("README.md"), re.DOTALL) if "DATABASES" in b)
    readme: dict[str, object] = {"os": __import__("os"), "BASE_DIR": ROOT}
    exec(block, readme)
    databases = readme["DATABASES"]
    assert isinstance(databases, dict)
    assert list(_missing(databases["default"]["OPTIONS"])) == []
    apps = readme["INSTALLED_APPS"]
    assert isinstance(apps, list)
    assert [app for app in apps if not isinstance(app, EllipsisType)][:2] == ["daphne", "channels"]
