"""A study: settings, cases and labels of the scene, the case at hand, the folder of everything else, and word of
every change that reaches only whom it concerns.

>>> study = Study()                                                     # doctest: +SKIP
>>> study.adopt(logic.getParameterNode())                               # doctest: +SKIP
>>> study.case_changed.connect(lambda case: print(case.name, case.state))   # doctest: +SKIP
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path, PureWindowsPath
from typing import Any

import qt
import vtk

from SemiSegLib.config import Label
from SemiSegLib.models import ModelError, named_models
from SemiSegLib.presets import PRESETS

from ..i18n import _
from ..scene.case import Case, CaseError
from ..scene.case_table import CaseTable
from ..scene.identity import claim, claimed, new_identifier, owner_of
from ..signal import Signal
from .model_card import ModelCard, read_card


class Study:
    """The state of the work; what must survive is in the scene (parameter node, case table), nothing else is here.

    Nobody is told anything while there are no settings (a scene is closing).
    """

    def __init__(self, scene: Any = None) -> None:
        self.parameters: Any = None
        self.cases = CaseTable(scene)
        self.opened = Signal()  # another scene, or none: everything is to be looked at anew
        self.cases_changed = Signal()  # cases came or went
        self.case_changed = Signal()  # this case is different
        self.current_changed = Signal()  # another case is at hand
        self.labels_changed = Signal()
        self.settings_changed = Signal()  # names of the parameters
        self._values: dict[str, str] = {}
        self._observed: tuple[Any, int] | None = None
        self._kept: dict[str, str] | None = None  # settings while another scene is added to this study
        self._scene_tags = self._observe_scene()
        self.cases.changed.connect(lambda: self._tell(self.cases_changed))
        self.cases.case_changed.connect(lambda case: self._tell(self.case_changed, case))
        self.cases.labels_changed.connect(lambda: self._tell(self.labels_changed))

    def close(self) -> None:
        """Stop observing the scene."""
        self._stop_observing()
        for tag in self._scene_tags:
            self.cases.scene.RemoveObserver(tag)
        self.cases.close()
        signals = (self.opened, self.cases_changed, self.case_changed, self.current_changed, self.labels_changed)
        for signal in (*signals, self.settings_changed):
            signal.clear()

    def adopt(self, parameters: Any) -> None:
        """Work with the parameter node of the scene as it is now; None while a scene closes."""
        self._stop_observing()
        self.parameters = parameters
        if parameters is None:
            return
        node = parameters.parameterNode
        self._values = _values(node)
        self._observed = node, node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *_: self._settings_modified())
        self.cases.refresh()
        if parameters.hideNames != self.cases.names_hidden:
            self.cases.names_hidden = parameters.hideNames
        if not self.cases.labels:
            self.use_labels_of_task()
        self.propose_export_folder()
        self._tell(self.opened)

    def _stop_observing(self) -> None:
        if self._observed is not None:
            node, tag = self._observed
            node.RemoveObserver(tag)
            self._observed = None

    def _observe_scene(self) -> list[int]:
        """Of all that listen to the end of an import the study is the first: the others find its own settings."""
        scene = self.cases.scene
        first = 1.0
        return [
            scene.AddObserver(scene.StartImportEvent, lambda *_: self._keep_settings(), first),
            scene.AddObserver(scene.EndImportEvent, lambda *_: self._restore_settings(), first),
        ]

    def _keep_settings(self) -> None:
        """A scene that is added to a study with cases brings cases, not its task, model, folders or shown names."""
        open_ = self.parameters is not None and len(self.cases) > 0
        self._kept = _values(self.parameters.parameterNode) if open_ else None

    def _restore_settings(self) -> None:
        kept, self._kept = self._kept, None
        if kept is None or self.parameters is None:
            return
        node = self.parameters.parameterNode
        self._values = kept  # nothing has changed
        modifying = node.StartModify()
        for name in _values(node).keys() - kept.keys():
            node.UnsetParameter(name)
        for name, text in kept.items():
            node.SetParameter(name, text)
        node.EndModify(modifying)

    def _settings_modified(self) -> None:
        before, self._values = self._values, _values(self.parameters.parameterNode)
        if self.cases.scene.IsImporting():  # half a scene, and choices of a newer version: `adopt` looks at the whole
            return
        names = {name for name in {*before, *self._values} if before.get(name) != self._values.get(name)}
        if "hideNames" in names:
            self.cases.names_hidden = self.parameters.hideNames
        if "studyFolder" in names:
            self._folder_set()
            self.propose_export_folder()
        if "currentCase" in names:
            self._tell(self.current_changed)
        if names - {"currentCase"}:
            self._tell(self.settings_changed, names - {"currentCase"})

    def _tell(self, signal: Signal, *content: Any) -> None:
        if self.parameters is not None:
            signal.emit(*content)

    @contextmanager
    def settings_kept(self, *names: str) -> Iterator[None]:
        """Where this fails, the settings of these names are as they were, and so is what was agreed on the folder."""
        before, agreed = {name: getattr(self.parameters, name) for name in names}, setting(self._agreement)
        try:
            yield
        except BaseException:
            for name, value in before.items():
                setattr(self.parameters, name, value)
            set_setting(self._agreement, agreed)
            raise

    # ---- labels ----------------------------------------------------------------------------------------------

    def use_labels_of_task(self) -> None:
        """Labels of the chosen preset; one that names none leaves those that are there, or begins with one."""
        preset = self.labels_of_task
        if preset:
            self.cases.labels = preset
        elif not self.cases.labels:
            self.cases.labels = [Label(1, "structure", (128, 174, 128))]

    @property
    def labels_of_task(self) -> list[Label]:
        """Those that the chosen task names; empty when it leaves them free."""
        return PRESETS[self.parameters.task.value].get("data.labels") or []

    def masks_of_other_labels(self, labels: Sequence[Label]) -> list[Case]:
        """Cases with a mask that would count as something else if the labels of the study were these."""
        same = [label.name for label in labels] == [label.name for label in self.cases.labels]
        return [] if same else [case for case in self.cases if case.shown_segmentation() is not None]

    @property
    def labels_are_free(self) -> bool:
        """The task names no labels of its own."""
        return "data.labels" not in PRESETS[self.parameters.task.value]

    @property
    def takes_labels_of_data(self) -> bool:
        """The first scans bring those that their data names along, for a task without labels of its own."""
        return self.labels_are_free and not len(self.cases)

    # ---- the case at hand ------------------------------------------------------------------------------------

    @property
    def case(self) -> Case | None:
        """The case at hand."""
        return self.cases.by_id(self.parameters.currentCase) if self.parameters else None

    @case.setter
    def case(self, case: Case | None) -> None:
        self.parameters.currentCase = case.id if case else ""

    def select_first(self, cases: list[Case]) -> None:
        """Take the first of these cases to hand, unless there is one already."""
        if cases and self.case is None:
            self.case = cases[0]

    # ---- folder and model ------------------------------------------------------------------------------------

    @property
    def named_folder(self) -> Path:
        """The study folder of the settings. An empty field, and a path of another system, is the one that is proposed:
        it would be taken from wherever Slicer was started."""
        folder = self.parameters.studyFolder
        return folder if folder.is_absolute() else default_study_folder()

    @property
    def folder(self) -> Path:
        """The folder of everything that is not in the scene: the one chosen, or one below it where that one is another
        study's."""
        return claimed(self.named_folder, self.cases.identifier)

    @property
    def folder_is_chosen(self) -> bool:
        """Somebody has chosen the folder for this study on this computer, or the study has files there already. A scene
        that comes from elsewhere brings a path along, and nobody knows what it means here."""
        agreed = setting(self._agreement) == str(self.named_folder)
        return agreed or owner_of(self.folder) == self.cases.identifier

    def choose_folder(self, folder: Path) -> None:
        """Keep everything of this study there from now on, copies of its scans, too."""
        self.parameters.studyFolder = folder
        self._agree_on_folder()

    def propose_export_folder(self) -> None:
        """Export into the study's folder, under a name that no other study proposes, unless somebody chose another:
        scans of two studies may be called alike."""
        parameters = self.parameters
        former = parameters.proposedExportFolder
        if former == Path():  # a scene of an earlier version
            former = self.named_folder / "exports"
        if not parameters.exportFolder.is_absolute() or parameters.exportFolder == former:
            parameters.exportFolder = self.folder / f"exports-{self.cases.identifier[:8]}"
            parameters.proposedExportFolder = parameters.exportFolder

    @property
    def _agreement(self) -> str:
        return f"StudyFolders/{self.cases.identifier}"

    def _folder_set(self) -> None:
        """By somebody who chose it, unless it is the one that is proposed."""
        if self.named_folder != default_study_folder():
            self._agree_on_folder()

    def _agree_on_folder(self) -> None:
        set_setting(self._agreement, str(self.named_folder))

    @property
    def pool(self) -> Path:
        """Where every scan and mask that was written for trainings and predictions is kept once."""
        return self.folder / "scans"

    def in_names(self, text: str) -> str:
        """A message of a child process, in which scans are called as the table calls them and not as their copies in
        this study's folder, of which the names are numbers."""

        if self.parameters is None:  # a scene is closing
            return text

        def shown(match: re.Match[str]) -> str:
            case = self.cases.by_file_name(match["stem"])
            return f"'{case.name}'" if case is not None else match[0]

        return re.sub(re.escape(str(self.folder)) + r"[^\n:]*?[\\/](?P<stem>scan_\d+)\.(?:nrrd|nii\.gz)", shown, text)

    def claim_folder(self) -> Path:
        """Make the folder, for this study alone; raises OSError when it cannot be made."""
        return claim(self.named_folder, self.cases.identifier)

    def new_folder(self, kind: str, identifier: str = "") -> Path:
        """Make a folder for one piece of work of this kind, that no other window has; raises OSError."""
        name = f"{datetime.now():%Y%m%d-%H%M%S}-{(identifier or new_identifier())[:8]}"
        folder = self.claim_folder() / kind / name
        folder.mkdir(parents=True)
        return folder

    @property
    def model(self) -> Path | None:
        """The model in use: loaded, chosen by name, or that of the last training; None when there is no such file.

        A model that comes with SemiSeg is kept by name: it lies elsewhere in another Slicer.
        """
        text = self.parameters.modelFile if self.parameters is not None else ""  # no settings: a scene is closing
        path = self.moved_along(text, 3) if text else ""  # RUN/models/last.safetensors
        return Path(path) if os.path.isfile(path) else named_models().get(text)

    def moved_along(self, path: Path | str, depth: int) -> Path:
        """A file or folder that is not there any more, in the study's folder, where that has it as many folders down:
        the study was moved."""
        moved = self.folder.joinpath(*PureWindowsPath(path).parts[-depth:])  # which knows every system's separators
        # Unlike Path.exists this raises nothing where nobody may look, as in the home of who made the scene.
        return moved if not os.path.exists(path) and os.path.exists(moved) else Path(path)

    def use_model(self, model: Path | str, agreed: bool = False) -> None:
        """Predict with this model file, or one that comes with SemiSeg by its name; raises ModelError.

        A study without annotations takes over the model's labels and task, and gives up predictions of others.

        :param agreed: also those that somebody has changed, which are not given up otherwise: CaseError names them
        """
        outdated = self.outdated_by(model)
        edited = [case.name for case in outdated if case.prediction_edited]
        if edited and not agreed:
            text = _("Predictions of other structures were changed by hand: {names}. Accept them first.")
            raise CaseError(text.format(names=", ".join(edited)))
        if not any(case.annotation for case in self.cases):
            for case in outdated:
                self.cases.forget_prediction(case)
            if not self.model_fits(model):
                self._follow_task_of(model)
            self.cases.labels = self.labels_of(model)
        self.parameters.modelFile = str(model)

    def _follow_task_of(self, model: Path | str) -> None:
        """What is learnt next has that task's voxels and window of gray values, too; one of a newer version stays
        unknown."""
        preset, tasks = self._card_of(model).settings.preset, type(self.parameters.task)
        self.parameters.task = next((task for task in tasks if task.value == preset), self.parameters.task)

    def outdated_by(self, model: Path | str) -> list[Case]:
        """Cases whose predictions go when this model is used; raises ModelError."""
        labels = self.labels_of(model)
        return [] if any(case.annotation for case in self.cases) else self.masks_of_other_labels(labels)

    def labels_of(self, model: Path | str) -> list[Label]:
        """What a model segments; raises ModelError."""
        return self.meant_by(Path(model), self._card_of(model).settings.data.labels)

    @staticmethod
    def _card_of(model: Path | str) -> ModelCard:
        return read_card(named_models().get(str(model)) or Path(model))

    def meant_by(self, model: Path, labels: Sequence[Label]) -> list[Label]:
        """Labels in the words of a model: one that this study has trained may call them as they were called then, and
        one from outside as they were called when it was first used."""
        if model.is_relative_to(self.folder):
            return self.cases.called_now(labels)
        return self.cases.in_our_words(_name_of(model), labels)

    def agree_on_words(self, model: Path) -> None:
        """Remember what the labels of a model from outside are here, for the day when one of these is renamed."""
        if self.model_fits(model) and not model.is_relative_to(self.folder):
            own = [label.name for label in self._card_of(model).settings.data.labels]
            self.cases.agree_on_words(_name_of(model), own)

    def model_fits(self, path: Path | str) -> bool:
        """The model segments the labels of this study: only then is it used, or learnt on from, unasked."""
        try:
            labels = self.labels_of(path)
        except ModelError:
            return False
        return [label.name for label in labels] == [label.name for label in self.cases.labels]

    def model_values(self, path: Path) -> list[int]:
        """Values that a model has for its labels; those of a study may be others. Raises ModelError."""
        return [label.value for label in self.labels_of(path)]


def _name_of(model: Path) -> str:
    """A model that comes with SemiSeg by its name, as it lies elsewhere in another Slicer; any other by its path."""
    return next((name for name, path in named_models().items() if path == model), str(model))


def _values(node: Any) -> dict[str, str]:
    """What a parameter node holds, as text."""
    names = node.GetParameterNamesAsCommaSeparatedList() or ""
    return {name: node.GetParameter(name) for name in names.split(",") if name}


def setting(name: str, default: str = "") -> str:
    """A setting of this computer, not of a scene."""
    return str(qt.QSettings().value(f"SemiSeg/{name}", default) or default)


def set_setting(name: str, value: str) -> None:
    """Remember a setting of this computer."""
    qt.QSettings().setValue(f"SemiSeg/{name}", value)


def default_study_folder() -> Path:
    """What is proposed for a new study: not in Documents, which many computers copy to a cloud."""
    return Path.home() / "SemiSeg" / "studies"
