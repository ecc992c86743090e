"""Slicer's slice and 3D views drawn without a window: real displayable managers, pictures as PNG or arrays.

>>> view = SliceView(application, "Red", "Axial")                       # doctest: +SKIP
>>> view.show_slice_through(segmentation_node)                          # doctest: +SKIP
>>> view.save(Path("axial.png"))                                        # doctest: +SKIP
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import slicer
import vtk
import vtkmodules.vtkRenderingOpenGL2  # noqa: F401  registers the renderer
from vtk.util.numpy_support import vtk_to_numpy

SLICE_MANAGERS = (
    "vtkMRMLSegmentationsDisplayableManager2D",
    "vtkMRMLModelSliceDisplayableManager",
    "vtkMRMLRulerDisplayableManager",
    "vtkMRMLColorLegendDisplayableManager",
    "vtkMRMLMarkupsDisplayableManager",
)
THREE_D_MANAGERS = (
    "vtkMRMLCameraDisplayableManager",
    "vtkMRMLViewDisplayableManager",
    "vtkMRMLModelDisplayableManager",
    "vtkMRMLSegmentationsDisplayableManager3D",
    "vtkMRMLOrientationMarkerDisplayableManager",
    "vtkMRMLMarkupsDisplayableManager",
)


class _View:
    """What both kinds have in common: a window off the screen, and managers that draw the scene into it."""

    def __init__(self, application, size: tuple[int, int]) -> None:
        self.application = application
        application.views.append(self)
        self.window = vtk.vtkRenderWindow()
        self.window.SetOffScreenRendering(1)
        self.window.SetSize(*size)
        self.window.SetMultiSamples(4)
        self.renderer = vtk.vtkRenderer()
        self.window.AddRenderer(self.renderer)
        self.window.SetNumberOfLayers(2)
        self._overlay = vtk.vtkRenderer()  # colour legends and rulers draw into the layer above
        self._overlay.SetLayer(1)
        self.window.AddRenderer(self._overlay)
        self._interactor = vtk.vtkRenderWindowInteractor()
        self._interactor.SetRenderWindow(self.window)

    def _add_managers(self, names: tuple[str, ...], view_node) -> None:
        self._group = slicer.vtkMRMLDisplayableManagerGroup()
        self._group.SetRenderer(self.renderer)
        for name in names:
            manager = getattr(slicer, name)()
            manager.SetMRMLApplicationLogic(self.application.logic)
            self._group.AddDisplayableManager(manager)
        self._group.SetMRMLDisplayableNode(view_node)

    def close(self) -> None:
        """Take the view apart in the right order; VTK crashes when Python's garbage collector does it."""
        self._group.SetMRMLDisplayableNode(None)
        self._group.SetRenderer(None)
        self.logic.SetMRMLScene(None)
        self.window.Finalize()
        self._interactor.SetRenderWindow(None)

    def array(self) -> np.ndarray:
        """The picture, uint8, shape (height, width, 3)."""
        image = self._grab()
        width, height, _ = image.GetDimensions()
        return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(height, width, 3)[::-1].copy()

    def save(self, path: Path) -> None:
        """The picture as PNG."""
        writer = vtk.vtkPNGWriter()
        writer.SetInputData(self._grab())
        writer.SetFileName(str(path))
        writer.Write()

    def render(self) -> None:
        """Draw the scene as it is now."""
        self.window.Render()

    def _grab(self):
        self.render()
        grabber = vtk.vtkWindowToImageFilter()
        grabber.SetInput(self.window)
        grabber.ReadFrontBufferOff()
        grabber.Update()
        return grabber.GetOutput()


class SliceView(_View):
    """A slice view with its own slice and composite node. `orientation` is Axial, Sagittal or Coronal."""

    def __init__(self, application, name: str = "Red", orientation: str = "Axial", size=(600, 540)) -> None:
        super().__init__(application, size)
        self.renderer.GetActiveCamera().ParallelProjectionOn()
        self.logic = slicer.vtkMRMLSliceLogic()
        self.logic.SetMRMLApplicationLogic(application.logic)
        application.logic.GetSliceLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(application.scene)
        self.node = self.logic.AddSliceNode(name)
        self.node.SetOrientation(orientation)
        self._add_image()  # before the managers: what they draw has to lie over the image
        self._add_managers(SLICE_MANAGERS, self.node)

    def fit(self, margin: float = 1.0) -> None:
        """Bring the background volume into view; a margin above 1 leaves room around it."""
        self.logic.ResizeSliceNode(*self.window.GetSize())
        self.logic.FitSliceToBackground()
        width, height, depth = self.node.GetFieldOfView()
        self.node.SetFieldOfView(width * margin, height * margin, depth)
        self.logic.SnapSliceOffsetToIJK()

    def move_to(self, ras) -> None:
        """Show the slice through a point, RAS in mm."""
        self.node.JumpSliceByOffsetting(*(float(part) for part in ras))

    def render(self) -> None:
        """Draw the scene as it is now."""
        self._mapper.SetInputConnection(self.logic.GetImageDataConnection())
        super().render()

    def _add_image(self) -> None:
        self._mapper = vtk.vtkImageMapper()
        self._mapper.SetColorWindow(255)
        self._mapper.SetColorLevel(127.5)
        actor = vtk.vtkActor2D()
        actor.SetMapper(self._mapper)
        actor.GetProperty().SetDisplayLocationToBackground()
        self.renderer.AddViewProp(actor)


class ThreeDView(_View):
    """A 3D view with its own view node and camera."""

    def __init__(self, application, name: str = "1", size=(600, 540)) -> None:
        super().__init__(application, size)
        self.logic = slicer.vtkMRMLViewLogic()
        self.logic.SetMRMLApplicationLogic(application.logic)
        application.logic.GetViewLogics().AddItem(self.logic)
        self.logic.SetMRMLScene(application.scene)
        self.node = self.logic.AddViewNode(name)
        self.node.SetBoxVisible(False)
        self.node.SetAxisLabelsVisible(False)
        self._add_managers(THREE_D_MANAGERS, self.node)

    def look_from(self, direction_ras=(0.4, 1.0, 0.35), zoom: float = 1.3) -> None:
        """Turn the camera to the middle of what is shown, seen from a direction."""
        self.render()
        camera = self.renderer.GetActiveCamera()
        camera.SetFocalPoint(0, 0, 0)
        camera.SetPosition(*direction_ras)
        camera.SetViewUp(0, 0, 1)
        self.renderer.ResetCamera()
        camera.Zoom(zoom)
