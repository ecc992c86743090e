"""A small `slicer.parameterNodeWrapper`: typed attributes kept in a vtkMRMLScriptedModuleNode, bound to widgets.

It knows the types and widgets that the panel uses and refuses others, so that a field the real one could not bind is
noticed. As the real one it fills combo boxes anew whenever it is connected, writes every widget at every change of
the node, whether the value is another one or not, and hears of a choice after the panel's own earlier connections.
With SEMISEG_SLICER_SOURCE set the real one is used instead.
"""

from __future__ import annotations

import enum
import pathlib
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ctk
import qt
import slicer
import vtk


@dataclass(frozen=True)
class WithinRange:
    """Bounds of a number, both included."""

    minimum: float
    maximum: float


@dataclass(frozen=True)
class Minimum:
    """Lower bound of a number."""

    minimum: float


@dataclass(frozen=True)
class Decimals:
    """Digits after the point of a spin box or slider."""

    value: int


@dataclass(frozen=True)
class SingleStep:
    """Step of a spin box or slider."""

    value: float


_TO_TEXT: dict[type, Callable[[Any], str]] = {bool: lambda v: "True" if v else "False"}
_FROM_TEXT: dict[type, Callable[[str], Any]] = {bool: lambda text: text == "True"}


class _Field:
    """One attribute of a wrapper class."""

    def __init__(self, name: str, hint: Any, default: Any) -> None:
        self.name = name
        self.type = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
        self.limits = typing.get_args(hint)[1:] if self.type is not hint else ()
        self.is_node = isinstance(self.type, type) and issubclass(self.type, slicer.vtkMRMLNode)
        plain = self.type in (bool, int, float, str, pathlib.Path)
        if not (plain or self.is_node or issubclass(self.type, enum.Enum)):
            raise TypeError(f"a parameter node cannot keep {name}: {self.type}")
        self.default = self._first_value() if default is None and not self.is_node else default

    def _first_value(self) -> Any:
        return next(iter(self.type)) if issubclass(self.type, enum.Enum) else self.type()

    def read(self, node: Any) -> Any:
        if self.is_node:
            return node.GetNodeReference(self.name)
        text = node.GetParameter(self.name)
        if issubclass(self.type, enum.Enum):
            return self.type[text]
        return _FROM_TEXT.get(self.type, self.type)(text)

    def write(self, node: Any, value: Any) -> None:
        if self.is_node:
            node.SetNodeReferenceID(self.name, value.GetID() if value is not None else None)
            return
        if not isinstance(value, self.type) and not (self.type is float and isinstance(value, int)):
            raise TypeError(f"{self.name} must be {self.type.__name__}, not {value!r}")
        for limit in (limit for limit in self.limits if isinstance(limit, (WithinRange, Minimum))):
            low, high = limit.minimum, getattr(limit, "maximum", float("inf"))
            if not low <= value <= high:
                raise ValueError(f"{self.name} must be within {low} and {high}, not {value}")
        text = value.name if isinstance(value, enum.Enum) else _TO_TEXT.get(self.type, str)(value)
        node.SetParameter(self.name, text)


class _Binding:
    """A widget that shows and changes one field: how to read it, write it, and hear of changes."""

    def __init__(self, widget: Any, field: _Field) -> None:
        self.widget, self.field = widget, field
        kind = type(widget)
        key = "Enum" if not field.is_node and issubclass(field.type, enum.Enum) else field.type.__name__
        key = "node" if field.is_node else key
        try:
            self.signal, self.read, self.write = _WIDGETS[kind, key](widget, field)
        except KeyError:
            raise RuntimeError(f"{kind.__name__} cannot show the parameter {field.name} ({key})") from None


Bound = tuple[Any, Callable[[], Any], Callable[[Any], None]]


def _value_of(widget: Any, field: _Field) -> Bound:
    if isinstance(widget, ctk.ctkSliderWidget) and not any(hasattr(limit, "maximum") for limit in field.limits):
        raise RuntimeError(f"a slider cannot show {field.name}, which has no bounds")
    for kind, name in ((Decimals, "decimals"), (SingleStep, "singleStep")):
        for mark in field.limits:
            if isinstance(mark, kind):
                setattr(widget, name, mark.value)
    for limit in field.limits:
        for bound in ("minimum", "maximum"):
            if hasattr(limit, bound):
                setattr(widget, bound, getattr(limit, bound))
    return (
        widget.valueChanged,
        lambda: field.type(widget.value),
        lambda value: setattr(widget, "value", value),
    )


def _attribute(name: str, signal: str, convert: Callable[[Any], Any] = lambda v: v, back: Any = lambda v: v) -> Any:
    def bind(widget: Any, field: _Field) -> Bound:
        return (
            getattr(widget, signal),
            lambda: convert(getattr(widget, name)),
            lambda value: setattr(widget, name, back(value)),
        )

    return bind


def _line(widget: Any, field: _Field) -> Bound:
    """The one connector that looks first: writing would move the cursor."""

    def write(value: str) -> None:
        if widget.text != value:
            widget.text = value

    return widget.textChanged, lambda: widget.text, write


def _choice(widget: Any, field: _Field) -> Bound:
    members = list(field.type)
    label = getattr(field.type, "label", lambda member: member.name)
    before = members[widget.currentIndex]  # of an empty box: the last member, as in Slicer
    widget.clear()
    for member in members:
        widget.addItem(label(member))
    widget.currentIndex = members.index(before)
    return (
        widget.currentIndexChanged,
        lambda: members[widget.currentIndex],
        lambda value: setattr(widget, "currentIndex", members.index(value)),
    )


def _long_text(widget: Any, field: _Field) -> Bound:
    return widget.textChanged, widget.toPlainText, widget.setPlainText


def _node(widget: Any, field: _Field) -> Any:
    widget.nodeTypes = [field.type.__name__]
    return widget.currentNodeChanged, widget.currentNode, widget.setCurrentNode


_WIDGETS: dict[tuple[type, str], Any] = {
    (qt.QCheckBox, "bool"): _attribute("checked", "stateChanged"),
    (qt.QSpinBox, "int"): _value_of,
    (qt.QDoubleSpinBox, "float"): _value_of,
    (ctk.ctkSliderWidget, "float"): _value_of,
    (qt.QLineEdit, "str"): _line,
    (qt.QTextEdit, "str"): _long_text,
    (qt.QComboBox, "Enum"): _choice,
    (ctk.ctkPathLineEdit, "Path"): _attribute("currentPath", "currentPathChanged", pathlib.Path, str),
    (slicer.qMRMLNodeComboBox, "node"): _node,
}


class _Wrapper:
    """What every wrapped class inherits."""

    allParameters: dict[str, _Field] = {}  # noqa: RUF012  replaced in each class

    def __init__(self, parameterNode: Any) -> None:
        self.parameterNode = parameterNode
        self._bindings: dict[int, list[_Binding]] = {}
        self._tags: dict[int, int] = {}
        self._updating = False
        for field in self.allParameters.values():
            if not field.is_node and not parameterNode.HasParameter(field.name):
                field.write(parameterNode, field.default)

    def setValue(self, name: str, value: Any) -> None:
        setattr(self, name, value)

    def getValue(self, name: str) -> Any:
        return getattr(self, name)

    def connectGui(self, gui: Any) -> int:
        widgets = gui.findChildren(qt.QWidget) if isinstance(gui, qt.QWidget) else vars(gui).values()
        names = {widget.property("SlicerParameterName"): widget for widget in widgets}
        bindings = [_Binding(names[name], self.allParameters[name]) for name in names if name]
        tag = len(self._bindings) + 1
        self._bindings[tag] = bindings
        for binding in bindings:
            binding.write(getattr(self, binding.field.name))
            binding.slot = self._from_gui(binding)
            binding.signal.connect(binding.slot)
        self._tags[tag] = self.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._to_gui())
        return tag

    def _from_gui(self, binding: _Binding) -> Callable[..., None]:
        def changed(*_: Any) -> None:
            if not self._updating:
                setattr(self, binding.field.name, binding.read())

        return changed

    def _to_gui(self) -> None:
        if self._updating:
            return
        self._updating = True
        try:
            for binding in [b for bindings in self._bindings.values() for b in bindings]:
                binding.write(getattr(self, binding.field.name))
        finally:
            self._updating = False

    def disconnectGui(self, tag: int) -> None:
        for binding in self._bindings.pop(tag, []):
            binding.signal.disconnect(binding.slot)
        if tag in self._tags:
            self.RemoveObserver(self._tags.pop(tag))

    def AddObserver(self, event: Any, callback: Any, priority: float = 0.0) -> int:
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        self.parameterNode.RemoveObserver(tag)

    def StartModify(self) -> int:
        return self.parameterNode.StartModify()

    def EndModify(self, before: int) -> int:
        return self.parameterNode.EndModify(before)

    def Modified(self) -> None:
        self.parameterNode.Modified()


def parameterNodeWrapper(cls: type) -> type:
    """The decorator."""
    hints = typing.get_type_hints(cls, include_extras=True)
    fields = {name: _Field(name, hint, getattr(cls, name, None)) for name, hint in hints.items()}
    properties = {name: _property(field) for name, field in fields.items()}
    return type(cls.__name__, (_Wrapper,), {**vars_of(cls), **properties, "allParameters": fields})


def vars_of(cls: type) -> dict[str, Any]:
    """What the class itself defines, without what only a class may have."""
    return {k: v for k, v in vars(cls).items() if k not in ("__dict__", "__weakref__")}


def _property(field: _Field) -> property:
    return property(
        lambda self: field.read(self.parameterNode), lambda self, value: field.write(self.parameterNode, value)
    )
