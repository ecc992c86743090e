"""The Export section: masks, surfaces, volumes and the model as files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ctk
import qt
import slicer

from .. import exports
from ..exports import dicom_seg
from ..i18n import _
from ..logic.model_card import read_card
from ..logic.study import Study
from ..scene.case import Case
from ..scene.checks import Remark, check_masks
from ..scene.overlays import jump_to
from . import dialogs
from .busy import Busy
from .fields import FolderField

DICOM_SEG = ".seg.dcm"


class ExportPanel:
    """Connects the widgets of the Export section."""

    def __init__(self, ui: Any, study: Study, busy: Busy) -> None:
        self._ui, self._study, self._busy = ui, study, busy
        ui.exportFolderPathLineEdit.filters = ctk.ctkPathLineEdit.Dirs
        self._folder_field = FolderField(ui.exportFolderPathLineEdit, study, "exportFolder")
        ui.exportButton.connect("clicked()", self.export_masks)
        ui.exportVolumesButton.connect("clicked()", self.export_volumes)
        ui.exportModelButton.connect("clicked()", self.export_model)
        ui.checkMasksButton.connect("clicked()", self.check)
        ui.checksTable.connect("itemSelectionChanged()", self._remark_selected)
        ui.checksTable.setHorizontalHeaderLabels([_("Scan"), _("Look at this")])
        ui.checksTable.horizontalHeader().setSectionResizeMode(1, qt.QHeaderView.Stretch)
        ui.checksTable.setSelectionBehavior(qt.QAbstractItemView.SelectRows)
        ui.checksTable.setEditTriggers(qt.QAbstractItemView.NoEditTriggers)
        ui.checksTable.verticalHeader().setVisible(False)
        ui.checksTable.visible = False
        self._remarks: list[Remark] = []
        study.cases_changed.connect(self._forget_remarks)
        study.opened.connect(self.update)
        study.cases_changed.connect(self.update)
        study.case_changed.connect(lambda case: self.update())
        study.current_changed.connect(self.update)
        study.settings_changed.connect(lambda names: "exportSelectedOnly" in names and self.update())

    def scene_closed(self) -> None:
        """The scans that remarks are of are gone, and what was written is another study's."""
        self._forget_remarks()
        self._say("")

    def export_masks(self) -> None:
        """Masks or surfaces of the chosen cases, in the chosen format."""
        self._say("")
        write, cases = _writer(self._study.parameters.exportFormat.value), self._cases()
        if not dialogs.settle_unfinished(cases, _("Leave them out")):
            return
        error = slicer.util.tryWithErrorDisplay(_("The masks cannot be exported."))
        with error, self._busy(_("Exporting")) as progress:
            files = _asking_before_overwriting(
                lambda overwrite: write(
                    self._study.cases,
                    cases,
                    self._folder(),
                    overwrite=overwrite,
                    by_patient=self._study.parameters.exportByPatient,
                    progress=progress,
                )
            )
            if files:
                text = _("1 file written to {folder}") if len(files) == 1 else _("{count} files written to {folder}")
                text = text.format(count=len(files), folder=self._folder())
                self._say("\n".join([text, *self._remarks_on(cases), *self._empty_ones(cases)]))

    def check(self) -> None:
        """List what to look at before masks are given away; each line leads to the place."""
        error = slicer.util.tryWithErrorDisplay(_("The masks cannot be checked."))
        with error, self._busy(_("Checking the masks")) as progress:
            self._show_remarks(check_masks(self._cases(), self._study.cases.labels, progress))
            self._say(
                _("Things to look at: {count}. Click one to see the place.").format(count=len(self._remarks))
                if self._remarks
                else _("Nothing unusual was found in these masks.")
            )

    def _show_remarks(self, remarks: list[Remark]) -> None:
        self._remarks, table = [], self._ui.checksTable
        table.setRowCount(len(remarks))
        for row, remark in enumerate(remarks):
            table.setItem(row, 0, qt.QTableWidgetItem(remark.case.name))
            table.setItem(row, 1, qt.QTableWidgetItem(remark.text))
            table.item(row, 1).setToolTip(remark.text)
        table.clearSelection()
        table.visible = bool(remarks)
        self._remarks = remarks

    def _forget_remarks(self) -> None:
        self._show_remarks([])

    def _remark_selected(self) -> None:
        row = self._ui.checksTable.currentRow()
        if 0 <= row < len(self._remarks) and self._ui.checksTable.selectedItems():
            remark = self._remarks[row]
            self._study.case = remark.case
            jump_to(remark.case, remark.place)

    def export_volumes(self) -> None:
        """A table of the volumes of every label of the chosen cases."""
        self._say("")
        path = self._folder() / "volumes.csv"
        if not dialogs.settle_unfinished(self._cases(), _("Leave them out")):
            return
        question = _("{path} exists. Replace it?").format(path=path)
        existed = path.exists()
        if existed and not dialogs.confirm(question):
            return
        with slicer.util.tryWithErrorDisplay(_("The volumes cannot be exported."), waitCursor=True):
            exports.export_volumes_csv(self._study.cases, self._cases(), path, overwrite=existed)
            text = _("Volumes written to {path}").format(path=path)
            self._say("\n".join([text, *self._remarks_on(self._cases())]))

    def export_model(self) -> None:
        """The model in use as one file; its card is inside."""
        self._say("")
        model = self._study.model
        target = dialogs.choose_model_to_write(self._folder() / "model.safetensors") if model else None
        if target:
            with slicer.util.tryWithErrorDisplay(_("The model cannot be exported."), waitCursor=True):
                read_card(model)
                target = target if target.suffix == ".safetensors" else Path(f"{target}.safetensors")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(model, target)
                self._say(_("Model written to {path}").format(path=target))

    def update(self) -> None:
        """Something to export is needed."""
        some = any(case.shown_segmentation() is not None for case in self._cases())
        self._ui.exportButton.enabled = some
        self._ui.exportVolumesButton.enabled = some
        self._ui.checkMasksButton.enabled = some

    def _cases(self) -> list[Case]:
        """Those chosen that take part."""
        return [case for case in self._chosen() if not case.excluded]

    def _chosen(self) -> list[Case]:
        if self._study.parameters.exportSelectedOnly:
            return [self._study.case] if self._study.case else []
        return self._study.cases.cases

    def _remarks_on(self, cases: Sequence[Case]) -> list[str]:
        """What whoever gets the masks of these cases should know."""
        out = len(self._chosen()) - len(cases)
        text = _("{count} scans that are left out were not exported.")
        text = text if out > 1 else _("1 scan that is left out was not exported.")
        return [*_slices_alone(cases), *([text.format(count=out)] if out else [])]

    def _empty_ones(self, cases: Sequence[Case]) -> list[str]:
        """Those of which no DICOM SEG was written."""
        if self._study.parameters.exportFormat.value != DICOM_SEG:
            return []
        found = exports.empty_ones(cases, self._study.cases.labels)
        text = _("DICOM SEG cannot hold an empty mask, so there is no file of these: {names}")
        return [text.format(names=_in_one_line(found))] if found else []

    def _folder(self) -> Path:
        self._study.propose_export_folder()  # in an empty field there is none
        return Path(self._study.parameters.exportFolder)

    def _say(self, text: str) -> None:
        self._ui.exportLabel.text = text


def _slices_alone(cases: Sequence[Case]) -> list[str]:
    """The masks that are empty where nobody has drawn."""
    found = [case for case in cases if exports.of_slices_alone(case)]
    text = _("Only slices of these are annotated: {names}")
    return [text.format(names=_in_one_line(found))] if found else []


def _in_one_line(cases: Sequence[Case]) -> str:
    return dialogs.names(cases).replace("\n", ", ")


def _writer(suffix: str) -> Callable[..., list[Path]]:
    """The function of (table, cases, folder, and options by name) that writes files of this kind."""
    if suffix == DICOM_SEG:
        return lambda *what, progress, **options: dicom_seg.export_dicom_seg(*what, **options)
    write = exports.export_surfaces if suffix in exports.SURFACE_FORMATS else exports.export_masks
    return lambda *what, **options: write(*what, suffix, **options)


def _asking_before_overwriting(write: Callable[[bool], list[Path]]) -> list[Path]:
    try:
        return write(False)
    except exports.FilesExist as existing:
        names = "\n".join(str(path) for path in existing.paths[:10])
        if not dialogs.confirm(_("These files exist already. Replace them?\n\n{names}").format(names=names)):
            return []
    return write(True)
