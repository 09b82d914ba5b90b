"""Rules of the house that no linter knows."""

from __future__ import annotations

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ("chain", "p2p", "miner", "wallet", "node")
TABLES = {"wallet/wordlists/english.py"}  # files that are one long table


def _sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def test_every_dependency_says_in_the_readme_what_it_is_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    readme = (ROOT / "README.md").read_text()
    wanted = project["dependencies"] + [d for extra in project["optional-dependencies"].values() for d in extra]
    names = [re.split(r"[^A-Za-z0-9_.-]", requirement)[0] for requirement in wanted]
    missing = [name for name in names if f"| {name} |" not in readme]
    assert not missing, f"no line in README.md for {missing}"


def test_files_keep_to_one_screenful_of_purpose() -> None:
    long = {
        str(path.relative_to(ROOT)): count
        for path in _sources(*SHIPPED, "tests", "benchmarks")
        if (count := len(path.read_text().splitlines())) > 800 and str(path.relative_to(ROOT)) not in TABLES
    }
    assert not long, f"over 800 lines: {long}"


def test_no_assert_statement_is_shipped() -> None:
    """python -O removes them: a rule, a limit or an invariant must not vanish with a flag."""
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in _sources(*SHIPPED)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Assert)
    ]
    assert not found


def test_chain_does_not_print() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in _sources("chain", "p2p")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not found


@pytest.mark.parametrize("name", ["pickle", "marshal", "shelve"])
def test_nothing_unpickles(name: str) -> None:
    found = [path for path in _sources(*SHIPPED) if re.search(rf"^\s*(import|from) {name}\b", path.read_text(), re.M)]
    assert not found


def test_nothing_evaluates_strings_or_runs_a_shell() -> None:
    found = []
    for path in _sources(*SHIPPED):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec"):
                found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
            if isinstance(node, ast.keyword) and node.arg == "shell" and getattr(node.value, "value", False):
                found.append(f"{path.relative_to(ROOT)}:{node.value.lineno}")
    assert not found


def test_links_between_the_pages_lead_somewhere() -> None:
    broken = []
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            if not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)} → {target}")
    assert not broken


def test_nothing_from_the_vector_folder_is_copied_into_the_project() -> None:
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert not [name for name in tracked if name.endswith((".raw", ".bz2", ".dat", ".jsonl", ".bin"))]
