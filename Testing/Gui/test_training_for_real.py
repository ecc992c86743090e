"""The panel with real child processes that really train: started, stopped, resumed, finished, predicted, failing."""

import json

import pytest

SMALL = """\
training.labelled_batch=1
training.unlabelled_batch=1
training.log_every=1
training.threads=1
training.precision=fp32"""


@pytest.fixture
def ready(with_cases, training_python_with_torch):
    """Everything set for a training of a few seconds."""
    parameters = with_cases.parameters
    parameters.iterations = 4
    parameters.spacing = "4"
    parameters.patchSize = "32"
    parameters.extraSettings = SMALL
    parameters.device = with_cases.module.Device.CPU
    return with_cases


def has_ended(opened):
    return lambda: not opened.panel.train.training.active


def test_trains_predicts_and_shows_the_result(ready):
    ready.ui.trainButton.click()
    assert ready.ui.stateLabel.text.startswith("Starting")
    assert not ready.ui.trainButton.enabled
    assert ready.ui.stopButton.enabled
    ready.wait_until(has_ended(ready), 120)
    assert ready.ui.stateLabel.text.startswith("Finished, iteration 4 of 4")
    assert ready.panel.train.curves.last("loss") is not None
    assert "simcvd, 4 iterations" in ready.ui.modelLabel.text

    ready.ui.predictAllButton.click()
    prediction = ready.panel.results.prediction
    ready.wait_until(lambda: not prediction.active, 120)
    assert ready.ui.predictionLabel.text == "Predicted 2 of 2 scans"
    predicted = [case for case in ready.work.cases if case.prediction is not None]
    assert [case.name for case in predicted] == ["atrium_003", "atrium_004"]
    assert all(case.sdms and case.probabilities for case in predicted)
