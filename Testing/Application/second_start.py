"""The steps of the second start: the training that was left running is found again, and its results are offered."""

import slicer
from hands import Hands, Skipped


class SecondStart(Hands):
    """In a Slicer that was started anew, on the folder of the first start."""

    def step_1_an_empty_scene_takes_no_training_up(self):
        if not (self.folder / "left.mrb").is_file():
            raise Skipped("no training was left running")
        assert self.workbench.training.process is None
        assert "another study is running" in self.ui.stateLabel.text, self.ui.stateLabel.text
        assert not self.ui.stopButton.enabled

    def step_2_the_study_finds_its_training_again(self):
        self._load()
        training = self.workbench.training
        self.unfold("train")
        assert training.active, training.process.state
        assert self.ui.stopButton.enabled
        assert not self.ui.trainButton.enabled
        before = training.process.status.iteration
        self.wait_until(lambda: training.process.status.iteration > before or not training.active)
        assert f"iteration {training.process.status.iteration} of" in self.ui.stateLabel.text, self.ui.stateLabel.text
        assert self.ui.trainingProgressBar.value == training.process.status.iteration
        assert self.ui.logTextEdit.toPlainText(), "its log is shown"

    def _load(self):
        path = self.folder / "left.mrb"
        if not path.is_file():
            raise Skipped("no training was left running")
        slicer.util.loadScene(str(path))
        self.widget.enter()

    def step_3_its_curves_are_drawn(self):
        training = self._found()
        self.wait_until(lambda: training.process.status.iteration >= 2 or not training.active)
        self.ui.showCurvesButton.click()
        self.wait(1.0)
        table = training.curves.charts["loss"].GetNthPlotSeriesNode(0).GetTableNode()
        assert table.GetNumberOfRows() >= 2, "what it went through before this start is there, too"

    def step_4_it_is_stopped_and_its_model_is_offered(self):
        training = self._found()
        self.ui.stopButton.click()
        self.wait_until(lambda: not training.active)
        process = training.process
        assert process.state == "stopped", (process.state, process.failure)
        assert self.workbench.study.model == process.run.last_model
        assert self.ui.resumeButton.enabled
        self.unfold("results")
        assert self.ui.predictOneButton.enabled

    def step_5_it_predicts(self):
        self._found()
        case = self.with_state("unlabelled")[:1] or self.with_state("predicted")[:1]
        process = self.logic.predict(case, wait=True)
        assert process.state == "finished", process.log.tail()
        assert case[0].prediction is not None

    def _found(self):
        if self.workbench.training.process is None:
            raise Skipped("no training was found")
        return self.workbench.training
