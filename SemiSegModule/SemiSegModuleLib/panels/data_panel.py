"""The Data section: task, labels, study folder, the table of cases, and the ways to add some."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import ctk
import qt
import slicer

from SemiSegLib.config import Label
from SemiSegLib.presets import PRESETS

from .. import sample_data
from ..i18n import _
from ..logic.work import Work
from ..scene.case import Case, State
from ..scene.loading import add_files
from . import dialogs, thumbnails
from .fields import FolderField

_COLORS = ((152, 55, 13), (128, 174, 128), (111, 184, 210), (241, 214, 145), (177, 122, 101), (216, 101, 79))
_STATE_COLORS = {
    State.ANNOTATED: (46, 139, 87),
    State.CORRECTED: (32, 110, 160),
    State.PREDICTED: (222, 160, 40),
    State.UNLABELLED: (160, 160, 160),
    State.EXCLUDED: (230, 230, 230),
}


def state_text(state: State) -> str:
    """The state of a case for people."""
    return {
        State.ANNOTATED: _("annotated"),
        State.CORRECTED: _("corrected"),
        State.PREDICTED: _("predicted"),
        State.UNLABELLED: _("unlabeled"),
        State.EXCLUDED: _("excluded"),
    }[state]


class DataPanel:
    """Connects the widgets of the Data section."""

    def __init__(self, ui: Any, work: Work) -> None:
        self._ui, self._work = ui, work
        self._filling = False
        self._rows: dict[tuple, _Row] = {}
        ui.studyFolderPathLineEdit.filters = ctk.ctkPathLineEdit.Dirs
        self._set_up_tables()
        self._set_up_sample_menu()
        self._folder = FolderField(ui.studyFolderPathLineEdit, work, "studyFolder")
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
        work.on_change(self.update)

    def update(self) -> None:
        """Show labels and cases as they are."""
        self._filling = True
        try:
            self._fill_labels()
            self._fill_cases()
        finally:
            self._filling = False
        case = self._work.case
        self._ui.excludeCaseButton.enabled = case is not None
        self._ui.removeCaseButton.enabled = case is not None
        self._ui.excludeCaseButton.checked = case is not None and case.excluded

    # ---- adding ----------------------------------------------------------------------------------------------

    def add_volume(self) -> None:
        """Add the chosen volume of the scene."""
        with slicer.util.tryWithErrorDisplay(_("The scan cannot be added."), waitCursor=True):
            node = self._ui.volumeSelector.currentNode()
            if node is None:
                raise ValueError(_("Choose a scan first."))
            self._work.case = self._work.cases.add_volume(node)

    def add_all_volumes(self) -> None:
        """Add every volume of the scene that can be a scan."""
        with slicer.util.tryWithErrorDisplay(_("The scans cannot be added."), waitCursor=True):
            self._select_first(self._work.cases.add_volumes())

    def add_files(self) -> None:
        """Load scans from files, with the masks that lie beside them."""
        self._load(dialogs.choose_files(_("Add scans")))

    def add_folder(self, folder: Path | None = None) -> None:
        """Load the scans and masks of a folder in any layout that training understands."""
        folder = folder or dialogs.choose_folder(_("Add the scans of a folder"))
        self._load([folder] if folder else [])

    def _load(self, paths: list[Path]) -> None:
        if not paths:
            return
        error = slicer.util.tryWithErrorDisplay(_("The scans cannot be added."))
        with error, self._work.labels_from_data(), self._work.busy(_("Loading scans")) as progress:
            self._select_first(add_files(self._work.cases, paths, progress))

    def add_synthetic(self) -> None:
        """Make a small study of synthetic left atria and load it."""
        error = slicer.util.tryWithErrorDisplay(_("The synthetic study cannot be made."))
        folder = self._work.study / "synthetic"
        with error, self._work.busy(_("Drawing synthetic scans")) as progress:
            progress(0, 0, str(folder))
            sample_data.make_synthetic(folder)
        self.add_folder(folder)

    def add_public(self, name: str) -> None:
        """Download a public data set and load its scans."""
        if not dialogs.confirm(sample_data.question(name)):
            return
        folder = None
        error = slicer.util.tryWithErrorDisplay(_("The data set cannot be loaded."))
        with error, self._work.busy(_("Downloading {name}").format(name=name)) as progress:
            folder = sample_data.download(name, self._work.study / "public", progress)
        if folder is not None:  # not cancelled
            self.add_folder(folder)

    # ---- one case --------------------------------------------------------------------------------------------

    def exclude(self) -> None:
        """Take the selected case out of the training, or in again."""
        if self._work.case is not None:
            self._work.case.excluded = self._ui.excludeCaseButton.checked

    def remove(self) -> None:
        """Take the selected case off the table."""
        case = self._work.case
        if case and dialogs.confirm(
            _("Take {name} off the table? Its prediction is deleted; scan and annotation stay in the scene.").format(
                name=case.name
            )
        ):
            following = self._work.cases.next(case)
            self._work.cases.remove(case)
            self._work.case = following if following != case else None

    # ---- labels ----------------------------------------------------------------------------------------------

    def add_label(self) -> None:
        """Append a label with a free value, name and colour."""
        labels = self._work.cases.labels
        value = max((label.value for label in labels), default=0) + 1
        name = _("structure {number}").format(number=value)
        self._set_labels([*labels, Label(value, name, _COLORS[(value - 1) % len(_COLORS)])])

    def remove_label(self) -> None:
        """Remove the selected label, or the last one; one must stay."""
        labels = self._work.cases.labels
        if len(labels) > 1:
            row = self._ui.labelsTable.currentRow()
            labels.pop(row if row >= 0 else -1)
            self._set_labels(labels)

    def _set_labels(self, labels: list[Label]) -> None:
        with slicer.util.tryWithErrorDisplay(_("The labels cannot be changed.")):
            try:
                self._work.cases.labels = labels
            finally:
                self.update()

    def _label_renamed(self, row: int, column: int) -> None:
        if not self._filling and column == 0:
            labels = self._work.cases.labels
            name = self._ui.labelsTable.item(row, 0).text().strip()
            labels[row] = dataclasses.replace(labels[row], name=name or labels[row].name)
            self._set_labels(labels)

    def _label_clicked(self, row: int, column: int) -> None:
        labels = self._work.cases.labels
        if column == 1 and self._labels_are_free():
            color = dialogs.choose_color(labels[row].color)
            if color:
                labels[row] = dataclasses.replace(labels[row], color=color)
                self._set_labels(labels)

    def _labels_are_free(self) -> bool:
        return "data.labels" not in PRESETS[self._work.parameters.task.value]

    def _task_chosen(self, index: int) -> None:
        if self._work.parameters is not None:
            with slicer.util.tryWithErrorDisplay(_("The task cannot be changed.")):
                self._work.use_labels_of_task()
                self._work.changed()

    # ---- showing ---------------------------------------------------------------------------------------------

    def _set_up_tables(self) -> None:
        cases, labels = self._ui.casesTable, self._ui.labelsTable
        cases.setHorizontalHeaderLabels([_("Scan"), _("State"), _("Labels"), _("Volume"), _("Quality")])
        cases.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
        cases.setSelectionMode(qt.QAbstractItemView.SingleSelection)
        cases.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        cases.setIconSize(qt.QSize(thumbnails.PIXELS, thumbnails.PIXELS))
        cases.verticalHeader().setDefaultSectionSize(thumbnails.PIXELS + 4)
        labels.setHorizontalHeaderLabels([_("Name"), _("Color")])
        for table in (cases, labels):
            table.horizontalHeader().setSectionResizeMode(0, qt.QHeaderView.Stretch)
            table.verticalHeader().setVisible(False)

    def _set_up_sample_menu(self) -> None:
        self._menu = qt.QMenu(self._ui.addSampleButton)
        synthetic = self._menu.addAction(_("Synthetic left atria (made here, no internet needed)"))
        synthetic.connect("triggered()", self.add_synthetic)
        for name in sample_data.PUBLIC:
            action = self._menu.addAction(sample_data.title(name))
            action.connect("triggered()", lambda name=name: self.add_public(name))
        self._ui.addSampleButton.setMenu(self._menu)

    def _fill_labels(self) -> None:
        table, labels, free = self._ui.labelsTable, self._work.cases.labels, self._labels_are_free()
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
        self._ui.addLabelButton.enabled = free
        self._ui.removeLabelButton.enabled = free and len(labels) > 1

    def _fill_cases(self) -> None:
        table, cases, labels = self._ui.casesTable, self._work.cases.cases, self._work.cases.labels
        table.setRowCount(len(cases))
        rows = {_look(case, labels): case for case in cases}
        self._rows = {look: self._rows.get(look) or _Row(case, labels) for look, case in rows.items()}
        for number, (case, row) in enumerate(zip(cases, self._rows.values(), strict=True)):
            for column, text in enumerate(row.texts):
                table.setItem(number, column, qt.QTableWidgetItem(text))
            table.item(number, 0).setIcon(row.icon)
            table.item(number, 1).setIcon(_dot(_STATE_COLORS[case.state]))
            table.item(number, 4).setToolTip(case.quality.measure if case.quality else "")
        selected = self._work.case
        if selected in cases:
            table.selectRow(cases.index(selected))
        else:
            table.clearSelection()
        for column in range(1, 5):
            table.resizeColumnToContents(column)

    def _row_selected(self) -> None:
        if not self._filling:
            row = self._ui.casesTable.currentRow()
            cases = self._work.cases.cases
            with slicer.util.tryWithErrorDisplay(_("The scan cannot be shown.")):
                self._work.case = cases[row] if 0 <= row < len(cases) else None

    def _select_first(self, cases: list[Case]) -> None:
        if cases and self._work.case is None:
            self._work.case = cases[0]


class _Row:
    """What the table shows of a case."""

    def __init__(self, case: Case, labels: list[Label]) -> None:
        volumes, quality = case.volumes_ml(labels), case.quality
        self.icon = thumbnails.icon(case, labels)
        self.texts = [
            case.name,
            state_text(case.state),
            ", ".join(label.name for label in case.labels_present(labels)),
            ", ".join(_("{amount:.1f} ml").format(amount=volume) for volume in volumes.values()),
            f"{quality.value:.2f}" if quality else "",
        ]


def _look(case: Case, labels: list[Label]) -> tuple:
    """What a row of the table depends on; counting voxels takes long, so a row is only made when this changes."""
    drawn = tuple(
        (node.GetID(), node.GetSegmentation().GetMTime())
        for node in (case.annotation, case.prediction)
        if node is not None
    )
    image = case.volume.GetImageData()
    return case.id, case.name, case.state, case.quality, drawn, tuple(labels), image.GetMTime() if image else 0


def _dot(color: tuple[int, int, int]) -> Any:
    pixmap = qt.QPixmap(12, 12)
    pixmap.fill(qt.QColor(*color))
    return qt.QIcon(pixmap)
