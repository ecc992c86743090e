"""The Data section: task, labels, study folder, the table of cases, and the ways to add some."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ctk
import qt
import slicer

from SemiSegLib.config import Label

from .. import sample_data
from ..i18n import _
from ..logic.storage import tidy_up
from ..logic.workbench import Workbench
from ..scene.case import Case
from ..scene.loading import add_files
from . import dialogs, texts
from .busy import Busy
from .case_rows import CaseRows
from .fields import FolderField
from .volume_choice import VolumeChoice

_COLORS = ((152, 55, 13), (128, 174, 128), (111, 184, 210), (241, 214, 145), (177, 122, 101), (216, 101, 79))
_MOST_LABEL_ROWS, _LABEL_PIXELS = 4, 20


class DataPanel:
    """Connects the widgets of the Data section."""

    def __init__(self, ui: Any, logic: Workbench, busy: Busy) -> None:
        self._ui, self._logic, self._study, self._busy = ui, logic, logic.study, busy
        self._review = logic.review
        self._filling = False
        self._task: Any = None  # that the labels belong to
        self.rows = CaseRows(ui.casesTable, self._study)
        self._shown: Case | None = None  # the case at hand, as far as the table knows
        self.volumes = VolumeChoice(ui.volumeComboBox, self._study)
        ui.studyFolderPathLineEdit.filters = ctk.ctkPathLineEdit.Dirs
        self._set_up_labels()
        self._set_up_sample_menu()
        self._folder = FolderField(ui.studyFolderPathLineEdit, self._study, "studyFolder")
        # Only a person's choice: the box is filled anew at every entry, and its index changes before the setting does.
        ui.taskComboBox.connect("activated(int)", self._task_chosen)
        ui.addLabelButton.connect("clicked()", self.add_label)
        ui.removeLabelButton.connect("clicked()", self.remove_label)
        ui.labelsTable.connect("cellChanged(int,int)", self._label_renamed)
        ui.labelsTable.connect("cellClicked(int,int)", self._label_clicked)
        ui.casesTable.connect("itemSelectionChanged()", self._row_selected)
        ui.addVolumeButton.connect("clicked()", self.add_volume)
        ui.addAllVolumesButton.connect("clicked()", self.add_all_volumes)
        ui.addFilesButton.connect("clicked()", self.add_files)
        ui.addFolderButton.connect("clicked()", self.add_folder)
        ui.excludeCaseButton.connect("clicked()", self.exclude)
        ui.removeCaseButton.connect("clicked()", self.remove)
        ui.undoButton.connect("clicked()", self.undo)
        ui.storageButton.connect("clicked()", self.tidy_up)
        self._listen()

    def close(self) -> None:
        """The window is going."""
        self.rows.close()
        self.volumes.close()

    def scene_closed(self) -> None:
        """The case at hand is gone; one of the next scene may have its ID."""
        self._shown = None

    def _listen(self) -> None:
        study = self._study
        self._review.undo.changed.connect(self._show_buttons)
        study.opened.connect(self.update)
        study.cases_changed.connect(self._fill_cases)
        study.case_changed.connect(self._case_changed)
        study.current_changed.connect(self._show_current)
        study.labels_changed.connect(self.update)
        study.settings_changed.connect(self._settings_changed)

    def update(self) -> None:
        """Show labels and cases as they are."""
        self._task = self._study.parameters.task
        self._fill_labels()
        self._fill_cases()
        self._show_storage()

    def _settings_changed(self, names: set[str]) -> None:
        if "task" in names:
            self._fill_labels()
        if "studyFolder" in names:
            self._show_storage()

    def _fill_cases(self) -> None:
        self.rows.fill(self._study.cases.cases)
        self._show_current()

    def _case_changed(self, case: Case) -> None:
        self.rows.update(case)
        if case == self._study.case:
            self._show_buttons()

    def _show_current(self) -> None:
        """The row of the case at hand; what was drawn in the one before is seen only now."""
        for case in (self._shown, self._study.case):
            if case is not None:
                self.rows.update(case)
        self._shown = self._study.case
        self.rows.select(self._shown)
        self._show_buttons()

    def _show_buttons(self) -> None:
        case = self._study.case  # None while a scene closes
        self._ui.excludeCaseButton.enabled = case is not None
        self._ui.removeCaseButton.enabled = case is not None
        self._ui.undoButton.enabled = bool(self._review.undo.text)
        self._ui.undoButton.toolTip = _("Take back: {step}").format(step=self._review.undo.text)
        self._ui.excludeCaseButton.checked = case is not None and case.excluded

    # ---- adding ----------------------------------------------------------------------------------------------

    def add_volume(self) -> None:
        """Add the chosen volume of the scene, or frames of the chosen sequence."""
        with slicer.util.tryWithErrorDisplay(_("The scan cannot be added."), waitCursor=True):
            self._study.case = self.volumes.add()[0]

    def add_all_volumes(self) -> None:
        """Add every volume of the scene that can be a scan."""
        with slicer.util.tryWithErrorDisplay(_("The scans cannot be added."), waitCursor=True):
            self._study.select_first(self._study.cases.add_volumes())

    def add_files(self) -> None:
        """Load scans from files, with the segmentations that are chosen with them."""
        self._load(dialogs.choose_files(_("Add scans")))

    def add_folder(self, folder: Path | None = None) -> None:
        """Load the scans and masks of a folder in any layout that training understands."""
        folder = folder or dialogs.choose_folder(_("Add the scans of a folder"))
        self._load([folder] if folder else [])

    def _load(self, paths: list[Path]) -> None:
        if not paths:
            return
        error, told = slicer.util.tryWithErrorDisplay(_("The scans cannot be added.")), []
        with error, self._busy(_("Loading scans")) as progress:
            take_labels = self._study.takes_labels_of_data
            self._study.select_first(add_files(self._study.cases, paths, progress, told.append, take_labels))
        dialogs.tell(told)

    def add_synthetic(self) -> None:
        """Make a small study of synthetic left atria and load it."""
        error = slicer.util.tryWithErrorDisplay(_("The synthetic study cannot be made."))
        folder = self._study.folder / "synthetic"
        with error, self._busy(_("Drawing synthetic scans")) as progress:
            progress(0, 0, str(folder))
            sample_data.make_synthetic(folder)
        self.add_folder(folder)

    def add_public(self, name: str) -> None:
        """Download a public data set and load its scans."""
        if not dialogs.confirm(sample_data.question(name)):
            return
        folder = None
        error = slicer.util.tryWithErrorDisplay(_("The data set cannot be loaded."))
        with error, self._busy(_("Downloading {name}").format(name=name)) as progress:
            folder = sample_data.download(name, self._study.folder / "public", progress)
        if folder is not None:  # not cancelled
            self.add_folder(folder)

    # ---- one case --------------------------------------------------------------------------------------------

    def exclude(self) -> None:
        """Take the selected case out of the training, or in again."""
        if self._study.case is not None:
            self._review.leave_out(self._study.case, self._ui.excludeCaseButton.checked)

    def remove(self) -> None:
        """Take the selected case off the table; that can be undone."""
        if self._study.case is not None:
            self._review.remove(self._study.case)

    def undo(self) -> None:
        """Take the last step back."""
        if not dialogs.may_take_back(self._review):
            return
        with slicer.util.tryWithErrorDisplay(_("The step cannot be taken back."), waitCursor=True):
            self._review.take_back()

    # ---- storage ---------------------------------------------------------------------------------------------

    def tidy_up(self) -> None:
        """Say what the study takes on the disk, and remove what can be made again if that is wanted."""
        with slicer.util.tryWithErrorDisplay(_("The study folder cannot be tidied up.")):
            storage = self._logic.storage()
            question = _(
                "The study takes {total} in {folder}. {spare} of that can be made again: scans written for trainings "
                "that have ended, for predictions and for refinements. Models and reports stay. Remove it?"
            ).format(total=texts.size(storage.total), spare=texts.size(storage.spare), folder=self._study.folder)
            if dialogs.confirm(question):
                tidy_up(storage)
            self._show_storage()

    def _show_storage(self) -> None:
        """Where copies of the scans are kept, since that may be a folder that is copied to a cloud."""
        folder = self._study.folder
        own = folder == self._study.parameters.studyFolder  # which stands in the field above
        text = _("The study folder holds copies of the scans, unencrypted.") if own else _("{folder} holds copies.")
        self._ui.storageLabel.text = text.format(folder=folder)
        self._ui.storageLabel.toolTip = str(folder)

    # ---- labels ----------------------------------------------------------------------------------------------

    def add_label(self) -> None:
        """Append a label with a free value, name and colour."""
        labels = self._study.cases.labels
        value = self._study.cases.free_label_value()
        name = _("structure {number}").format(number=value)
        self._set_labels([*labels, Label(value, name, _COLORS[(value - 1) % len(_COLORS)])])

    def remove_label(self) -> None:
        """Remove the selected label, or the last one; one must stay."""
        labels = self._study.cases.labels
        if len(labels) > 1:
            row = self._ui.labelsTable.currentRow()
            label = labels.pop(row if row >= 0 else -1)
            if dialogs.may_remove_label(self._study, label):
                self._set_labels(labels)

    def _set_labels(self, labels: list[Label]) -> None:
        with self._changing_labels():
            self._study.cases.labels = labels

    @contextmanager
    def _changing_labels(self) -> Iterator[None]:
        with slicer.util.tryWithErrorDisplay(_("The labels cannot be changed.")):
            try:
                yield
            finally:
                self._fill_labels()

    def _label_renamed(self, row: int, column: int) -> None:
        if not self._filling and column == 0:
            label = self._study.cases.labels[row]
            name = self._ui.labelsTable.item(row, 0).text().strip()
            with self._changing_labels():
                self._study.cases.rename_label(label.value, name or label.name)

    def _label_clicked(self, row: int, column: int) -> None:
        labels = self._study.cases.labels
        if column == 1 and self._study.labels_are_free:
            color = dialogs.choose_color(labels[row].color)
            if color:
                labels[row] = dataclasses.replace(labels[row], color=color)
                self._set_labels(labels)

    def _task_chosen(self, index: int) -> None:
        if self._study.parameters is not None:
            with slicer.util.tryWithErrorDisplay(_("The task cannot be changed.")):
                labels = self._study.labels_of_task
                if not labels or dialogs.may_change_labels(self._study, labels):
                    self._study.use_labels_of_task()
                else:
                    self._study.parameters.task = self._task
                self._task = self._study.parameters.task

    # ---- showing ---------------------------------------------------------------------------------------------

    def _set_up_labels(self) -> None:
        labels = self._ui.labelsTable
        labels.setHorizontalHeaderLabels([_("Name"), _("Color")])
        labels.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
        labels.verticalHeader().setDefaultSectionSize(_LABEL_PIXELS)
        labels.verticalHeader().setVisible(False)

    def _set_up_sample_menu(self) -> None:
        self._menu = qt.QMenu(self._ui.addSampleButton)
        synthetic = self._menu.addAction(_("Synthetic left atria (made here, no internet needed)"))
        synthetic.connect("triggered()", self.add_synthetic)
        for name in sample_data.PUBLIC:
            action = self._menu.addAction(sample_data.title(name))
            action.connect("triggered()", lambda name=name: self.add_public(name))
        self._ui.addSampleButton.setMenu(self._menu)

    def _fill_labels(self) -> None:
        table, labels, free = self._ui.labelsTable, self._study.cases.labels, self._study.labels_are_free
        self._filling = True
        table.setRowCount(len(labels))
        for row, label in enumerate(labels):
            name = qt.QTableWidgetItem(label.name)
            if not free:
                name.setFlags(qt.Qt.ItemIsEnabled | qt.Qt.ItemIsSelectable)
            color = qt.QTableWidgetItem("")
            color.setFlags(qt.Qt.ItemIsEnabled)
            color.setBackground(qt.QBrush(qt.QColor(*label.color)))
            table.setItem(row, 0, name)
            table.setItem(row, 1, color)
        self._filling = False
        table.setFixedHeight(table.horizontalHeader().height + _row_heights(table) + 2 * table.frameWidth)
        self._ui.labelButtonsWidget.visible = free
        self._ui.addLabelButton.enabled = free
        self._ui.removeLabelButton.enabled = free and len(labels) > 1

    def _row_selected(self) -> None:
        if not self.rows.filling:
            with slicer.util.tryWithErrorDisplay(_("The scan cannot be shown.")):
                self._study.case = self.rows.selected()


def _row_heights(table: Any) -> int:
    """Pixels of the rows of a table; of many, of the first ones, the others are scrolled to."""
    return sum(table.rowHeight(row) for row in range(min(table.rowCount, _MOST_LABEL_ROWS)))
