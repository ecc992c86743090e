"""Every button and state of the panel that needs no child process."""


def test_opens_in_an_empty_scene(opened):
    assert opened.ui.casesTable.rowCount == 0
    assert not opened.ui.trainButton.enabled
    assert "Annotate at least one scan" in opened.ui.readyLabel.text


def test_folder_brings_scans_and_annotations(with_cases):
    states = [with_cases.ui.casesTable.item(row, 1).text() for row in range(4)]
    assert sorted(states) == ["annotated", "annotated", "unlabeled", "unlabeled"]
    assert with_cases.ui.trainButton.enabled
    assert "2 annotated and 2 unlabeled" in with_cases.ui.readyLabel.text
