"""The panel under PySide6 with PythonQt's rules, on the real MRML scene; skipped where either is not installed."""

from __future__ import annotations

import importlib
import os
import sys
import time
import traceback
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent.parent
PYTHON_VARIABLE = "SEMISEG_TEST_PYTHON"
for folder in (Path(__file__).parent, REPOSITORY / "Testing" / "Slicer", REPOSITORY / "SemiSegModule"):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


@pytest.fixture(scope="session")
def qt_modules(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """`qt`, `ctk` and the widgets of `slicer` in place; the application object lives as long as the tests."""
    pytest.importorskip("PySide6", reason="the panel is tested with PySide6-Essentials==6.8.3")
    pytest.importorskip("slicer_core", reason="the panel is tested with slicer-core==5.12.4.0")
    import pythonqt

    qt = pythonqt.install()
    application = qt.QApplication.instance() or qt.QApplication(["SemiSeg tests"])
    application.setStyle("Fusion")
    qt.QSettings.setDefaultFormat(qt.QSettings.IniFormat)
    qt.QSettings.setPath(qt.QSettings.IniFormat, qt.QSettings.UserScope, str(tmp_path_factory.mktemp("settings")))
    import stand_in_widgets

    stand_in_widgets.install()
    import stand_in_application

    stand_in_application.install(None)
    return qt


@pytest.fixture(autouse=True)
def every_connection_is_made() -> Iterator[None]:
    """PythonQt does not raise when there is no such signal: what was to be heard would never be."""
    pythonqt = sys.modules.get("pythonqt")
    if pythonqt is not None:
        pythonqt.warnings.clear()
    yield
    pythonqt = sys.modules.get("pythonqt")
    assert pythonqt is None or not pythonqt.warnings, pythonqt.warnings


@pytest.fixture(autouse=True)
def no_listener_fails_unseen(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Slicer prints what an observer or a slot raises and goes on: the listeners after it were never called."""
    raised: list[str] = []

    def keep(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
        if any(Path(frame.filename).name == "signal.py" for frame in traceback.extract_tb(trace)):
            raised.append("".join(traceback.format_exception(kind, error, trace)))

    monkeypatch.setattr(sys, "excepthook", keep)
    yield
    assert not raised, raised[0]


@pytest.fixture
def mrml(qt_modules: Any) -> Iterator[Any]:
    """A scene with Slicer's logics, new for each test."""
    import slicer
    from mrml_application import MrmlApplication

    application = MrmlApplication()
    slicer.app._logic = application.logic
    yield application
    application.close()


@pytest.fixture
def training_python() -> Path:
    """The interpreter of the child processes: $SEMISEG_TEST_PYTHON, else this one."""
    return Path(os.environ.get(PYTHON_VARIABLE, sys.executable))


@pytest.fixture
def training_python_with_torch(training_python: Path) -> Path:
    """The same, skipped when it has no torch."""
    import subprocess

    asked = [str(training_python), "-c", "import importlib.util as u; raise SystemExit(u.find_spec('torch') is None)"]
    if subprocess.run(asked, check=False).returncode:
        pytest.skip(f"real training needs torch in {training_python}: name another Python by {PYTHON_VARIABLE}")
    return training_python


class Opened:
    """The opened module: `widget`, its `ui`, `panel`, `parameters`, and what a user does with them."""

    def __init__(self, qt: Any, module: Any) -> None:
        self.qt, self.module = qt, module
        parent = qt.QWidget()
        parent.setLayout(qt.QVBoxLayout())
        parent.__dict__["isEntered"] = True
        self.parent = parent
        self.widget = module.SemiSegModuleWidget(parent)
        self.widget.setup()
        self.widget.enter()

    @property
    def ui(self) -> Any:
        return self.widget.ui

    @property
    def panel(self) -> Any:
        return self.widget.panel

    @property
    def logic(self) -> Any:
        return self.widget.logic.workbench

    @property
    def work(self) -> Any:
        return self.logic.study

    @property
    def parameters(self) -> Any:
        return self.widget._parameterNode

    def select(self, row: int) -> Any:
        """Select a row of the table; returns its case."""
        self.ui.casesTable.selectRow(row)
        return self.work.case

    def states(self) -> list[str]:
        """What the table says of each scan."""
        table = self.ui.casesTable
        return [table.item(row, 1).text() for row in range(table.rowCount)]

    def wait_until(self, condition: Callable[[], Any], seconds: float = 300.0) -> None:
        """Let the event loop run until the condition holds; fails with what the panel says when it never does."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{self.ui.stateLabel.text}; {self.ui.failureLabel.text}"
            self.qt.QApplication.processEvents()
            time.sleep(0.02)

    def unfold(self, *names: str) -> None:
        """Open these sections and close the others."""
        for name in ("data", "annotate", "train", "results", "export"):
            getattr(self.ui, f"{name}CollapsibleButton").collapsed = name not in names

    def choose(self, box: Any, text: str) -> None:
        """Choose an entry of a combo box as a person does: its signals, in their order."""
        index = box.findText(text)
        assert index >= 0, [box.itemText(number) for number in range(box.count)]
        box.setCurrentIndex(index)
        box.activated.emit(index)

    def choose_task(self, name: str) -> None:
        """Choose the task with this name in the library."""
        from SemiSegLib.presets import PRESET_TITLES

        self.choose(self.ui.taskComboBox, PRESET_TITLES[name])

    def picture(self, path: Path, width: int = 420) -> None:
        """Save what the panel looks like."""
        self.parent.resize(width, 10)
        self.parent.show()
        self.qt.QApplication.processEvents()
        self.parent.resize(width, self.parent.sizeHint.height())
        self.qt.QApplication.processEvents()
        path.parent.mkdir(parents=True, exist_ok=True)
        assert self.parent.grab().save(str(path))

    def close(self) -> None:
        self.widget.cleanup()
        self.parent.deleteLater()


@pytest.fixture
def module(mrml: Any) -> Any:
    """The Python module SemiSegModule, loaded as Slicer loads it from an unbuilt checkout."""
    import slicer

    module = importlib.import_module("SemiSegModule")
    slicer.modules.semisegmodule = types.SimpleNamespace(path=module.__file__)
    return module


@pytest.fixture
def opened(
    module: Any, qt_modules: Any, tmp_path: Path, training_python: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Opened]:
    """The module, opened in an empty scene, with a study folder of its own."""
    monkeypatch.setenv("SEMISEG_PYTHON", str(training_python))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    qt_modules.QSettings().clear()
    opened = Opened(qt_modules, module)
    opened.parameters.studyFolder = tmp_path / "study"
    opened.parameters.exportFolder = tmp_path / "exports"
    yield opened
    training = opened.logic.training.process
    if training is not None:
        training.end_now()
    opened.close()


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Four small synthetic scans, two of them annotated."""
    from SemiSegLib.synthetic import make_dataset

    return make_dataset(tmp_path / "scans", cases=4, labelled=2, validation=0, size=(32, 32, 32))


@pytest.fixture
def with_cases(opened: Opened, scans: Path) -> Opened:
    """The module with these scans in its table."""
    opened.panel.data.add_folder(scans)
    return opened


@pytest.fixture
def with_prediction(with_cases: Opened) -> Opened:
    """The third case with a predicted mask and distance map, as files of a prediction bring them."""
    import SimpleITK as sitk
    from SemiSegModuleLib.scene import segments, volumes
    from SemiSegModuleLib.scene.predictions import load_prediction

    with_cases.ui.casesTable.selectRow(2)
    case = with_cases.work.case
    folder = with_cases.work.folder
    folder.mkdir(parents=True)
    shape = volumes.world_image(case.volume)
    array = sitk.GetArrayFromImage(shape) * 0
    array[10:20, 10:20, 10:20] = 1
    volumes.write_image(volumes.world_image(case.volume, array.astype("uint8")), folder / "mask.nrrd")
    volumes.write_image(volumes.world_image(case.volume, (5 - 10 * array).astype("float32")), folder / "sdm.nrrd")
    load_prediction(with_cases.work.cases, case, folder / "mask.nrrd", {1: folder / "sdm.nrrd"})
    assert segments.voxel_counts(case.prediction, with_cases.work.cases.labels) == {1: 1000}
    return with_cases


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Answers to the questions that are asked: True until changed; remembers them."""
    from SemiSegModuleLib.panels import dialogs

    given = types.SimpleNamespace(yes=True, asked=[])
    monkeypatch.setattr(dialogs, "confirm", lambda text: given.asked.append(text) or given.yes)
    return given


@pytest.fixture
def a_run(tmp_path: Path) -> Any:
    """A run folder as another Slicer may have left it: two iterations, one of them done again after a crash."""
    from SemiSegLib.runs import RunFolder

    run = RunFolder.create(tmp_path / "a run")
    for iteration, total in ((1, 3.0), (2, 2.5)):
        run.event("iteration", iteration=iteration, total=total, losses={"dice": total - 1})
    run.event("resumed", iteration=1)
    run.event("iteration", iteration=2, total=2.0, losses={"dice": 1.0, "consistency": 0.5})
    run.event("validation", iteration=2, dsc=0.5, per_class={"left atrium": 0.5}, cases={})
    run.set_status("stopped", iteration=2, iterations=4, best_dsc=0.5)
    run.cases_file.write_text("{}")
    return run
