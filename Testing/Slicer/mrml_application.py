"""Slicer's scene, logics and views without the application: slicer-core's own classes, put together as Slicer does.

>>> application = MrmlApplication()                         # slicer.mrmlScene and slicer.modules work from here on
>>> volume = application.scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "scan")
>>> application.close()
"""

from __future__ import annotations

import shutil
import tempfile
import types
from pathlib import Path

import slicer
import vtk

MODULE_LOGICS = {  # name in slicer.modules: logic class
    "volumes": "vtkSlicerVolumesLogic",
    "terminologies": "vtkSlicerTerminologiesModuleLogic",
    "segmentations": "vtkSlicerSegmentationsModuleLogic",
    "subjecthierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "colors": "vtkSlicerColorLogic",
    "data": "vtkSlicerDataModuleLogic",
    "tables": "vtkSlicerTablesLogic",
    "plots": "vtkSlicerPlotsLogic",
    "markups": "vtkSlicerMarkupsLogic",
}


class MrmlApplication:
    """One scene with the logics of Slicer's modules; `close` gives `slicer` back as it was."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="mrml-"))
        self._before = {name: getattr(slicer, name, None) for name in ("mrmlScene", "modules")}
        self.views: list = []  # those of offscreen_views
        self.scene = slicer.vtkMRMLScene()
        self.logic = slicer.vtkSlicerApplicationLogic()
        self.logic.SetHomeDirectory(str(self._folder))
        self.logic.SetShareDirectory("share")
        (self._folder / "share" / "ColorFiles").mkdir(parents=True)
        self.logic.SetMRMLScene(self.scene)
        self._add_crosshair()
        self._prepare_views()
        slicer.mrmlScene = self.scene
        slicer.modules = types.SimpleNamespace()
        self._logics = [self._add_logic(name, getattr(slicer, kind)) for name, kind in MODULE_LOGICS.items()]
        self._add_file_access()
        for event, method in (("NodeAddedEvent", self._add_item), ("NodeAboutToBeRemovedEvent", self._remove_item)):
            method.__func__.CallDataType = vtk.VTK_OBJECT
            self.scene.AddObserver(getattr(slicer.vtkMRMLScene, event), method)

    def close(self) -> None:
        """End the views and the scene."""
        for view in self.views:
            view.close()
        self.logic.GetSliceLogics().RemoveAllItems()
        self.logic.GetViewLogics().RemoveAllItems()
        self.scene.Clear(1)
        # The logics may outlive the Python side: what Python's garbage collection has emptied must not be called.
        self.scene.RemoveAllObservers()
        for name, value in self._before.items():
            setattr(slicer, name, value)
        shutil.rmtree(self._folder, ignore_errors=True)

    def save(self, path: Path) -> None:
        """Save the scene as .mrb (everything in one file) or .mrml (nodes alone)."""
        saved = self.scene.WriteToMRB(str(path)) if path.suffix == ".mrb" else self.scene.Commit(str(path))
        assert saved, f"{path} could not be saved"

    def load(self, path: Path) -> None:
        """Close the scene and load another, as File, Load scene does."""
        self.scene.Clear(0)
        if path.suffix == ".mrb":
            assert self.scene.ReadFromMRB(str(path), True), f"{path} could not be loaded"
        else:
            self.scene.SetURL(str(path))
            assert self.scene.Connect(), f"{path} could not be loaded"

    def add(self, path: Path) -> None:
        """Add the nodes of another scene in one file (.mrb) to this one."""
        assert self.scene.ReadFromMRB(str(path), False), f"{path} could not be added"

    def _add_crosshair(self) -> None:
        crosshair = slicer.vtkMRMLCrosshairNode()
        crosshair.SetCrosshairName("default")
        self.scene.AddNode(crosshair)

    def _prepare_views(self) -> None:
        self.logic.GetColorLogic().SetMRMLScene(self.scene)
        self.logic.GetColorLogic().AddDefaultColorNodes()
        self.logic.SetSliceLogics(vtk.vtkCollection())
        self.logic.SetViewLogics(vtk.vtkCollection())
        for kind in ("SliceView", "ThreeDView"):
            factory = getattr(slicer, f"vtkMRML{kind}DisplayableManagerFactory").GetInstance()
            factory.SetMRMLApplicationLogic(self.logic)
        slicer.vtkMRMLSliceNode.AddDefaultSliceOrientationPresets(self.scene, True)
        self.scene.RegisterNodeClass(slicer.vtkMRMLColorLegendDisplayNode())

    def _add_logic(self, name: str, kind: type):
        logic = kind()
        if name == "terminologies":
            logic = self._quietly(logic)
        logic.SetMRMLApplicationLogic(self.logic)
        logic.SetMRMLScene(self.scene)
        self.logic.SetModuleLogic(name.capitalize(), logic)
        setattr(slicer.modules, name, types.SimpleNamespace(logic=lambda: logic))
        return logic

    def _add_item(self, _scene, _event, node) -> None:
        """What the application's subject hierarchy plugins do: an item for every new data node that users see."""
        hierarchy = self.scene.GetSubjectHierarchyNode()
        shown = node.IsA("vtkMRMLVolumeNode") or node.IsA("vtkMRMLSegmentationNode")
        if shown and not node.GetHideFromEditors() and not self.scene.IsImporting():
            hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)

    def _remove_item(self, _scene, _event, node) -> None:
        hierarchy = self.scene.GetSubjectHierarchyNode() if not self.scene.IsClosing() else None
        item = hierarchy.GetItemByDataNode(node) if hierarchy is not None and node is not hierarchy else 0
        if item:
            hierarchy.RemoveItem(item, False, False)

    def _quietly(self, terminologies):
        """slicer-core has no terminology files; the logic says so at length, which would hide real errors."""
        verbosity = vtk.vtkLogger.GetCurrentVerbosityCutoff()
        vtk.vtkLogger.SetStderrVerbosity(vtk.vtkLogger.VERBOSITY_OFF)
        terminologies.SetModuleShareDirectory(str(self._folder))
        terminologies.SetMRMLScene(self.scene)
        vtk.vtkLogger.SetStderrVerbosity(verbosity)
        return terminologies

    def _add_file_access(self) -> None:
        """What .mrb files need; the objects must live as long as the scene."""
        self._remote = slicer.vtkMRMLRemoteIOLogic()
        self._remote.SetMRMLScene(self.scene)
        self._remote.SetMRMLApplicationLogic(self.logic)
        (self._folder / ".slicer-cache").touch()  # the cache manager warns about folders without this
        self._remote.GetCacheManager().SetRemoteCacheDirectory(str(self._folder))
        self._data_access = slicer.vtkDataIOManagerLogic()
        self._data_access.SetMRMLScene(self.scene)
        self._data_access.SetMRMLApplicationLogic(self.logic)
        self._data_access.SetAndObserveDataIOManager(self._remote.GetDataIOManager())
        self._remote.AddDataIOToScene()
