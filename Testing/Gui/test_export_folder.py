"""Where exports go: a folder of the study's own, unless somebody chose another."""

from pathlib import Path

import pytest


@pytest.fixture
def unchosen(with_cases):
    """A study with scans, where nobody has chosen a folder for exports; opened again."""
    with_cases.parameters.exportFolder = Path()
    with_cases.widget.enter()
    return with_cases


def a_second_study(opened, mrml, scans, folder):
    """In the same study folder, which is what is proposed to every study."""
    mrml.scene.Clear(0)
    opened.parameters.studyFolder = folder
    opened.panel.data.add_folder(scans)
    return opened


def test_an_empty_study_folder_is_the_proposed_one(with_cases, tmp_path, monkeypatch):
    """It would be the folder that Slicer was started in; nobody has agreed to that, nor to the proposed one."""
    from SemiSegModuleLib.logic import study
    from SemiSegModuleLib.panels import dialogs

    started_in, proposal, asked = tmp_path / "started in", tmp_path / "proposal", []
    started_in.mkdir()
    monkeypatch.chdir(started_in)
    monkeypatch.setattr(study, "default_study_folder", lambda: proposal)
    monkeypatch.setattr(dialogs, "choose_answer", lambda text, answers: asked.append(text) or "this")
    opened = with_cases
    for path in ("", "elsewhere"):
        opened.ui.studyFolderPathLineEdit.currentPath = path
        assert opened.work.folder == proposal
        assert not opened.work.folder_is_chosen
    assert str(proposal) in opened.ui.storageLabel.text
    assert dialogs.may_copy_scans(opened.work)
    assert str(proposal) in asked[0]
    opened.work.new_folder("predictions")
    assert list(started_in.iterdir()) == []
    assert [path.name for path in proposal.iterdir() if path.is_dir()] == ["predictions"]
    assert Path(opened.ui.studyFolderPathLineEdit.currentPath) == proposal


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def shown(opened):
    return Path(opened.ui.exportFolderPathLineEdit.currentPath)


def proposed(opened, folder):
    return folder / f"exports-{opened.work.cases.identifier[:8]}"


def test_two_studies_never_propose_the_same_folder(unchosen, mrml, scans, tmp_path):
    """Scans of both are called alike: a mask of one patient would replace that of another, or lie among them."""
    first = proposed(unchosen, tmp_path / "study")
    assert shown(unchosen) == unchosen.parameters.exportFolder == first
    unchosen.ui.exportButton.click()
    written = content(first)
    opened = a_second_study(unchosen, mrml, scans, tmp_path / "study")
    second = proposed(opened, tmp_path / "study")
    assert shown(opened) == opened.parameters.exportFolder == second != first
    opened.ui.exportVolumesButton.click()
    opened.ui.exportButton.click()
    assert content(first) == written
    assert len(content(second)) == len(written) + 1


def test_the_proposal_follows_the_study_folder_and_a_choice_does_not(unchosen, mrml, tmp_path):
    """Somebody who chooses a protected folder for a study does not mean that its exports lie elsewhere."""
    unchosen.ui.studyFolderPathLineEdit.currentPath = str(tmp_path / "protected")
    assert shown(unchosen) == proposed(unchosen, tmp_path / "protected")
    unchosen.ui.exportFolderPathLineEdit.currentPath = str(tmp_path / "mine")
    unchosen.ui.studyFolderPathLineEdit.currentPath = str(tmp_path / "study")
    mrml.save(tmp_path / "work.mrb")
    mrml.load(tmp_path / "work.mrb")
    assert shown(unchosen) == unchosen.parameters.exportFolder == tmp_path / "mine"
    unchosen.ui.exportButton.click()
    assert len(list((tmp_path / "mine").glob("*.seg.nrrd"))) == 2


def test_a_scene_of_an_earlier_version_that_kept_the_proposal_keeps_no_choice(unchosen, mrml, tmp_path):
    unchosen.parameters.exportFolder = tmp_path / "study" / "exports"
    unchosen.parameters.parameterNode.UnsetParameter("proposedExportFolder")
    mrml.save(tmp_path / "work.mrb")
    mrml.load(tmp_path / "work.mrb")
    assert shown(unchosen) == proposed(unchosen, tmp_path / "study")


def test_an_empty_field_is_no_folder(unchosen, tmp_path, monkeypatch):
    """It would be the folder that Slicer was started in."""
    monkeypatch.chdir(tmp_path / "scans")
    before = sorted(tmp_path.rglob("scans/**/*"))
    unchosen.ui.exportFolderPathLineEdit.currentPath = ""
    unchosen.ui.exportButton.click()
    assert sorted(tmp_path.rglob("scans/**/*")) == before
    assert len(list(proposed(unchosen, tmp_path / "study").glob("*.seg.nrrd"))) == 2
