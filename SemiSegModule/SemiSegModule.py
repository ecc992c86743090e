"""SemiSeg: annotate a few scans, train with all of them, see, correct, export. Thin; the parts are beside it."""

import enum
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import qt
import slicer
import vtk
from SemiSegModuleLib import paths
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.parameterNodeWrapper import Decimals, SingleStep, WithinRange, parameterNodeWrapper
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

paths.make_library_importable()

from SemiSegLib import methods  # noqa: E402  found only after the line above in an unbuilt checkout
from SemiSegLib.config import SettingsError  # noqa: E402
from SemiSegLib.durations import parse_minutes  # noqa: E402
from SemiSegLib.models import named_models  # noqa: E402
from SemiSegLib.presets import PRESET_TITLES  # noqa: E402


class SemiSegModule(ScriptedLoadableModule):
    """What Slicer shows of the module before it is opened."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        self.parent.title = _("SemiSeg")
        self.parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        self.parent.dependencies = [
            "Colors",
            "Markups",
            "Plots",
            "SegmentEditor",
            "Segmentations",
            "SubjectHierarchy",
            "Terminologies",
            "Volumes",
        ]
        self.parent.contributors = ["SemiSeg contributors"]
        self.parent.helpText = _(
            "Annotate a few scans, train with these and the unlabeled ones by semi-supervised learning, and "
            "review, correct and export the segmentations of all of them. "
            'See the <a href="{url}">documentation</a>.'
        ).format(url="https://github.com/semiseg/SlicerSemiSeg#readme")
        self.parent.acknowledgementText = _(
            "The training methods are those of the literature, SimCVD and its successors (You et al.) among them; see "
            "the documentation for how to cite them. SemiSeg is not a medical device."
        )
        self.parent.icon = qt.QIcon(str(paths.resource_path("Icons/SemiSegModule.png")))
        slicer.app.connect("startupCompleted()", registerSampleData)


def registerSampleData():
    """Add the data sets to the Sample Data module, where there is one."""
    if importlib.util.find_spec("SampleData") is not None:
        from SemiSegModuleLib import sample_data

        sample_data.register()


class _Choice(enum.Enum):
    """A choice whose text in the panel differs from its value."""

    def label(self):
        return _choiceTexts()[type(self).__name__][self.value]


def _choices(name, values):
    """The parameter node keeps the member's name, so it must be stable: the value in capitals."""
    return _Choice(name, {value.strip(".").upper().replace("-", "_").replace(".", "_"): value for value in values})


def _member(choices, value):
    """The choice with this value; raises SettingsError naming those that there are."""
    try:
        return choices(value)
    except ValueError:
        known = ", ".join(choice.value for choice in choices)
        raise SettingsError(f"{choices.__name__} is one of {known}, not '{value}'.") from None


Task = _choices("Task", PRESET_TITLES)
TrainingTime = _choices("TrainingTime", ["hour", "correction", "quarter", "night"])
Method = _choices("Method", ["recommended", *methods.available()])
Device = _choices("Device", ["auto", "cuda", "mps", "cpu"])
Curve = _choices("Curve", ["loss", "dsc"])
ExportFormat = _choices("ExportFormat", [".seg.nrrd", ".nii.gz", ".nrrd", ".seg.dcm", ".stl", ".obj", ".ply"])


def _choiceTexts():
    return {
        "Task": PRESET_TITLES,
        "TrainingTime": {
            "correction": _("about 5 minutes, after corrections"),
            "quarter": _("about 15 minutes, for a first look"),
            "hour": _("about an hour"),
            "night": _("overnight, about 8 hours"),
        },
        "Method": {"recommended": _("Recommended"), **{name: _methodName(name) for name in methods.available()}},
        "Device": {
            "auto": _("the fastest there is"),
            "cuda": _("NVIDIA or AMD graphics card (CUDA)"),
            "mps": _("Apple graphics processor (MPS)"),
            "cpu": _("processor (CPU)"),
        },
        "Curve": {"loss": _("Training loss"), "dsc": _("Validation DSC")},
        "ExportFormat": {
            ".seg.nrrd": _("Slicer segmentation (.seg.nrrd)"),
            ".nii.gz": _("NIfTI label map (.nii.gz)"),
            ".nrrd": _("NRRD label map (.nrrd)"),
            ".seg.dcm": _("DICOM segmentation (.seg.dcm)"),
            ".stl": _("Surface (.stl)"),
            ".obj": _("Surface with color (.obj)"),
            ".ply": _("Surface with color (.ply)"),
        },
    }


def _methodName(name):
    """The title of a method up to its colon is its name, if it has one; else the name in the registry."""
    head, colon, _rest = methods.title(name).partition(":")
    return head if colon and len(head) < 25 else name.replace("-", " ").capitalize()


# A slider without a step of its own knows whole numbers only: 0 and 1.
Opacity = Annotated[float, WithinRange(0.0, 1.0), Decimals(2), SingleStep(0.01)]


@parameterNodeWrapper
class SemiSegModuleParameterNode:
    """
    All settings of the panel; a saved scene brings them back. 0 and empty texts mean: as task and method suggest.

    task - What is segmented; a preset of SemiSegLib.
    studyFolder - Trainings, models, predictions and the copies of scans that they need are kept here.
    hideNames - Scans are called by their numbers, in the panel and in every file.
    currentCase - ID of the case at hand.
    trainingTime, method, device, iterations, learningRate, spacing, patchSize - The training.
    validationCases, extraSettings - More of it.
    startFromLastModel - Learn on from the model in use.
    modelFile - The model in use.
    shownCurve - What the plot view shows.
    showMask, maskOpacity, show3d, showSdm, sdmOpacity, showProbability, probabilityOpacity, showUncertainty,
    uncertaintyOpacity - Overlays.
    exportFormat, exportFolder, exportByPatient, exportSelectedOnly - What is exported, and where to.
    proposedExportFolder - What was proposed for exportFolder; any other was chosen by somebody.
    """

    task: Task = Task.LEFT_ATRIUM
    studyFolder: Path = Path()
    hideNames: bool = False
    currentCase: str = ""
    trainingTime: TrainingTime = TrainingTime.HOUR
    method: Method = Method.RECOMMENDED
    device: Device = Device.AUTO
    iterations: Annotated[int, WithinRange(0, 1000000)] = 0
    learningRate: Annotated[float, WithinRange(0.0, 1.0)] = 0.0
    spacing: str = ""
    patchSize: str = ""
    validationCases: Annotated[int, WithinRange(0, 1000)] = 0
    extraSettings: str = ""
    startFromLastModel: bool = True
    modelFile: str = ""
    shownCurve: Curve = Curve.LOSS
    showMask: bool = True
    maskOpacity: Opacity = 0.5
    show3d: bool = False
    showSdm: bool = False
    sdmOpacity: Opacity = 0.5
    showProbability: bool = False
    probabilityOpacity: Opacity = 0.5
    showUncertainty: bool = False
    uncertaintyOpacity: Opacity = 0.5
    exportFormat: ExportFormat = ExportFormat.SEG_NRRD
    exportFolder: Path = Path()
    proposedExportFolder: Path = Path()
    exportByPatient: bool = False
    exportSelectedOnly: bool = False


_CHOICES = {
    name: kind
    for name, kind in SemiSegModuleParameterNode.__annotations__.items()
    if isinstance(kind, type) and issubclass(kind, _Choice)
}


class SemiSegModuleWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel; its sections are in SemiSegModuleLib."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameterNode = None
        self._parameterNodeGuiTag = None

    def setup(self):
        """Called when the user opens the module the first time."""
        ScriptedLoadableModuleWidget.setup(self)
        from SemiSegModuleLib.panels.panel import Panel

        uiWidget = slicer.util.loadUI(str(paths.resource_path("UI/SemiSegModule.ui")))
        self.layout.addWidget(uiWidget)
        self.ui = slicer.util.childWidgetVariables(uiWidget)
        uiWidget.setMRMLScene(slicer.mrmlScene)
        self.logic = SemiSegModuleLogic()
        self.panel = Panel(self.ui, self.logic.workbench)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndImport)
        self.initializeParameterNode()

    def cleanup(self):
        """Called when the application closes and the module widget is destroyed."""
        self.setParameterNode(None)
        self.removeObservers()
        self.panel.close()
        self.logic.close()

    def onReload(self):
        """Developers: the parts are loaded anew as well, not only this file."""
        for name in [name for name in sys.modules if name.partition(".")[0] in ("SemiSegModuleLib", "SemiSegLib")]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)

    def enter(self):
        """Called each time the user opens this module."""
        self.initializeParameterNode()
        self.panel.enter()

    def exit(self):
        """Called each time the user opens a different module; a training goes on and is still watched."""
        self.panel.leave()
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
            self._parameterNodeGuiTag = None

    def onSceneStartClose(self, caller, event):
        """The parameter node will be reset, do not use it anymore."""
        self.setParameterNode(None)
        self.panel.sceneClosed()

    def onSceneEndClose(self, caller, event):
        """If this module is shown while the scene is closed then recreate a new parameter node immediately."""
        if self.parent.isEntered:
            self.initializeParameterNode()

    def onSceneEndImport(self, caller, event):
        """A loaded scene brings its own settings and cases."""
        if self.parent.isEntered:
            self.initializeParameterNode()

    def initializeParameterNode(self):
        """Ensure the parameter node exists and is observed."""
        self.setParameterNode(self.logic.getParameterNode())

    def setParameterNode(self, parameterNode):
        """Observe another parameter node, or none."""
        if self._parameterNode:
            self._parameterNode.disconnectGui(self._parameterNodeGuiTag)
        self._parameterNode = parameterNode
        if self._parameterNode:
            self._parameterNodeGuiTag = self._parameterNode.connectGui(self.ui)
        self.panel.adopt(self._parameterNode)


def _absolute(path):
    """A path as the script means it: a relative one would mean something else to a child process, and for a study
    folder nothing at all."""
    return Path(path).expanduser().absolute()


def _several(items):
    """One volume or case, or several; none for None. Raises TypeError for names."""
    if items is None:
        return []
    given = list(items) if isinstance(items, Iterable) and not isinstance(items, str) else [items]
    return [_no_name(item) for item in given]


def _no_name(item):
    """The volume or case; raises TypeError for a name, which scans of two patients may have."""
    if isinstance(item, str):
        text = _("'{name}' is a name, which several scans may have: give the volume node or the case.")
        raise TypeError(text.format(name=item))
    return item


class SemiSegModuleLogic(ScriptedLoadableModuleLogic):
    """Everything the panel does, for scripts and other modules; the panel of the same scene shows what they do.

    In Slicer's Python console, with scans loaded and the packages installed (the panel's *Check installation*):

    >>> logic = slicer.modules.semisegmodule.widgetRepresentation().self().logic    # doctest: +SKIP
    >>> logic.addCases(["/data/images/a.nii.gz", "/data/images/b.nii.gz"])          # doctest: +SKIP
    >>> logic.train(time="15m", wait=True)                                          # doctest: +SKIP
    >>> logic.predict(wait=True)                                                    # doctest: +SKIP
    >>> for case in logic.review():                                                 # doctest: +SKIP
    ...     if case.confidence > 0.9:
    ...         logic.acceptPrediction(case)
    >>> logic.exportMasks("/data/masks", ".nii.gz")                                 # doctest: +SKIP

    and to go on with what matters most (suggest, proposeSlices, refine, estimateQuality and history have their own
    help):

    >>> logic.suggest(budget=3, slices=5, wait=True)                                # doctest: +SKIP
    >>> for case in logic.workbench.suggesting.cases():                             # doctest: +SKIP
    ...     print(case.name, logic.proposeSlices(case, "axial", every=5))

    `workbench` holds the parts (study, training, predicting, review) with their signals, such as
    `logic.workbench.training.ended.connect(print)`. Without a panel, make a logic of your own: SemiSegModuleLogic().
    """

    def __init__(self, parent=None):
        ScriptedLoadableModuleLogic.__init__(self, parent)
        self._workbench = None
        self._closing = None  # tag of the observer of the scene, where a script works without the panel

    @property
    def workbench(self):
        """Study, training, prediction and review; made when first needed."""
        from SemiSegModuleLib.logic.workbench import Workbench

        if self._workbench is None:
            self._workbench = Workbench()
        return self._workbench

    def addCases(self, scans=None, annotations=None):
        """Add scans to the study and return their cases.

        :param scans: volume nodes and sequence nodes (each frame becomes a case), or paths of scans or folders (masks
            beside them become annotations); None: every scan of the scene
        :param annotations: finished vtkMRMLSegmentationNodes, one for each volume node, None where there is none
        """
        self._study()
        return self.workbench.add_cases(scans, annotations)

    def train(self, method=None, time=None, settings=None, validation=None, folder=None, wait=False):
        """Start a training on the study's cases and return its process.

        Nothing is asked: copies of the scans go to the study folder.

        :param method: name of a method, or 'recommended'; None: the one chosen in the panel
        :param time: how long to train, as '15m', '1h', '8h', or in minutes; None: as the panel says
        :param settings: any setting of SemiSegLib by its name, over those of the panel
        :param validation: so many annotated cases are held out to measure with
        :param folder: the study folder from now on; None: the one that is set
        :param wait: return when the training has ended; the window lives meanwhile
        :raises SemiSegError: a setting is wrong, nothing is annotated, or a case cannot be written
        """
        with self._study().settings_kept("studyFolder", "method", "validationCases"):
            parameters = self._study(folder).parameters
            if method is not None:
                parameters.method = _member(Method, method)
            if validation is not None:
                parameters.validationCases = validation
            length = {} if time is None else {"training.minutes": parse_minutes(str(time))}
            process = self.workbench.training.start(settings={**length, **(settings or {})})
        if wait:
            self.wait()
        return process

    def predict(self, volumes=None, model=None, folder=None, part=None, wait=False):
        """Start a prediction and return its process; masks appear in the scene one after the other.

        Nothing is asked: copies of the scans go to the study folder.

        :param volumes: volume nodes or cases, or one of them; None: every case without a finished annotation. Volumes
            that are not in the study yet are added
        :param model: a model file or the name of a model that comes with SemiSeg; None: the one in use
        :param folder: the study folder from now on; None: the one that is set
        :param part: predict a part of one scan alone: 'box', its region of interest; 'axial', 'coronal' or 'sagittal',
            the slice that is shown; or a VoxelBox. What an earlier prediction says of the rest stays
        :param wait: return when all is predicted; the window lives meanwhile
        :raises SemiSegError: no model, no scan, or a scan cannot be written
        """
        with self._study().settings_kept("studyFolder"):
            study, predicting = self._study(folder), self.workbench.predicting
            if model is not None:
                study.use_model(model if model in named_models() else _absolute(model))
            nodes = [getattr(volume, "volume", volume) for volume in _several(volumes)]
            cases = predicting.waiting() if volumes is None else [study.cases.add_volume(node) for node in nodes]
            process = predicting.start(cases, part=predicting.part_of(cases, part) if isinstance(part, str) else part)
        if wait:
            self.wait()
        return process

    def estimateQuality(self, cases=None, wait=False):
        """Start to find out how good predictions are to be expected, and return the process.

        A calibrated model is asked after every prediction by itself. `case.quality` then has the DSC to expect of the
        whole and of each structure, with its interval, and `case.uncertainty` the volume of where the model is unsure.

        :param cases: predicted cases; None: those of which nothing is known yet
        :param wait: return when all is known; the window lives meanwhile
        :raises SemiSegError: no model, nothing predicted, or a scan cannot be written
        """
        self._study()
        judging = self.workbench.judging
        process = judging.start(judging.waiting() if cases is None else _several(cases))
        if wait:
            self.wait()
        return process

    def suggest(self, budget=3, slices=5, wait=False):
        """Start to look which cases to annotate next, and return the process.

        `logic.workbench.suggesting.cases()` then has them, the first to annotate first; `case.suggestion` says why, and
        with which slices to begin.

        :param budget: so many cases at most
        :param slices: so many slices of each
        :param wait: return when they are known; the window lives meanwhile
        :raises SemiSegError: every case is annotated, or one cannot be written
        """
        self._study()
        process = self.workbench.suggesting.start(budget, slices)
        if wait:
            self.wait()
        return process

    def proposeSlices(self, case, orientation="axial", every=5):
        """Plan a few slices of a case, suggested ones first, and return their numbers; only what is drawn in slices of
        that orientation is learnt from."""
        from SemiSegModuleLib.scene import slices

        return list(slices.propose(self._study().cases, case, orientation, every).proposed)

    def nothingInSlice(self, case, number):
        """Say that somebody has looked at this slice of the plan and there is nothing to draw."""
        from SemiSegModuleLib.scene import slices

        self._study()
        slices.mark_empty(case, number)

    def refine(self, case, whole="", wait=False):
        """Start to let the mask of a case follow what was drawn in its annotation, and return the process.

        The annotation is replaced at the end, what was drawn stays in it, and `undo()` brings the former one back.

        :param whole: 'axial', 'coronal' or 'sagittal': slices of that orientation in which something was drawn are
            right as a whole
        :param wait: return when it has followed; the window lives meanwhile
        :raises SemiSegError: no model of these labels, nothing drawn, or the scan cannot be written
        """
        self._study()
        process = self.workbench.refining.start(_no_name(case), whole)
        if wait:
            self.wait()
        return process

    def history(self):
        """The rounds of the study: what was annotated for each training, in how many minutes, and what it brought."""
        self._study()
        return self.workbench.rounds.all()

    def review(self):
        """Predicted cases that nobody has decided on: the lowest expected DSC first, then the least certain."""
        self._study()
        self.workbench.review.sort("expected", descending=False)
        return self.workbench.review.open()

    def acceptPrediction(self, case, overwrite=False):
        """The prediction of a case is right as it is; raises CaseError where it would replace a drawing."""
        self._study().case = _no_name(case)
        self.workbench.review.accept(overwrite)

    def correctPrediction(self, case, overwrite=False):
        """Make a copy of the prediction to be edited, and return that segmentation node."""
        self._study().case = _no_name(case)
        self.workbench.review.correct(overwrite)
        return case.annotation

    def undo(self):
        """Take the last accept, correct, refine, leave out or remove back."""
        self._study()
        self.workbench.review.take_back()

    def exportMasks(self, folder, format=".seg.nrrd", cases=None, overwrite=False, byPatient=False):
        """Write the masks that are shown as files and return their paths; what is not marked as done is left out, and
        so are scans that take no part.

        :param byPatient: a folder for each patient
        """
        from SemiSegModuleLib.exports import export_masks

        table = self._study().cases
        chosen = table.cases if cases is None else _several(cases)
        return export_masks(table, chosen, _absolute(folder), format, overwrite=overwrite, by_patient=byPatient)

    def wait(self, seconds=None):
        """Let the window live until nothing runs in a child process; returns whether that is so. What is not watched
        any more is not waited for, such as the training of a scene that somebody closed."""
        import time

        end = None if seconds is None else time.monotonic() + seconds
        while self.workbench.watched and (end is None or time.monotonic() < end):
            slicer.app.processEvents()
            time.sleep(0.02)
        return not self.workbench.active

    def _study(self, folder=None):
        """The study of the present scene, in this folder from now on."""
        study = self.workbench.study
        if study.parameters is None:
            self.workbench.adopt(self.getParameterNode())
            if self._closing is None:  # the settings go with the scene, the study folder first of all
                event = slicer.mrmlScene.StartCloseEvent
                self._closing = slicer.mrmlScene.AddObserver(event, lambda *_: self.workbench.scene_closed())
        if folder is not None:
            study.choose_folder(_absolute(folder))
        return study

    def close(self):
        """Stop looking at scene and processes; trainings go on."""
        if self._closing is not None:
            slicer.mrmlScene.RemoveObserver(self._closing)
            self._closing = None
        if self._workbench is not None:
            self._workbench.close()
            self._workbench = None

    def getParameterNode(self):
        """The settings; choices that this version does not know (a scene of a newer one) become the default."""
        node = super().getParameterNode()
        with slicer.util.NodeModify(node):  # nobody sees it without its defaults
            for name, choice in _CHOICES.items():
                if node.GetParameter(name) and node.GetParameter(name) not in choice.__members__:
                    node.UnsetParameter(name)
            parameters = SemiSegModuleParameterNode(node)
            self._setDefaultFolder(parameters)
        return parameters

    @staticmethod
    def _setDefaultFolder(parameters):
        from SemiSegModuleLib.logic.study import default_study_folder

        if not parameters.studyFolder.is_absolute():  # none yet, or one of another system: C:\\… means nothing on Linux
            parameters.studyFolder = default_study_folder()


class SemiSegModuleTest(ScriptedLoadableModuleTest):
    """The self-test, to be run inside Slicer: Reload and Test, or ctest. It trains nothing and installs nothing."""

    def setUp(self):
        """Begin with an empty scene."""
        slicer.mrmlScene.Clear(0)

    def runTest(self):
        """Run as few or as many tests as needed here."""
        for name in [name for name in dir(self) if name.startswith("test_")]:
            self.setUp()
            getattr(self, name)()

    def test_ParametersSurviveTheScene(self):
        """Settings are kept in the scene's parameter node."""
        logic = SemiSegModuleLogic()
        logic.getParameterNode().iterations = 123
        assert SemiSegModuleLogic().getParameterNode().iterations == 123

    def test_AnnotationBecomesFiles(self):
        """A synthetic scan is loaded with its annotation and exported for training."""
        import tempfile

        from SemiSegModuleLib.scene.case_table import CaseTable
        from SemiSegModuleLib.scene.loading import add_files
        from SemiSegModuleLib.scene.records import State
        from SemiSegModuleLib.scene.training_files import export_cases

        from SemiSegLib.presets import PRESETS
        from SemiSegLib.synthetic import make_dataset

        with tempfile.TemporaryDirectory() as folder:
            data = make_dataset(Path(folder) / "data", cases=2, labelled=1, validation=0, size=(32, 32, 16))
            table = CaseTable(slicer.mrmlScene)
            table.labels = PRESETS["left-atrium"]["data.labels"]
            add_files(table, [data])
            assert [case.state for case in table] == [State.ANNOTATED, State.UNLABELLED]
            export = export_cases(table, Path(folder) / "export")
            assert (len(export.labelled), len(export.unlabelled)) == (1, 1)
            table.close()

    def test_RegionLimitsWhatIsExported(self):
        """Of a scan with a region of interest only the part in the box is written, in its place."""
        import tempfile

        import SimpleITK as sitk
        from SemiSegModuleLib.scene.annotations import add_region
        from SemiSegModuleLib.scene.case_table import CaseTable
        from SemiSegModuleLib.scene.loading import add_files
        from SemiSegModuleLib.scene.training_files import export_cases

        from SemiSegLib.presets import PRESETS
        from SemiSegLib.synthetic import make_dataset

        with tempfile.TemporaryDirectory() as folder:
            data = make_dataset(Path(folder) / "data", cases=2, labelled=1, validation=0, size=(32, 32, 16))
            table = CaseTable(slicer.mrmlScene)
            table.labels = PRESETS["left-atrium"]["data.labels"]
            _annotated, case = add_files(table, [data])
            add_region(table, case).SetSize(*(8 * spacing for spacing in case.volume.GetSpacing()))
            assert case.box().size == (8, 8, 8)
            export = export_cases(table, Path(folder) / "export", [case])
            part = sitk.ReadImage(str(export.images / f"{case.file_name}.nrrd"))
            assert part.GetSize() == (8, 8, 8)
            first = part.TransformIndexToPhysicalPoint((0, 0, 0))
            matrix = vtk.vtkMatrix4x4()
            case.volume.GetIJKToRASMatrix(matrix)
            right, anterior, superior, _one = matrix.MultiplyPoint((*case.box().start, 1))
            expected = (-right, -anterior, superior)
            assert all(abs(a - b) < 1e-3 for a, b in zip(first, expected, strict=True))
            table.close()

    def test_TorchStaysOutside(self):
        """Nothing of the module imports torch into Slicer's process."""
        if "torch" in sys.modules:  # another module's doing
            return
        import SemiSegModuleLib.panels.panel  # noqa: F401

        assert "torch" not in sys.modules
