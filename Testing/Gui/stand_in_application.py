"""`slicer.app`, `slicer.i18n` and `slicer.ScriptedLoadableModule` as the panel meets them, without the application.

With SEMISEG_SLICER_SOURCE naming a checkout of Slicer, its own ScriptedLoadableModule.py, i18n.py and
parameterNodeWrapper are used instead of the stand-ins.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import tempfile
import types
import unittest
from pathlib import Path
from typing import Any

import qt
import slicer
from PySide6 import QtCore

SOURCE_VARIABLE = "SEMISEG_SLICER_SOURCE"


class _ModuleManager(QtCore.QObject):
    moduleAboutToBeUnloaded = QtCore.Signal(str)


class _StartupEnvironment:
    """What QProcessEnvironment answers."""

    def keys(self) -> list[str]:
        return list(os.environ)

    def value(self, name: str) -> str:
        return os.environ[name]


class Application(QtCore.QObject):
    """`slicer.app`."""

    startupCompleted = QtCore.Signal()
    slicerHome = ""
    applicationName = "Slicer"
    majorVersion, minorVersion, slicerVersion = 5, 12, "5.12.4"

    def __init__(self, logic: Any) -> None:
        super().__init__()
        self._logic = logic
        self._manager = _ModuleManager()
        self.temporaryPath = tempfile.mkdtemp(prefix="semiseg-gui-")
        self._settings = qt.QSettings(f"{self.temporaryPath}/settings.ini", qt.QSettings.IniFormat)
        self.cursors: list[Any] = []

    def applicationLogic(self) -> Any:
        return self._logic

    def moduleManager(self) -> _ModuleManager:
        return self._manager

    def settings(self) -> Any:
        return self._settings

    userSettings = settings

    def topLevelWidgets(self) -> list[Any]:
        return qt.QApplication.topLevelWidgets()

    def clipboard(self) -> Any:
        return qt.QApplication.clipboard()

    def startupEnvironment(self) -> _StartupEnvironment:
        return _StartupEnvironment()

    def processEvents(self, *_: Any) -> None:
        qt.QApplication.processEvents()

    def setOverrideCursor(self, cursor: Any) -> None:
        self.cursors.append(cursor)

    def restoreOverrideCursor(self) -> None:
        self.cursors.pop()

    def translate(self, context: str, text: str) -> str:
        return text

    def testingEnabled(self) -> bool:
        return True

    def commandOptions(self) -> Any:
        return types.SimpleNamespace(noMainWindow=True, testingEnabled=True)

    def layoutManager(self) -> None:
        return None

    def moduleDocumentationUrl(self, name: str) -> str:
        return f"https://slicer.readthedocs.io/{name}"


class ScriptedLoadableModule:
    """The base of the module class."""

    def __init__(self, parent: Any) -> None:
        self.parent = parent
        self.moduleName = type(self).__name__
        slicer.selfTests = getattr(slicer, "selfTests", {})
        slicer.selfTests[self.moduleName] = self.runTest

    def resourcePath(self, name: str) -> str:
        return str(Path(self.parent.path).parent / "Resources" / name)

    def runTest(self, msec: int = 100, **kwargs: Any) -> None:
        test_class = getattr(importlib.import_module(type(self).__module__), f"{self.moduleName}Test")
        test_class().runTest(**kwargs)


class ScriptedLoadableModuleWidget:
    """The base of the widget class."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Widget")
        self.developerMode = False
        self.parent = parent
        self.layout = parent.layout()

    def resourcePath(self, name: str) -> str:
        return str(Path(slicer.util.modulePath(self.moduleName)).parent / "Resources" / name)

    def setup(self) -> None:
        pass

    def cleanup(self) -> None:
        pass


class ScriptedLoadableModuleLogic:
    """The base of the logic class."""

    def __init__(self, parent: Any = None) -> None:
        super().__init__()
        self.moduleName = type(self).__name__.removesuffix("Logic")
        self.isSingletonParameterNode = True

    def getParameterNode(self) -> Any:
        node = slicer.mrmlScene.GetSingletonNode(self.moduleName, "vtkMRMLScriptedModuleNode")
        if node is None:
            node = slicer.mrmlScene.CreateNodeByClass("vtkMRMLScriptedModuleNode")
            node.UnRegister(None)
            node.SetSingletonTag(self.moduleName)
            node.SetName(slicer.mrmlScene.GenerateUniqueName(self.moduleName))
            node = slicer.mrmlScene.AddNode(node)
        node.SetAttribute("ModuleName", self.moduleName)
        return node


class ScriptedLoadableModuleTest(unittest.TestCase):
    """The base of the self-test."""

    def delayDisplay(self, message: str, requestedDelay: Any = None, msec: Any = None) -> None:
        pass

    def runTest(self) -> None:
        for name in [name for name in dir(self) if name.startswith("test_")]:
            self.setUp()
            getattr(self, name)()
            self.tearDown()


def install(logic: Any) -> None:
    """Complete the package `slicer` with an application and the Python files that slicer-core lacks."""
    slicer.app = Application(logic)
    source = os.environ.get(SOURCE_VARIABLE)
    if source:
        slicer.__path__.append(str(Path(source) / "Base" / "Python" / "slicer"))
        for name in ("i18n", "ScriptedLoadableModule", "parameterNodeWrapper"):
            importlib.import_module(f"slicer.{name}")
        return
    _add_module("i18n", tr=lambda text: text, translate=lambda context, text: text)
    bases = (
        ScriptedLoadableModule,
        ScriptedLoadableModuleWidget,
        ScriptedLoadableModuleLogic,
        ScriptedLoadableModuleTest,
    )
    names = [base.__name__ for base in bases]
    _add_module("ScriptedLoadableModule", __all__=names, **dict(zip(names, bases, strict=True)))
    import stand_in_parameter_node

    _add_module(
        "parameterNodeWrapper",
        parameterNodeWrapper=stand_in_parameter_node.parameterNodeWrapper,
        WithinRange=stand_in_parameter_node.WithinRange,
        Minimum=stand_in_parameter_node.Minimum,
        Decimals=stand_in_parameter_node.Decimals,
        SingleStep=stand_in_parameter_node.SingleStep,
    )


def _add_module(name: str, **content: Any) -> None:
    module = types.ModuleType(f"slicer.{name}")
    vars(module).update(content)
    sys.modules[module.__name__] = module
    setattr(slicer, name, module)
