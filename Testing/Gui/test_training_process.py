"""The training process against real children: small programs that write a run folder through SemiSegLib.runs."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from SemiSegModuleLib.processes import training_process
from SemiSegModuleLib.processes.prediction_process import PredictionProcess
from SemiSegModuleLib.processes.training_process import TrainingProcess

from SemiSegLib.runs import RunFolder, read_json, write_json

pytest.importorskip("filelock", reason="runs are locked by filelock")
pytestmark = pytest.mark.skipif(os.name == "nt", reason="the children are started by their #! line")
REPOSITORY = Path(__file__).resolve().parent.parent.parent

BEGIN = f"""\
#!{sys.executable}
import sys, time
from pathlib import Path
sys.path.insert(0, {str(REPOSITORY)!r})
from SemiSegLib.runs import RunFolder

path = Path(sys.argv[sys.argv.index("--out") + 1])
run = RunFolder.open(path) if "--resume" in sys.argv else RunFolder.create(path)


def finish(state="finished", model=True):
    if model:
        run.last_model.parent.mkdir(exist_ok=True)
        run.last_model.write_bytes(b"weights")
    run.set_status(state, iteration=3, iterations=3)


def train_until_stopped():
    run.set_status("training", iteration=1, iterations=3, eta_seconds=20.0)
    while not run.stop_requested():
        time.sleep(0.02)


with run.lock():
"""


@pytest.fixture
def trainer(tmp_path):
    """Makes an 'interpreter' that, whatever module it is asked for, runs the given lines."""

    def make(lines):
        script = tmp_path / "trainer"
        script.write_text(BEGIN + textwrap.indent(textwrap.dedent(lines), "    "))
        script.chmod(0o755)
        return script

    return make


# PythonSlicer is a launcher: a program that dies of a signal ends it with exit code 1 and this message.
LAUNCHER = f"""\
#!{sys.executable}
import subprocess, sys
real = PROGRAM
code = subprocess.run([real, *sys.argv[1:]]).returncode
if code < 0:
    print(f"error: [{{real}}] exit abnormally - Report the problem.", file=sys.stderr)
sys.exit(1 if code < 0 else code)
"""


@pytest.fixture
def launched(tmp_path):
    """Puts a launcher as PythonSlicer is one before a program."""

    def make(program):
        script = tmp_path / "launcher"
        script.write_text(LAUNCHER.replace("PROGRAM", repr(str(program))))
        script.chmod(0o755)
        return script

    return make


@pytest.fixture
def start(trainer, launched, tmp_path):
    """Starts a training by such a program."""
    started = []

    def begin(lines, grace=30.0, through_launcher=False):
        program = trainer(lines)
        program = launched(program) if through_launcher else program
        training = TrainingProcess(tmp_path / "run", program, grace)
        training.start(tmp_path / "data", {"method": "simcvd"})
        started.append(training)
        return training

    yield begin
    for training in started:
        training.end_now()


def poll_until(training, condition, seconds=20):
    """All events until the condition holds."""
    events, end = [], time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, (training.state, training.log.tail())
        events += training.poll()
        time.sleep(0.02)
    return events


def poll_to_the_end(training):
    return poll_until(training, lambda: not training.active)


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "zombie" not in Path(f"/proc/{pid}/status").read_text(encoding="utf-8") if Path("/proc").is_dir() else True


# ---- success -------------------------------------------------------------------------------------------------


def test_success_is_exit_code_0_and_a_complete_result(start):
    training = start("run.event('iteration', iteration=1, total=0.5, losses={})\nfinish()")
    assert training.state == "starting"
    events = poll_to_the_end(training)
    assert training.state == "finished"
    assert training.failure is None
    assert [event["event"] for event in events] == ["iteration", "state"]
    assert not training.resumable


def test_no_success_without_a_model(start):
    training = start("finish(model=False)")
    poll_to_the_end(training)
    assert training.state == "failed"


def test_no_success_with_another_exit_code(start):
    training = start("finish()\nsys.exit(3)")
    poll_to_the_end(training)
    assert training.state == "failed"


def test_settings_reach_the_child_as_a_file(start):
    training = start("finish()")
    poll_to_the_end(training)
    assert (training.run.path / "config.json").read_text(encoding="utf-8").split() == [
        "{",
        '"method":',
        '"simcvd"',
        "}",
    ]


def test_state_and_progress_while_it_runs(start):
    training = start("train_until_stopped()")
    poll_until(training, lambda: training.state == "training")
    assert (training.status.iteration, training.status.iterations) == (1, 3)
    assert training.status.eta_seconds == 20.0


def test_a_clock_that_is_set_back_hides_no_progress(start, monkeypatch):
    """As when a laptop wakes up: the trainer's word then seems to be older than the start."""
    with monkeypatch.context() as patched:
        patched.setattr(time, "time", lambda now=time.time: now() + 3600)
        training = start("train_until_stopped()")
    poll_until(training, lambda: training.status.iteration == 1)
    assert training.state == "training"


def test_memory_of_the_trainer(start):
    pytest.importorskip("psutil", reason="memory is asked of psutil")
    training = start("train_until_stopped()")
    poll_until(training, lambda: training.state == "training")
    assert 1e6 < training.memory < 1e9
    training.end_now()
    poll_to_the_end(training)
    assert training.memory is None


# ---- stopping ------------------------------------------------------------------------------------------------


def test_stop_asks_and_waits_for_the_checkpoint(start):
    training = start("train_until_stopped()\ntime.sleep(0.3)\nfinish('stopped', model=False)")
    poll_until(training, lambda: training.state == "training")
    training.stop()
    assert training.state == "stopping"
    poll_to_the_end(training)
    assert training.state == "stopped"
    assert training.failure is None


DEAF = """\
import subprocess
worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
(path / "worker").write_text(str(worker.pid))
run.set_status("training")
time.sleep(60)
"""


def test_after_the_grace_period_the_whole_tree_is_ended(start):
    training = start(DEAF, grace=0.3)
    poll_until(training, lambda: (training.run.path / "worker").exists() and training.state == "training")
    worker = int((training.run.path / "worker").read_text(encoding="utf-8"))
    assert is_alive(worker)
    training.stop()
    poll_to_the_end(training)
    assert training.state == "interrupted"
    time.sleep(0.1)
    assert not is_alive(worker)
    assert training.failure is None  # it was wanted


def test_end_now_does_not_wait(start):
    training = start(DEAF)
    poll_until(training, lambda: training.state == "training")
    training.end_now()
    poll_to_the_end(training)
    assert training.state == "interrupted"


# ---- failing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "kind", "words"),
    [
        ("raise RuntimeError('CUDA out of memory. Tried to allocate 2.00 GiB')", "memory", "Advanced and train anew"),
        ("raise MemoryError", "memory", "Memory ran out"),
        ("import nonsense_package", "package", "'nonsense_package'"),
        ("raise OSError(28, 'No space left on device')", "disk", "another folder and train anew"),
        ("raise PermissionError(13, 'Permission denied', 'a.nrrd')", "permission", "a.nrrd"),
        ("print('error: a.nii.gz is no scan: cut off.', file=sys.stderr); sys.exit(2)", "input", "a.nii.gz is no"),
        ("run.set_status('failed', message='b.nrrd: no mask.'); sys.exit(2)", "input", "b.nrrd: no mask."),
        ("raise ValueError('surprise')", "unknown", "ValueError: surprise"),
        ("import os, signal; run.set_status('training'); os.kill(os.getpid(), signal.SIGKILL)", "killed", "Resume"),
    ],
)
def test_failures_are_told_in_words_to_act_on(start, lines, kind, words):
    training = start(lines)
    poll_to_the_end(training)
    assert training.state == "failed"
    assert training.failure.kind == kind
    assert words in training.failure.text


@pytest.mark.parametrize(
    ("lines", "kind"),
    [
        ("import os, signal; run.set_status('training'); os.kill(os.getpid(), signal.SIGKILL)", "killed"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "killed"),
        ("print('CUDA out of memory'); import os, signal; os.kill(os.getpid(), signal.SIGABRT)", "memory"),
        ("print('error: a.nii.gz is no scan: cut off.', file=sys.stderr); sys.exit(2)", "input"),
    ],
)
def test_failures_are_told_through_the_launcher_as_well(start, lines, kind):
    training = start(lines, through_launcher=True)
    poll_to_the_end(training)
    assert training.state == "failed"
    assert training.failure.kind == kind
    assert "Report the problem" not in training.failure.text


def test_stopping_ends_what_the_launcher_started(start):
    training = start(DEAF, through_launcher=True)
    poll_until(training, lambda: training.state == "training")
    training.end_now()
    poll_to_the_end(training)
    assert not is_alive(training.status.pid)


def test_an_earlier_failure_in_the_log_is_not_mistaken_for_this_one(start, trainer):
    training = start("raise MemoryError")
    poll_to_the_end(training)
    trainer("raise ValueError('surprise')")
    training.resume()
    poll_to_the_end(training)
    assert training.failure.kind == "unknown"


def test_an_interpreter_that_is_not_there_raises_at_once(tmp_path):
    training = TrainingProcess(tmp_path / "run", tmp_path / "no-python")
    with pytest.raises(OSError, match="no-python"):
        training.start(tmp_path, {})


# ---- found again ---------------------------------------------------------------------------------------------


def test_a_running_training_is_found_again_and_stopped(start):
    first = start("train_until_stopped()\nfinish('stopped', model=False)")
    poll_until(first, lambda: first.state == "training")
    second = TrainingProcess(first.run.path)
    assert not second.active
    second.poll()
    assert second.state == "training"
    second.stop()
    assert second.state == "stopping"
    poll_to_the_end(second)
    assert second.state == "stopped"


def test_a_deaf_training_that_was_found_again_is_ended(start):
    first = start(DEAF)
    poll_until(first, lambda: first.state == "training")
    second = TrainingProcess(first.run.path, grace=0.2)
    second.poll()
    second.stop()
    poll_to_the_end(second)
    assert second.state == "interrupted"


@pytest.fixture
def bystander():
    """A process that has nothing to do with SemiSeg."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("status", [{"host": "another-computer"}, {"updated": 1.0}, {}])
def test_a_process_that_only_has_the_number_of_a_trainer_is_left_alone(tmp_path, bystander, status):
    """A run on a shared drive that another computer trains; a number given away again; a stranger's program."""
    run = RunFolder.create(tmp_path / "run")
    with run.lock():
        run.set_status("training", iteration=1, iterations=3)
        content = read_json(run.status_file)
        write_json(run.status_file, {**content, "pid": bystander.pid, **status})
        found = TrainingProcess(run.path, grace=0.0)
        found.poll()
        assert found.active
        found.stop()
        found.poll()
        found.end_now()
        assert run.stop_requested()
    assert is_alive(bystander.pid)


def test_the_computer_that_trains_is_named(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    run.set_status("training", iteration=1, iterations=3)
    write_json(run.status_file, {**read_json(run.status_file), "host": "another-computer"})
    found = TrainingProcess(run.path)
    found.poll()
    assert found.elsewhere == "another-computer"


def test_a_computer_that_does_not_answer_blocks_no_training(tmp_path):
    """It was switched off, or is this one: a Mac has another name in every network."""
    run = RunFolder.create(tmp_path / "run")
    write_json(run.cases_file, {})
    run.set_status("training", iteration=1, iterations=3)
    write_json(run.status_file, {**read_json(run.status_file), "host": "another-computer"})
    found = TrainingProcess(run.path, grace=0.2)
    found.poll()
    found.stop()
    found.poll()
    assert found.state == "stopping"
    poll_to_the_end(found)
    assert (found.state, found.resumable) == ("interrupted", True)
    assert "another-computer" in found.failure.text
    found.poll()
    assert found.state == "interrupted"


def test_a_computer_that_is_still_at_work_is_waited_for(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    run.set_status("training", iteration=1, iterations=3)
    write_json(run.status_file, {**read_json(run.status_file), "host": "another-computer"})
    found = TrainingProcess(run.path, grace=0.0)
    found.poll()
    found.stop()
    content = read_json(run.status_file)
    write_json(run.status_file, {**content, "iteration": 2, "updated": content["updated"] + 1})
    found.poll()
    assert found.state == "stopping"


def test_a_training_that_was_killed_meanwhile_is_found_interrupted(start):
    first = start("run.set_status('training', iteration=2)\nrun.cases_file.write_text('{}')\ntime.sleep(60)")
    poll_until(first, lambda: first.state == "training")
    first._child.end()
    second = TrainingProcess(first.run.path)
    second.poll()
    assert second.state == "interrupted"
    assert second.failure.kind == "killed"
    assert second.resumable


def test_a_finished_training_is_found_again(start):
    first = start("finish()")
    poll_to_the_end(first)
    second = TrainingProcess(first.run.path)
    second.poll()
    assert second.state == "finished"


def test_half_a_line_of_the_log_waits_for_its_other_half(tmp_path):
    log = training_process.LogFile(tmp_path / "log")
    assert log.new_lines() == []
    log.path.write_bytes(b"one\ntw")
    assert log.new_lines() == ["one"]
    with log.path.open("ab") as stream:
        stream.write("o\nµ\n".encode())
    assert log.new_lines() == ["two", "µ"]


# ---- prediction ----------------------------------------------------------------------------------------------

PREDICT = f"#!{sys.executable}\nimport json, sys, time\n"


@pytest.fixture
def predict(tmp_path):
    def begin(lines):
        script = tmp_path / "predictor"
        script.write_text(PREDICT + textwrap.dedent(lines))
        script.chmod(0o755)
        prediction = PredictionProcess(tmp_path / "out", script)
        prediction.start(tmp_path / "m.safetensors", tmp_path, 2)
        return prediction

    return begin


def case(index):
    return f"print(json.dumps(dict(event='case', index={index}, count=2, name='scan{index}')), flush=True)\n"


def collect(prediction):
    names, end = [], time.monotonic() + 20
    while prediction.active:
        assert time.monotonic() < end
        names += prediction.poll()
        time.sleep(0.02)
    return names


@pytest.mark.parametrize("through_launcher", [False, True])
def test_prediction_does_not_outlive_the_window(tmp_path, launched, through_launcher):
    """It holds the line that the child of `SemiSegLib.predict --attached` listens to; killed with it, all ends."""
    program = tmp_path / "predictor"
    watch = "import sys\nassert '--attached' in sys.argv\nprint('ready', flush=True)\n"
    program.write_text(f"#!{sys.executable}\n{watch}sys.stdin.buffer.read()\nprint('alone', flush=True)\n")
    program.chmod(0o755)
    python = launched(program) if through_launcher else program
    prediction = PredictionProcess(tmp_path / "out", python)
    prediction.start(tmp_path / "m.safetensors", tmp_path, 2)
    wait_for(lambda: "ready" in prediction.log.tail())
    assert "alone" not in prediction.log.tail()
    prediction._child._popen.stdin.close()  # as the system does when the window is gone
    wait_for(lambda: "alone" in prediction.log.tail())


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_scans_that_could_not_be_predicted_are_named_and_the_others_kept(predict):
    failed = "print(json.dumps(dict(event='failed', index=2, count=2, name='scan2', message='b.nrrd is cut off.')))\n"
    prediction = predict(case(1) + failed + "print('error: 1 of 2 scans ...', file=sys.stderr)\nsys.exit(3)")
    assert collect(prediction) == ["scan1"]
    assert prediction.state == "finished"
    assert prediction.failure.kind == "input"
    assert "b.nrrd is cut off." in prediction.failure.text


def test_prediction_tells_each_case(predict):
    prediction = predict("print('loading', flush=True)\n" + case(1) + case(2))
    assert collect(prediction) == ["scan1", "scan2"]
    assert prediction.state == "finished"


def test_prediction_with_a_case_missing_is_no_success(predict):
    prediction = predict(case(1))
    assert collect(prediction) == ["scan1"]
    assert prediction.state == "failed"


def test_prediction_fails_in_words(predict):
    prediction = predict("print('error: m.safetensors is damaged.', file=sys.stderr); sys.exit(2)")
    collect(prediction)
    assert prediction.failure.text == "m.safetensors is damaged."


def test_prediction_is_cancelled(predict):
    prediction = predict(case(1) + "time.sleep(60)")
    while prediction.index == 0:
        prediction.poll()
        time.sleep(0.02)
    prediction.cancel()
    assert prediction.state == "cancelled"
    assert prediction.failure is None
