"""The house rules that no linter checks: sizes, whose packages are imported, what must not stand in the repository."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from pip._internal.models.index import PyPI

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("workload", "driver", "exporter", "dashboards", "migrascope")
FILE_LINES, FUNCTION_LINES = 400, 60
SOURCES = sorted(path for folder in (*PACKAGES, "bench", "tests") for path in (ROOT / folder).rglob("*.py"))


def place(path: Path) -> str:
    return str(path.relative_to(ROOT))


def test_no_file_is_longer_than_four_hundred_lines() -> None:
    written_in_c = [path for suffix in ("*.c", "*.h") for path in (ROOT / "workload").rglob(suffix)]
    lengths = {place(path): len(path.read_text().splitlines()) for path in (*SOURCES, *written_in_c)}
    assert len(lengths) > len(PACKAGES)
    assert {name: length for name, length in lengths.items() if length > FILE_LINES} == {}


def test_no_function_outside_tests_is_longer_than_sixty_lines() -> None:
    lengths = {
        f"{place(path)}:{node.lineno} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in SOURCES
        if path.parts[len(ROOT.parts)] != "tests"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert lengths
    assert {name: length for name, length in lengths.items() if length > FUNCTION_LINES} == {}


@pytest.mark.parametrize("name", PACKAGES)
def test_the_imported_package_is_this_trees(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__file__ is not None
    assert Path(module.__file__).resolve() == ROOT / name / "__init__.py"


@pytest.mark.parametrize("path", [path for path in SOURCES if path.name == "__init__.py"], ids=place)
def test_an_init_file_holds_one_docstring_only(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert len(tree.body) == 1
    assert ast.get_docstring(tree)


def test_nothing_is_imported_from_an_index_that_the_lock_does_not_hold() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = {
        "run": project["dependencies"] + extras["build"],
        "test": project["dependencies"] + extras["build"] + extras["test"],
    }
    for lock, requirements in wanted.items():
        locked = re.findall(r"^([\w.-]+)==", (ROOT / f"deploy/lock/{lock}.txt").read_text(), re.MULTILINE)
        names = {normalised(re.split(r"[<>=!~\[; ]", requirement)[0]) for requirement in requirements}
        assert names <= {normalised(name) for name in locked}, f"{lock}.txt is behind pyproject.toml: `make lock`"


def test_both_locks_name_the_same_versions() -> None:
    pins = {
        lock: set(re.findall(r"^[\w.-]+==\S+", (ROOT / f"deploy/lock/{lock}.txt").read_text(), re.MULTILINE))
        for lock in ("run", "test")
    }
    assert pins["run"]
    assert pins["run"] <= pins["test"]


def test_no_address_of_a_package_source_stands_in_the_repository(tmp_path: Path) -> None:
    """Mirrors differ from machine to machine: they are read from the machine, as here."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout: what belongs to the repository is not known")
    pattern = "|".join(re.escape(host) for host in sorted(package_hosts(tmp_path)))
    found = subprocess.run(
        ["git", "grep", "-nIE", pattern], cwd=ROOT, capture_output=True, text=True, timeout=30, check=False
    )
    assert found.returncode == 1, found.stdout + found.stderr  # 1: git grep found nothing


def package_hosts(scratch: Path) -> set[str]:
    """Return the hosts of this machine's package sources: pip's default, what pip is told, and apt's."""
    said = [PyPI.url]
    commands = [[sys.executable, "-m", "pip", "config", "list"]]
    if shutil.which("apt-get"):
        (scratch / "partial").mkdir()
        no_lists = ["-o", f"Dir::State::Lists={scratch}", "-o", "Debug::NoLocking=1"]  # so that each is named
        commands.append(["apt-get", *no_lists, "--print-uris", "update"])
    said.extend(
        subprocess.run(line, capture_output=True, text=True, timeout=30, check=True).stdout for line in commands
    )
    return {host for text in said for host in re.findall(r"https?://(?:[^/@\s]*@)?([^/:\s']+)", text)}


def normalised(name: str) -> str:
    """Return a distribution's name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
