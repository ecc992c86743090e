"""The questions that the panel asks in windows of their own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import qt
import slicer

from SemiSegLib.config import Label

from ..i18n import _
from ..logic.review import Review
from ..logic.study import Study
from ..scene.annotations import reaches_beyond_prediction
from ..scene.case import Case

_MOST_NAMES = 10
SCANS = "*.nii *.nii.gz *.nrrd *.nhdr *.mha *.mhd"


def choose_files(title: str) -> list[Path]:
    """Scans on disk; empty when cancelled."""
    names = qt.QFileDialog.getOpenFileNames(
        slicer.util.mainWindow(), title, "", _("Scans ({patterns})").format(patterns=SCANS)
    )
    return [Path(name) for name in names]


def choose_folder(title: str, start: Path | None = None) -> Path | None:
    """A folder; None when cancelled."""
    name = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), title, str(start or ""))
    return Path(name) if name else None


def choose_model() -> Path | None:
    """A model file to read; None when cancelled."""
    name = qt.QFileDialog.getOpenFileName(
        slicer.util.mainWindow(), _("Load a model"), "", _("SemiSeg models (*.safetensors)")
    )
    return Path(name) if name else None


def choose_model_to_write(start: Path) -> Path | None:
    """Where a model file goes; None when cancelled."""
    name = qt.QFileDialog.getSaveFileName(
        slicer.util.mainWindow(), _("Export the model"), str(start), _("SemiSeg models (*.safetensors)")
    )
    return Path(name) if name else None


def choose_color(current: tuple[int, int, int]) -> tuple[int, int, int] | None:
    """An RGB colour; None when cancelled."""
    color = qt.QColorDialog.getColor(qt.QColor(*current), slicer.util.mainWindow())
    return (color.red(), color.green(), color.blue()) if color.isValid() else None


def names(cases: Sequence[Case]) -> str:
    """The first names of some cases, one a line, to stand in a question."""
    more = _("and {count} more").format(count=len(cases) - _MOST_NAMES)
    return "\n".join([case.name for case in cases[:_MOST_NAMES]] + ([more] if len(cases) > _MOST_NAMES else []))


def settle_unfinished(cases: Iterable[Case], without: str) -> bool:
    """Ask what becomes of annotations that nobody has called finished, where there are some; False when cancelled.

    :param without: the answer that leaves them as they are: they do not count
    """
    unfinished = [case for case in cases if case.unfinished]
    if not unfinished:
        return True
    text = _(
        "These scans were drawn on, or all that was there was erased, and they are not marked as done. Annotations "
        "count once they are: only then are they learnt from and exported.\n\n{names}"
    ).format(names=names(unfinished))
    answer = choose_answer(text, {"without": without, "done": _("They are done")})
    if answer == "done":
        return all(call_done(case) for case in unfinished)
    return answer != ""


def call_done(case: Case) -> bool:
    """Mark the annotation of a case as done, after asking where that says more than what is drawn; False when it is
    not after all."""
    question = _(
        "Not all that counts of {name} was predicted: where it was not, everything is background but what is "
        "drawn. Is the annotation done?"
    )
    if reaches_beyond_prediction(case) and not confirm(question.format(name=case.name)):
        return False
    erased = case.has_work and not case.has_drawing and not case.partial
    question = _("Nothing is there in {name}, all of it is background: is that right?")
    if erased and not confirm(question.format(name=case.name)):
        return False
    with slicer.util.tryWithErrorDisplay(_("The scan cannot be marked as done.")):
        case.mark_done(empty=erased)
    return True


def may_copy_scans(study: Study) -> bool:
    """Where copies of the scans go is agreed on: asked once for a study, before the first copy is made."""
    if study.folder_is_chosen:
        return True
    text = _(
        "Training and prediction need copies of the scans. They are kept, unencrypted, in\n\n{folder}\n\nChoose "
        "another folder if this one is shared or copied to a cloud, as Documents and Desktop often are. This is asked "
        "once for a study on each computer; the folder stands in section 1."
    )
    folder = study.named_folder
    missing = "" if os.path.exists(folder) else _(", which is not on this computer yet")
    text = text.format(folder=f"{folder}{missing}")
    answer = choose_answer(text, {"this": _("Use this folder"), "other": _("Another folder…")})
    folder = folder if answer == "this" else None
    if answer == "other":
        folder = choose_folder(_("Folder for this study"), Path.home())
    if folder is not None:
        study.choose_folder(folder)
    return folder is not None


def choose_answer(text: str, answers: dict[str, str]) -> str:
    """A question with these answers, by key, and *Cancel*, which is ''; the first is meant where nobody is asked, in
    tests."""
    if slicer.app.testingEnabled():
        return next(iter(answers))
    box = qt.QMessageBox(qt.QMessageBox.Question, _("SemiSeg"), text, qt.QMessageBox.Cancel, slicer.util.mainWindow())
    for answer in answers.values():
        box.addButton(answer, qt.QMessageBox.AcceptRole)
    box.exec_()
    chosen = box.clickedButton()
    said = chosen.text.replace("&", "") if chosen is not None else ""  # desktops add keys to buttons
    return next((key for key, answer in answers.items() if answer == said), "")


def may_use_model(study: Study, model: Path | str) -> bool:
    """Predictions of other structures than the model's may go, or there are none; raises ModelError."""
    question = _(
        "This model segments other structures than the masks of {count} scans show. These masks were predicted and are "
        "removed; export them first if you need them. Use the model?"
    )
    outdated = study.outdated_by(model)
    edited = [case for case in outdated if case.prediction_edited]
    changed = _("\n\nSomebody has changed these:\n\n{names}").format(names=names(edited)) if edited else ""
    return not outdated or confirm(question.format(count=len(outdated)) + changed)


def may_change_labels(study: Study, labels: Sequence[Label]) -> bool:
    """Masks that there are may count as these labels, or there are none."""
    masks = study.masks_of_other_labels(labels)
    question = _(
        "{count} scans have masks of {former}. With this task they count as {wanted}, whatever they show. Change the "
        "task all the same?"
    )
    former, wanted = (", ".join(label.name for label in some) for some in (study.cases.labels, labels))
    return not masks or confirm(question.format(count=len(masks), former=former, wanted=wanted))


def may_remove_label(study: Study, label: Label) -> bool:
    """Masks of a label may count no more, or there are none."""
    masks = [case for case in study.cases if case.has_label(label)]
    question = _(
        "{count} scans have {name} in their masks. Without the label it is neither learnt from nor exported any more, "
        "though what is drawn stays in the segmentations. Remove the label?"
    )
    return not masks or confirm(question.format(count=len(masks), name=label.name))


def may_replace(case: Case) -> bool:
    """A drawing in the annotation of the case may be replaced by its prediction, or there is none."""
    question = _("{name} has an annotation already. Replace it by the prediction?").format(name=case.name)
    return not case.has_work or confirm(question)


def may_take_back(review: Review) -> bool:
    """What was drawn after the last step goes with it, or nothing was."""
    question = _(
        "Take back: {step}? What was drawn in this scan since then is lost. (Undo of the Segment Editor takes single "
        "strokes back.)"
    )
    return not review.undo.loses_work or confirm(question.format(step=review.undo.text))


def tell(remarks: Sequence[str]) -> None:
    """What somebody should know of what was done; nothing without remarks."""
    if remarks:
        slicer.util.infoDisplay("\n\n".join(remarks), _("SemiSeg"))


def confirm(text: str) -> bool:
    """A question that can be declined; nobody is asked while tests run."""
    return bool(slicer.util.confirmOkCancelDisplay(text, _("SemiSeg")))
