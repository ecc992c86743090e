"""The training methods, one file each; found by name without importing torch.

A method is a file in this folder that defines a class `Method` (see base.py). Its module docstring's first line is
its one-line description; its dataclass `MethodSettings` holds its settings; its dictionary `TRAINING_DEFAULTS` the
training settings of its paper, `STRONG_DEFAULTS` settings by their dotted names under our own recipe; the line
`needs_unlabelled = False` in its class says that it learns from annotated scans alone. All of this is read from the
source text, so that the command line's help and the Slicer process can list the methods without importing torch.
"""

from __future__ import annotations

import ast
import importlib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from SemiSegLib.errors import SemiSegError
from SemiSegLib.values import Allowed

if TYPE_CHECKING:
    from SemiSegLib.methods.base import Method


class UnknownMethodError(SemiSegError):
    """No method has that name."""


class BrokenMethodError(SemiSegError):
    """The file of a method cannot be read."""


@dataclass(frozen=True)
class Option:
    """One setting of a method: name, type as written, default, explanation and what it may be."""

    name: str
    type: str
    default: Any
    help: str
    allowed: Allowed


@dataclass(frozen=True)
class Description:
    """What can be said of a method without importing torch."""

    name: str
    title: str
    options: tuple[Option, ...]
    training_defaults: dict[str, Any]
    strong_defaults: dict[str, Any] = field(default_factory=dict)
    needs_unlabelled: bool = True


def available() -> list[str]:
    """Names of all methods, the simplest first."""
    names = [path.stem.replace("_", "-") for path in sorted(Path(__file__).parent.glob("*.py"))]
    names = [name for name in names if name not in ("--init--", "base")]
    return sorted(names, key=lambda name: (name != "supervised", name != "mean-teacher", name))


@lru_cache
def describe(name: str) -> Description:
    """Description of the method `name`; raises UnknownMethodError naming those that exist, or BrokenMethodError."""
    if name not in available():
        raise UnknownMethodError(f"There is no method '{name}'; there are: {', '.join(available())}.")
    path = Path(__file__).parent / f"{name.replace('-', '_')}.py"
    try:
        return _read(name, ast.parse(path.read_text(encoding="utf-8")))
    except (SyntaxError, ValueError, TypeError) as error:
        raise BrokenMethodError(f"{path}: not the file of a method: {error}") from error


def title(name: str) -> str:
    """One line on the method `name`, which a list of all methods can show even where a file is broken."""
    try:
        return describe(name).title
    except BrokenMethodError as error:
        return f"(cannot be used) {error}"


def _read(name: str, tree: ast.Module) -> Description:
    first_line = (ast.get_docstring(tree) or name).splitlines()[0]
    options: tuple[Option, ...] = ()
    defaults: dict[str, dict[str, Any]] = {"TRAINING_DEFAULTS": {}, "STRONG_DEFAULTS": {}}
    unlabelled = True
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "Method":
            unlabelled = "needs_unlabelled = False" not in map(ast.unparse, node.body)
        if isinstance(node, ast.ClassDef) and node.name == "MethodSettings":
            options = tuple(_option(entry) for entry in node.body if isinstance(entry, ast.AnnAssign))
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in defaults:
            defaults[ast.unparse(node.targets[0])] = ast.literal_eval(node.value)
    return Description(
        name, first_line, options, defaults["TRAINING_DEFAULTS"], defaults["STRONG_DEFAULTS"], unlabelled
    )


def method_class(name: str) -> type[Method]:
    """The class that trains by the method `name` (imports torch); raises UnknownMethodError."""
    describe(name)
    module = importlib.import_module(f"SemiSegLib.methods.{name.replace('-', '_')}")
    return module.Method


def _option(node: ast.AnnAssign) -> Option:
    if not isinstance(node.value, ast.Call) or len(node.value.args) != 2:
        wanted = 'name: type = setting(default, "help", at_least=0)'
        raise ValueError(f"line {node.lineno}: write `{wanted}`, not `{ast.unparse(node)}`")
    default, text = (ast.literal_eval(argument) for argument in node.value.args)
    limits = {keyword.arg or "**": ast.literal_eval(keyword.value) for keyword in node.value.keywords}
    return Option(ast.unparse(node.target), ast.unparse(node.annotation), default, text, Allowed(**limits))
