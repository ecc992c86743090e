"""The module `qt`: PySide6 that answers by PythonQt's rules, so that what would fail in Slicer fails here, too.

PythonQt differs from PySide6 in four ways that a panel's code meets every day, each enforced below: Qt properties are
attributes (`button.text`, not `button.text()`), signals are also connected by signature (`connect("clicked()", f)`),
assigning an unknown attribute raises, and `name` is an alias of `objectName`. A signature that there is no signal for
is no error, as in PythonQt: `connect` answers False, and a warning goes to `warnings`, which must be empty after each
test.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import types
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")

import shiboken6
from PySide6 import QtCore, QtGui, QtTest, QtUiTools, QtWidgets

_SIGNATURE = re.compile(r"^\s*(\w+)\s*\((.*)\)\s*$")
_METHODS_IN_PYTHONQT_TOO = ("layout", "singleShot")  # meta-properties that PythonQt does not turn into attributes
warnings: list[str] = []  # of connections that were not made
_original_connect = QtCore.QObject.connect
_original_disconnect = QtCore.QObject.disconnect


def apply_rules(cls: type, done: set[type]) -> None:
    """Make a PySide6 class, and first its bases, behave as PythonQt shows it."""
    if cls in done or not hasattr(cls, "staticMetaObject"):
        return
    done.add(cls)
    for base in cls.__mro__[1:]:
        apply_rules(base, done)
    _replace_access(cls)
    meta = cls.staticMetaObject
    for index in range(meta.propertyOffset(), meta.propertyCount()):
        name = meta.property(index).name()
        if name not in _METHODS_IN_PYTHONQT_TOO:
            setattr(cls, name, _as_attribute(name, cls.__dict__.get(name)))


def _as_attribute(name: str, getter: Any) -> property:
    """A Python property for a Qt property; its setter stays callable as `setName`."""
    setter = f"set{name[0].upper()}{name[1:]}"

    def get(self: Any) -> Any:
        return getter(self) if callable(getter) else self.property(name)

    def assign(self: Any, value: Any) -> None:
        meta = self.metaObject()
        if not meta.property(meta.indexOfProperty(name)).isWritable():
            raise AttributeError(f"property '{name}' of {meta.className()} is not writable")
        method = getattr(self, setter, None)
        if method is not None:
            method(value)
        elif not self.setProperty(name, value):
            raise ValueError(f"cannot convert {value!r} for property '{name}' of {meta.className()}")

    return property(get, assign)


def _replace_access(cls: type) -> None:
    """PySide6 resolves `connect` in the slot itself, and accepts any attribute: replace both, class by class."""
    inherited = cls.__getattribute__

    def get(self: Any, name: str) -> Any:
        if name == "connect":
            return functools.partial(_connect, self)
        if name == "disconnect":
            return functools.partial(_disconnect, self)
        return inherited(self, name)

    def assign(self: Any, name: str, value: Any) -> None:
        known = getattr(type(self), name, None)
        if isinstance(known, QtCore.Property):  # of a stand-in; PySide6 would handle it in the slot replaced here
            known.fset(self, value)
        elif hasattr(type(known), "__set__"):
            known.__set__(self, value)
        elif type(self).__module__.startswith("PySide6.") and not name.startswith("_") and known is None:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute {name!r}")
        else:
            self.__dict__[name] = value

    cls.__getattribute__ = get
    cls.__setattr__ = assign


def _signal(sender: Any, signature: str) -> Any:
    """The bound signal of that exact signature; VTK pointers travel as Python objects."""
    match = _SIGNATURE.match(signature)
    if not match:
        raise ValueError(f"{signature!r} is not the signature of a signal")
    arguments = re.sub(r"vtk\w+\s*\*|QVariant", "PyObject", match.group(2))
    wanted = QtCore.QMetaObject.normalizedSignature(f"{match.group(1)}({arguments})").data().decode()
    if sender.metaObject().indexOfSignal(wanted) < 0:
        raise ValueError(f"{sender.metaObject().className()} has no signal {wanted}")
    return getattr(sender, match.group(1))


def _connect(sender: Any, *arguments: Any) -> Any:
    if not (len(arguments) == 2 and isinstance(arguments[0], str)):
        return _original_connect(*arguments)
    signature, slot = arguments
    called: Callable[..., Any] = slot
    if signature.replace(" ", "").endswith("()"):

        def called(*_: Any) -> Any:
            return slot()

    try:
        _signal(sender, signature).connect(called)
    except ValueError as error:
        warnings.append(str(error))
        return False
    sender.__dict__.setdefault("_connections", []).append((signature, slot, called))
    return True


def _disconnect(sender: Any, *arguments: Any) -> Any:
    if not (arguments and isinstance(arguments[0], str)):
        return _original_disconnect(*arguments)
    kept = []
    for signature, slot, called in sender.__dict__.get("_connections", []):
        if signature == arguments[0] and (len(arguments) < 2 or slot == arguments[1]):
            _signal(sender, signature).disconnect(called)
        else:
            kept.append((signature, slot, called))
    sender.__dict__["_connections"] = kept
    return True


class UiLoader(QtUiTools.QUiLoader):
    """Loads a .ui file with stand-ins for Slicer's widgets, and makes the connections that carry VTK pointers."""

    stand_ins: dict[str, type] = {}  # noqa: RUF012  filled by stand_in_widgets

    def createWidget(self, class_name: str, parent: Any = None, name: str = "") -> Any:
        stand_in = self.stand_ins.get(class_name)
        if stand_in is not None:
            widget = stand_in(parent)
            widget.setObjectName(name)
            return widget
        if class_name not in self.availableWidgets() and class_name != "Line":
            raise RuntimeError(f"there is no stand-in for {class_name} ({name})")
        return super().createWidget(class_name, parent, name)

    def load(self, file: Any, parent: Any = None) -> Any:
        path = file if isinstance(file, str) else file.fileName()
        widget = super().load(path, parent)
        if widget is not None:
            _connect_scene(path, widget)
        return widget


def _connect_scene(path: str, root: Any) -> None:
    widgets = {child.objectName: child for child in [root, *root.findChildren(QtCore.QObject)]}
    for connection in ET.parse(path).getroot().iter("connection"):
        sender, signal, receiver, slot = (
            connection.findtext(part) for part in ("sender", "signal", "receiver", "slot")
        )
        if "vtkMRML" in signal:
            bound = getattr(widgets[sender], signal.split("(")[0])
            bound.connect(getattr(widgets[receiver], slot.split("(")[0]))


def _file_dialog() -> type:
    """PythonQt returns the chosen files alone, PySide6 a pair with the filter."""

    class QFileDialog(QtWidgets.QFileDialog):
        @staticmethod
        def getOpenFileNames(*arguments: Any) -> Any:
            return QtWidgets.QFileDialog.getOpenFileNames(*arguments)[0]

        @staticmethod
        def getOpenFileName(*arguments: Any) -> Any:
            return QtWidgets.QFileDialog.getOpenFileName(*arguments)[0]

        @staticmethod
        def getSaveFileName(*arguments: Any) -> Any:
            return QtWidgets.QFileDialog.getSaveFileName(*arguments)[0]

    return QFileDialog


def _report(kind: Any, context: Any, message: str) -> None:
    if "vtkMRML" not in message:  # connections that _connect_scene makes instead
        sys.stderr.write(f"Qt: {message}\n")


def install() -> types.ModuleType:
    """Put the module `qt` into sys.modules, once."""
    if "qt" in sys.modules:
        return sys.modules["qt"]
    qt = types.ModuleType("qt", "PySide6 seen through PythonQt's rules")
    done: set[type] = set()
    for module in (QtCore, QtGui, QtWidgets, QtUiTools, QtTest):
        for name in dir(module):
            if name.startswith("Q"):
                member = getattr(module, name)
                setattr(qt, name, member)
                if isinstance(member, type) and issubclass(member, QtCore.QObject):
                    apply_rules(member, done)
    QtCore.QObject.name = property(
        lambda self: self.property("objectName"), lambda self, value: self.setProperty("objectName", value)
    )
    QtCore.QObject.className = lambda self: self.metaObject().className()
    QtCore.QObject.delete = lambda self: shiboken6.delete(self)
    qt.QUiLoader = UiLoader
    qt.QFileDialog = _file_dialog()
    QtCore.qInstallMessageHandler(_report)
    sys.modules["qt"] = qt
    return qt
