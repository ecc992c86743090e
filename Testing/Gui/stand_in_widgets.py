"""Stand-ins for the qMRML and ctk widgets that the panel uses, driven by the real MRML scene."""

from __future__ import annotations

import math
import sys
import types
import weakref
from typing import Any

import shiboken6
import slicer
import vtk
from PySide6 import QtCore, QtGui, QtWidgets
from PySide6.QtCore import Property, Signal
from pythonqt import UiLoader

HEADER = 26  # pixels of a collapsible button's title


class qMRMLWidget(QtWidgets.QWidget):
    """A widget that knows the scene."""

    mrmlSceneChanged = Signal(object)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene = None

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        self.mrmlSceneChanged.emit(scene)


class qSlicerWidget(qMRMLWidget):
    """The root of a module's .ui file."""


class qMRMLNodeComboBox(QtWidgets.QWidget):
    """A choice of one node of the scene; follows nodes that come and go."""

    currentNodeChanged = Signal(object)
    currentNodeIDChanged = Signal(str)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._scene: Any = None
        self._types: list[str] = []
        self._none = False
        self._flags: dict[str, bool] = {}
        self._ids: list[str] = []
        self._last = ""
        self._box = QtWidgets.QComboBox(self)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._box)
        self._box.currentIndexChanged.connect(self._changed)

    def _set_types(self, types_: list[str]) -> None:
        self._types = list(types_)
        self._refresh()

    def _set_none(self, enabled: bool) -> None:
        self._none = enabled
        self._refresh()

    nodeTypes = Property("QStringList", lambda self: self._types, _set_types)
    noneEnabled = Property(bool, lambda self: self._none, _set_none)

    def mrmlScene(self) -> Any:
        return self._scene

    def setMRMLScene(self, scene: Any) -> None:
        self._scene = scene
        if scene is not None:
            me = weakref.ref(self)  # the scene outlives the widget

            def changed(*_: Any) -> None:
                box = me()
                if box is not None and shiboken6.isValid(box):
                    box._refresh()

            for event in (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent):
                scene.AddObserver(event, changed)
        self._refresh()

    def _refresh(self) -> None:
        chosen = self.currentNodeID
        self._box.blockSignals(True)
        self._box.clear()
        self._ids = []
        if self._none:
            self._append("None", "")
        for node in self._nodes():
            self._append(node.GetName(), node.GetID())
        self._box.setCurrentIndex(self._ids.index(chosen) if chosen in self._ids else min(0, len(self._ids) - 1))
        self._box.blockSignals(False)
        self._changed()

    def _append(self, text: str, node_id: str) -> None:
        self._box.addItem(text)
        self._ids.append(node_id)

    def _nodes(self) -> list[Any]:
        if self._scene is None:
            return []
        nodes = []
        for type_ in self._types:
            count = self._scene.GetNumberOfNodesByClass(type_)
            nodes += [self._scene.GetNthNodeByClass(index, type_) for index in range(count)]
        return [node for node in nodes if not node.GetHideFromEditors()]

    def _changed(self, *_: Any) -> None:
        if self.currentNodeID != self._last:
            self._last = self.currentNodeID
            self.currentNodeChanged.emit(self.currentNode())
            self.currentNodeIDChanged.emit(self._last)

    def _current_id(self) -> str:
        index = self._box.property("currentIndex")
        return self._ids[index] if 0 <= index < len(self._ids) else ""

    def setCurrentNodeID(self, node_id: str) -> None:
        self._box.setCurrentIndex(self._ids.index(node_id or "") if (node_id or "") in self._ids else -1)

    currentNodeID = Property(str, _current_id, setCurrentNodeID)

    def currentNode(self) -> Any:
        return self._scene.GetNodeByID(self.currentNodeID) if self._scene and self.currentNodeID else None

    def setCurrentNode(self, node: Any) -> None:
        self.setCurrentNodeID(node.GetID() if node is not None else "")


def _flag(name: str) -> Property:
    return Property(
        bool,
        lambda self: self._flags.get(name, True),
        lambda self, value: self._flags.__setitem__(name, value),
    )


class _NodeComboBoxFlags(qMRMLNodeComboBox):
    addEnabled = _flag("addEnabled")
    removeEnabled = _flag("removeEnabled")
    renameEnabled = _flag("renameEnabled")
    editEnabled = _flag("editEnabled")
    showHidden = _flag("showHidden")
    showChildNodeTypes = _flag("showChildNodeTypes")
    selectNodeUponCreation = _flag("selectNodeUponCreation")


class qMRMLSegmentEditorWidget(qMRMLWidget):
    """Shows the segments of the segmentation in its editor node; it cannot draw.

    Its shortcuts are those of the real one: they belong to the main window and work whether the editor is seen or not.
    So is its hidden choice of a segmentation, which `segmentationNode` tells: it knows no *none*, so when its node is
    deleted it goes to another one, and shows the scan of that; it follows the editor node only while the scene is at
    rest, and is emptied by an import.
    """

    shortcuts = ("1", "2", "3", "4", "5", "6", "7", "8", "9", "0", "Esc", "Space", "Z", "Y", "Q", "W")

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._node: Any = None
        self._tag = 0
        self._chosen = ""  # ID of the segmentation in the hidden choice
        self._shown: Any = None
        self._active_effect = ""
        self._undo_states = 0
        self._views_observed = self._keys_installed = False
        self.errors: list[str] = []  # what the real one prints
        self._table = QtWidgets.QListWidget(self)
        self._table.setMaximumHeight(70)
        layout = QtWidgets.QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        hint = QtWidgets.QLabel("(Slicer's Segment Editor appears here)")
        hint.setStyleSheet("color: gray")
        layout.addWidget(self._table)
        layout.addWidget(hint)

    def setMRMLScene(self, scene: Any) -> None:
        super().setMRMLScene(scene)
        me = weakref.ref(self)  # the scene outlives the widget

        def observe(name: str, method: Any) -> None:
            @vtk.calldata_type(vtk.VTK_OBJECT)
            def heard(_scene: Any, _event: str, node: Any = None) -> None:
                editor = me()
                if editor is not None and shiboken6.isValid(editor):
                    method(editor, node)

            scene.AddObserver(getattr(scene, name), heard)

        observe("NodeAboutToBeRemovedEvent", qMRMLSegmentEditorWidget._removed)
        observe("EndImportEvent", qMRMLSegmentEditorWidget._chosen_anew)
        observe("EndCloseEvent", qMRMLSegmentEditorWidget._chosen_anew)
        observe("EndBatchProcessEvent", qMRMLSegmentEditorWidget._batch_ended)

    def _segmentations(self) -> list[str]:
        count = self._scene.GetNumberOfNodesByClass("vtkMRMLSegmentationNode")
        return [self._scene.GetNthNodeByClass(n, "vtkMRMLSegmentationNode").GetID() for n in range(count)]

    def _removed(self, node: Any) -> None:
        if node.GetID() != self._chosen or self._scene.IsClosing():
            return
        place = self._segmentations().index(self._chosen)
        others = [identifier for identifier in self._segmentations() if identifier != self._chosen]
        self._choose(others[min(place, len(others) - 1)] if others else "")

    def _chosen_anew(self, _node: Any) -> None:
        self._choose("")

    def _choose(self, identifier: str) -> None:
        self._chosen = identifier
        if self._node is not None and not self._scene.IsBatchProcessing():
            self.setSegmentationNode(self.segmentationNode())

    def _batch_ended(self, _node: Any) -> None:
        if self._node is not None:
            self.setSegmentationNode(self.segmentationNode())
            self._update()

    def setMRMLSegmentEditorNode(self, node: Any) -> None:
        if node is self._node:
            return
        if self._node is not None:
            self._node.RemoveObserver(self._tag)
        self._node, me = node, weakref.ref(self)

        def modified(*_: Any) -> None:
            editor = me()
            if editor is not None and shiboken6.isValid(editor):
                editor._update()

        self._tag = node.AddObserver(vtk.vtkCommand.ModifiedEvent, modified) if node is not None else 0
        self._update()

    def mrmlSegmentEditorNode(self) -> Any:
        return self._node

    def setSegmentationNode(self, node: Any) -> None:
        if self._node is None or self._node.GetSegmentationNode() is node:
            return
        self._node.SetAndObserveSegmentationNode(node)
        self._active_effect = ""

    def _update(self) -> None:
        """As `updateWidgetFromMRML`."""
        if self._node is None or self._scene.IsClosing() or self._scene.IsBatchProcessing():
            return
        node = self._node.GetSegmentationNode()
        moved = node is not None and node is not self._shown
        self._chosen, self._shown = node.GetID() if node is not None else "", node
        if moved:
            self._show_scan(node.GetNodeReference(node.GetReferenceImageGeometryReferenceRole()))
        self._table.clear()
        segmentation = node.GetSegmentation() if node is not None else None
        for index in range(segmentation.GetNumberOfSegments() if segmentation else 0):
            segment = segmentation.GetNthSegment(index)
            item = QtWidgets.QListWidgetItem(segment.GetName())
            pixmap = QtGui.QPixmap(14, 14)
            pixmap.fill(QtGui.QColor.fromRgbF(*segment.GetColor()))
            item.setIcon(QtGui.QIcon(pixmap))
            self._table.addItem(item)

    def _show_scan(self, volume: Any) -> None:
        self._node.SetAndObserveSourceVolumeNode(volume)
        count = self._scene.GetNumberOfNodesByClass("vtkMRMLSliceCompositeNode") if volume is not None else 0
        for view in [self._scene.GetNthNodeByClass(n, "vtkMRMLSliceCompositeNode") for n in range(count)]:
            if volume.GetID() not in (view.GetBackgroundVolumeID(), view.GetForegroundVolumeID()):
                view.SetBackgroundVolumeID(volume.GetID())
                view.SetForegroundVolumeID(None)

    def segmentationNode(self) -> Any:
        return self._scene.GetNodeByID(self._chosen) if self._scene is not None and self._chosen else None

    def setSourceVolumeNode(self, node: Any) -> None:
        if self._node is not None and self._node.GetSegmentationNode() is not None:
            self._node.SetAndObserveSourceVolumeNode(node)
        elif node is not None:
            self.errors.append("a scan without a segmentation")

    def sourceVolumeNode(self) -> Any:
        return self._node.GetSourceVolumeNode() if self._node else None

    def setActiveEffectByName(self, name: str) -> None:
        self._active_effect = name

    def setSwitchToSegmentationsButtonVisible(self, visible: bool) -> None:
        pass

    def setSegmentationNodeSelectorVisible(self, visible: bool) -> None:
        pass

    def setSourceVolumeNodeSelectorVisible(self, visible: bool) -> None:
        pass

    def installKeyboardShortcuts(self) -> None:
        self._keys_installed = True

    def uninstallKeyboardShortcuts(self) -> None:
        self._keys_installed = False

    def press(self, key: str) -> bool:
        """A key of the shortcuts is pressed anywhere in the window; answers whether the editor takes it."""
        assert key in self.shortcuts
        if not self._keys_installed:
            return False
        if self.segmentationNode() is None:
            self.errors.append(f"{key}: no segmentation is selected")
        elif key.isdigit():
            self._active_effect = key
        return True

    def setupViewObservations(self) -> None:
        self._views_observed = True

    def removeViewObservations(self) -> None:
        self._views_observed = False

    def _set_undo_states(self, count: int) -> None:
        self._undo_states = count

    maximumNumberOfUndoStates = Property(int, lambda self: self._undo_states, _set_undo_states)

    def setMaximumNumberOfUndoStates(self, count: int) -> None:
        self._undo_states = count


class ctkCollapsibleButton(QtWidgets.QWidget):
    """A titled group that folds. What was hidden by itself stays hidden when the group unfolds, as in CTK."""

    contentsCollapsed = Signal(bool)

    def __init__(self, *arguments: Any) -> None:
        parent = next((a for a in arguments if isinstance(a, QtWidgets.QWidget)), None)
        super().__init__(parent)
        self._text = next((a for a in arguments if isinstance(a, str)), "")
        self._collapsed = self._folding = False
        self._hidden: set[QtWidgets.QWidget] = set()  # by itself
        self.setContentsMargins(4, HEADER, 4, 4)

    def paintEvent(self, event: Any) -> None:
        painter = QtGui.QPainter(self)
        width = self.property("width")
        painter.fillRect(0, 0, width, HEADER - 4, self.palette.color(QtGui.QPalette.Button).darker(108))
        font = QtGui.QFont(self.font)
        font.setBold(True)
        painter.setFont(font)
        painter.drawText(8, HEADER - 10, ("▸  " if self._collapsed else "▾  ") + self._text)
        painter.end()

    def mousePressEvent(self, event: Any) -> None:
        if event.position().y() < HEADER:
            self.collapsed = not self._collapsed

    def event(self, event: Any) -> bool:
        if event.type() == QtCore.QEvent.LayoutRequest and self._collapsed:
            self._show_children()
        return super().event(event)

    def childEvent(self, event: Any) -> None:
        if event.type() == QtCore.QEvent.ChildAdded and event.child().isWidgetType():
            event.child().installEventFilter(self)
        super().childEvent(event)

    def eventFilter(self, child: Any, event: Any) -> bool:
        if not self._folding and event.type() == QtCore.QEvent.ShowToParent:
            self._hidden.discard(child)
            self._show_children()
        elif not self._folding and event.type() == QtCore.QEvent.HideToParent:
            self._hidden.add(child)
        return False

    def _show_children(self) -> None:
        self._folding = True
        for child in self.children():
            if isinstance(child, QtWidgets.QWidget) and child not in self._hidden:
                child.setVisible(not self._collapsed)
                child.setAttribute(QtCore.Qt.WA_WState_ExplicitShowHide, False)  # else a later hide is no event
        self._folding = False

    def _set_collapsed(self, collapsed: bool) -> None:
        self._collapsed = bool(collapsed)
        self._show_children()
        self.setMaximumHeight(HEADER if self._collapsed else 16777215)
        self.contentsCollapsed.emit(self._collapsed)

    def _set_text(self, text: str) -> None:
        self._text = text
        self.update()

    text = Property(str, lambda self: self._text, _set_text)
    collapsed = Property(bool, lambda self: self._collapsed, _set_collapsed)


class _StepSlider(QtWidgets.QWidget):
    """CTK's slider of decimal numbers: a QSlider that counts steps, beginning at the value that was set last.

    A drag therefore reaches whole steps only: with step 1, as it is without further settings, 0 and 1 and nothing
    between them.
    """

    valueChanged = Signal(float)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._minimum, self._maximum, self._step, self._value, self._offset = 0.0, 99.0, 1.0, 0.0, 0.0
        self.slider = QtWidgets.QSlider(QtCore.Qt.Horizontal)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.slider)
        self.slider.valueChanged.connect(self._moved)

    def _steps(self, value: float) -> int:
        return math.floor(value / self._step + 0.5)

    def _at(self, steps: int) -> float:
        return self._step * (self._offset + steps)

    def _update_steps(self) -> None:
        lowest, highest = self._steps(self._minimum), self._steps(self._maximum)
        lowest -= self._at(lowest) > self._minimum
        highest += self._at(highest) < self._maximum
        self.slider.setRange(lowest, highest)

    def _set_offset(self, value: float) -> None:
        self._offset = value / self._step - self._steps(value)

    def _moved(self, steps: int) -> None:
        value = min(max(self._minimum, self._at(steps)), self._maximum)
        if value != self._value:
            self._value = value
            self.valueChanged.emit(value)

    def set_range(self, minimum: float, maximum: float) -> None:
        self._minimum, self._maximum = minimum, maximum
        if minimum >= self._value:
            self._set_offset(minimum)
        if maximum <= self._value:
            self._set_offset(maximum)
        self._update_steps()
        self.set_value(self._value)

    def set_value(self, value: float) -> None:
        value = min(max(self._minimum, value), self._maximum)
        self._set_offset(value)
        steps = self._steps(value)
        if steps != self.slider.value:
            self.slider.setValue(steps)
        elif abs(value - self._value) > self._step * 1e-9:
            self._value = value
            self.valueChanged.emit(value)
        self._value = value

    def set_step(self, step: float) -> bool:
        if not 1e-15 <= step <= self._maximum - self._minimum:
            return False  # CTK prints a warning and keeps its step
        self._step = step
        self._set_offset(self._value)
        before = self.slider.blockSignals(True)
        self._update_steps()
        self.slider.setValue(self._steps(self._value))
        self.slider.blockSignals(before)
        return True


class ctkSliderWidget(QtWidgets.QWidget):
    """A slider with a spin box; what is typed is taken exactly, what is dragged in steps."""

    valueChanged = Signal(float)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._slider = _StepSlider()
        self._box = QtWidgets.QDoubleSpinBox()
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._slider, 1)
        layout.addWidget(self._box)
        self._box.valueChanged.connect(self._typed)
        self._slider.valueChanged.connect(self._dragged)
        self._from_slider = False

    def _typed(self, value: float) -> None:
        if not self._from_slider:
            self._slider.set_value(value)

    def _dragged(self, value: float) -> None:
        self._from_slider = True
        self._box.setValue(value)
        self._from_slider = False
        self.valueChanged.emit(value)

    def _set_bounds(self, minimum: float, maximum: float) -> None:
        self._from_slider = True
        self._box.setRange(minimum, maximum)
        self._from_slider = False
        self._slider.set_range(self._box.property("minimum"), self._box.property("maximum"))

    def _set_step(self, step: float) -> None:
        if self._slider.set_step(step):
            self._box.setSingleStep(step)

    def _set_decimals(self, decimals: int) -> None:
        self._box.setDecimals(decimals)
        self._slider.set_range(self._box.property("minimum"), self._box.property("maximum"))

    value = Property(float, lambda self: self._slider._value, lambda self, v: self._box.setValue(v))
    minimum = Property(float, lambda self: self._slider._minimum, lambda self, v: self._set_bounds(v, self.maximum))
    maximum = Property(float, lambda self: self._slider._maximum, lambda self, v: self._set_bounds(self.minimum, v))
    singleStep = Property(float, lambda self: self._slider._step, _set_step)
    decimals = Property(int, lambda self: self._box.property("decimals"), _set_decimals)


class ctkPathLineEdit(QtWidgets.QWidget):
    """A path with a browse button. Setting the path sets the text, even the same one: the cursor goes to the end."""

    currentPathChanged = Signal(str)
    Files, Dirs = 0x2, 0x1

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._filters = self.Files
        self._edit = QtWidgets.QLineEdit(self)
        layout = QtWidgets.QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._edit, 1)
        layout.addWidget(QtWidgets.QToolButton(self))
        self._edit.textChanged.connect(self.currentPathChanged)

    currentPath = Property(str, lambda self: self._edit.property("text"), lambda self, v: self._edit.setText(v))
    filters = Property(int, lambda self: self._filters, lambda self, v: setattr(self, "_filters", v))


class ctkColorPickerButton(QtWidgets.QPushButton):
    """A button that shows the colour it chooses."""

    colorChanged = Signal(QtGui.QColor)

    def __init__(self, parent: Any = None) -> None:
        super().__init__(parent)
        self._color = QtGui.QColor()

    def _set_color(self, color: Any) -> None:
        self._color = QtGui.QColor(color)
        pixmap = QtGui.QPixmap(16, 16)
        pixmap.fill(self._color)
        self.setIcon(QtGui.QIcon(pixmap))
        self.colorChanged.emit(self._color)

    color = Property(QtGui.QColor, lambda self: self._color, _set_color)


def _plain(name: str, base: type) -> type:
    return type(name, (base,), {"__doc__": "Named by parameterNodeWrapper; the panel does not use it."})


def install() -> None:
    """Put the stand-ins where Slicer has the real widgets: the modules `slicer` and `ctk`, and the .ui loader."""
    ctk = types.ModuleType("ctk", "Stand-ins for CTK widgets")
    widgets = [ctkCollapsibleButton, ctkSliderWidget, ctkPathLineEdit, ctkColorPickerButton]
    widgets += [_plain(name, QtWidgets.QDoubleSpinBox) for name in ("ctkDoubleSlider", "ctkDoubleSpinBox")]
    widgets += [_plain("ctkComboBox", QtWidgets.QComboBox), _plain("ctkCheckBox", QtWidgets.QCheckBox)]
    widgets += [_plain("ctkCheckablePushButton", QtWidgets.QPushButton)]
    widgets += [
        _plain(name, QtWidgets.QWidget) for name in ("ctkRangeWidget", "ctkDoubleRangeSlider", "ctkDirectoryButton")
    ]
    for widget in widgets:
        setattr(ctk, widget.__name__, widget)
        UiLoader.stand_ins[widget.__name__] = widget
    sys.modules["ctk"] = ctk
    _NodeComboBoxFlags.__name__ = "qMRMLNodeComboBox"
    scene_widgets = [qMRMLWidget, qSlicerWidget, _NodeComboBoxFlags, qMRMLSegmentEditorWidget]
    scene_widgets += [_plain(name, QtWidgets.QDoubleSpinBox) for name in ("qMRMLSliderWidget", "qMRMLSpinBox")]
    scene_widgets += [_plain("qMRMLRangeWidget", QtWidgets.QWidget)]
    for widget in scene_widgets:
        setattr(slicer, widget.__name__, widget)
        UiLoader.stand_ins[widget.__name__] = widget
