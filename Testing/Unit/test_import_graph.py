"""Imports only go down: the order of the library's packages and files, stated once, against the syntax trees.

Imports within functions and for type checkers count like any others. The graph of the SemiSegLib in FOLDER as numbers,
and its circles: `python Testing/Unit/test_import_graph.py [FOLDER]`.
"""

import ast
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

LIBRARY = Path(__file__).resolve().parent.parent.parent / "SemiSegLib"
LAYERS = """
    __init__ errors constants files
    compute commands values
    config
    runs schedules networks durations
    data
    losses metrics models evaluation
    report methods inference
    presets
    run_page
    training
    synthetic console tracking device_report
    predict evaluate summarise quality refine suggest export
    demo
    train
    api benchmark
    __main__
"""
"""From the bottom to the top; those of one line know nothing of each other. A package counts as a whole."""
FOREIGN = {"slicer", "qt", "ctk", "vtk", "mrml", "SemiSegModule", "SemiSegModuleLib"}


def imports(file: Path, library: Path) -> set[str]:
    """Dotted names of what a file imports, absolute: of the library's own files and of other packages."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*_package(file, library, node.level), *([node.module] if node.module else [])])
            names = {f"{base}.{alias.name}" for alias in node.names}
            found |= {name if _is_file(name, library) else base for name in names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module") and node.args:
            found |= {node.args[0].value} if isinstance(node.args[0], ast.Constant) else set()
    return found


def _package(file: Path, library: Path, level: int) -> list[str]:
    """Names of the package that a relative import with so many dots starts from."""
    return list(file.relative_to(library.parent).parts[:-level]) if level else []


def _is_file(name: str, library: Path) -> bool:
    path = library.parent.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def graph(library: Path) -> dict[str, set[str]]:
    """What each file of the library imports of it: data.cases -> {config, data.formats, ...}."""
    names = {}
    for file in sorted(library.rglob("*.py")):
        parts = file.relative_to(library).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)] = file
    own = {f"{library.name}.{name}": name for name in names} | {library.name: "__init__"}
    return {
        name: {own[found] for found in imports(file, library) if found in own} - {name} for name, file in names.items()
    }


def by_package(files: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
    """The same graph with each package as one node."""
    packages: dict[str, set[str]] = {name.split(".")[0]: set() for name in files}
    for name, targets in files.items():
        packages[name.split(".")[0]] |= {target.split(".")[0] for target in targets}
    return {name: targets - {name} for name, targets in packages.items()}


def circles(arrows: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Groups of nodes that can all reach each other, of two and more."""
    reach = {node: _reachable(node, arrows) for node in arrows}
    groups = {tuple(sorted(o for o in reach[node] if node in reach.get(o, ()))) for node in arrows}
    return [list(group) for group in sorted(groups) if len(group) > 1]


def _reachable(start: str, arrows: Mapping[str, Iterable[str]]) -> set[str]:
    found, todo = set(), [start]
    while todo:
        new = set(arrows.get(todo.pop(), ())) - found
        found |= new
        todo += new
    return found


def upward(packages: Mapping[str, Iterable[str]]) -> list[str]:
    """Arrows that do not lead to a lower line of LAYERS."""
    levels = {name: level for level, line in enumerate(LAYERS.strip().splitlines()) for name in line.split()}
    return [f"{a} -> {b}" for a in sorted(packages) for b in sorted(packages[a]) if levels[a] <= levels[b]]


def test_every_package_has_its_place():
    assert sorted(LAYERS.split()) == sorted(by_package(graph(LIBRARY)))


def test_arrows_go_down():
    assert upward(by_package(graph(LIBRARY))) == []


@pytest.mark.parametrize("whole", [True, False], ids=["packages", "files"])
def test_there_are_no_circles(whole):
    files = graph(LIBRARY)
    assert circles(by_package(files) if whole else files) == []


def test_the_library_knows_nothing_of_slicer():
    for file in LIBRARY.rglob("*.py"):
        assert not {name.split(".")[0] for name in imports(file, LIBRARY)} & FOREIGN, file


def test_hidden_imports_are_found(tmp_path):
    library = tmp_path / "SemiSegLib"
    (library / "data").mkdir(parents=True)
    for name in ("__init__", "data/__init__", "data/cases"):
        (library / f"{name}.py").touch()
    (library / "runs.py").write_text("def f():\n    from SemiSegLib import data\n    from .data import cases\n")
    (library / "data" / "images.py").write_text("if 0:\n    import SemiSegLib.runs as r\nfrom . import cases\n")
    (library / "data" / "late.py").write_text("import importlib\nimportlib.import_module('SemiSegLib.runs')\n")
    found = graph(library)
    assert found["runs"] == {"data", "data.cases"}
    assert found["data.images"] == {"runs", "data.cases"}
    assert found["data.late"] == {"runs"}
    assert circles(by_package(found)) == [["data", "runs"]]
    assert upward({"errors": {"training"}, "training": {"errors"}}) == ["errors -> training"]


def main(library: Path) -> None:
    files = graph(library)
    packages = by_package(files)
    for what, arrows in (("packages and files beside them", packages), ("files", files)):
        found = circles(arrows)
        print(f"{len(arrows)} {what}, {sum(map(len, arrows.values()))} arrows, {sum(map(len, found))} in circles")
        for circle in found:
            print(f"  {' '.join(circle)}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else LIBRARY)
