"""The run folder: whole files, honest states, one trainer at a time."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from SemiSegLib.files import write_whole
from SemiSegLib.runs import FORMAT_VERSION, RunError, RunFolder, read_json, write_json

HOLD = """
import sys, time
from pathlib import Path
from SemiSegLib.runs import RunFolder
run = RunFolder.open(Path(sys.argv[1]))
with run.lock():
    run.set_status("training", iteration=7, iterations=10)
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def run(tmp_path):
    return RunFolder.create(tmp_path / "run")


@pytest.fixture
def holder(run):
    """Another process that holds the run's lock and says it is training."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(run.path)], stdout=subprocess.PIPE, encoding="utf-8")
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_a_full_disk_is_said_of_the_events(tmp_path):
    run = RunFolder.create(tmp_path / "run")
    run.events_file.symlink_to("/dev/full")
    with pytest.raises(OSError, match="space") as caught:
        run.event("message", level="info", text="hello")
    assert caught.value.filename == str(run.events_file)


def test_events_come_back_in_order_and_half_a_line_waits(run):
    run.event("message", text="ä")
    run.event("iteration", iteration=1, losses={"a": float("nan")})
    with run.events_file.open("ab") as stream:
        stream.write(b'{"event": "mess')
    events = list(run.events_with_position())
    assert [event["event"] for event, _ in events] == ["message", "iteration"]
    assert events[1][0]["losses"] == {"a": None}
    with run.events_file.open("ab") as stream:
        stream.write(b'age", "text": "whole"}\n')
    assert [event["text"] for event in run.events(events[-1][1])] == ["whole"]


def test_history_counts_an_iteration_once_after_a_resume(run):
    for iteration in (1, 2, 3):
        run.event("iteration", iteration=iteration, total=1.0)
    run.event("resumed", iteration=1)
    for iteration in (2, 3):
        run.event("iteration", iteration=iteration, total=2.0)
    totals = [(e["iteration"], e["total"]) for e in run.history() if e["event"] == "iteration"]
    assert totals == [(1, 1.0), (2, 2.0), (3, 2.0)]


def test_a_line_cut_off_by_a_crash_does_not_hide_later_ones(run):
    with run.events_file.open("ab") as stream:
        stream.write(b'{"event": "iterat\n')
    run.event("resumed", iteration=0)
    assert [event["event"] for event in run.events()] == ["resumed"]


def test_a_second_trainer_is_refused_while_the_first_lives(run, holder):
    assert run.is_locked()
    assert run.status().state == "training"
    with pytest.raises(RunError, match="Another process"), run.lock():
        pass


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX; Windows frees the lock in the same way")
def test_a_killed_trainer_is_seen_as_interrupted_and_its_lock_is_free(run, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    status = run.status()
    assert (status.state, status.iteration, status.resumable) == ("interrupted", 7, True)
    with run.lock():
        run.set_status("training", iteration=8)
        assert run.status().state == "training"
    assert run.status().state == "interrupted"


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
def test_a_trainer_is_seen_by_a_python_without_filelock(run, holder, monkeypatch):
    """Slicer's own, where another Python trains; the trainer's lock stays as it is."""
    monkeypatch.setitem(sys.modules, "filelock", None)
    assert run.is_locked()
    assert run.status().state == "training"
    monkeypatch.undo()
    with pytest.raises(RunError, match="Another process"), run.lock():
        pass
    monkeypatch.setitem(sys.modules, "filelock", None)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert not run.is_locked()
    assert run.status().state == "interrupted"
    monkeypatch.undo()
    with run.lock():
        pass


def test_stop_request_is_seen(run):
    assert not run.stop_requested()
    run.request_stop()
    assert run.stop_requested()


def test_a_request_to_stop_is_of_the_start_it_was_made_in(tmp_path):
    """Somebody may ask while the trainer has not even begun; what was asked of an earlier start is over."""
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    run.request_stop()
    run.since = run.stop_file.stat().st_mtime - 1
    with run.begun({}):
        assert run.stop_requested()
        run.drop_old_request()
        assert run.stop_requested()
    os.utime(run.stop_file, (0, 0))
    with RunFolder(run.path).begun({}):
        assert not run.stop_requested()
    run.drop_old_request()  # there is none


def test_existing_runs_and_foreign_files_are_not_overwritten(tmp_path, run):
    run.event("message", level="info", text="")
    RunFolder.create(run.path)  # nothing was learnt in it yet
    assert not run.events_file.exists()
    write_whole(run.checkpoint, "")
    with pytest.raises(RunError, match="--resume"):
        RunFolder.create(run.path)
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.txt").write_text("years of work")
    with pytest.raises(RunError, match=r"chapter\.txt"):
        RunFolder.create(other)


@pytest.mark.parametrize("name", [".DS_Store", "desktop.ini", "Thumbs.db"])
def test_what_a_file_manager_leaves_is_no_file_of_anybody_s(tmp_path, name):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / name).write_bytes(b"")
    assert RunFolder.create(tmp_path / "new").run_file.exists()


def test_newer_and_foreign_folders_are_named(tmp_path, run):
    with pytest.raises(RunError, match="not a run folder"):
        RunFolder.open(tmp_path)
    write_json(run.path / "run.json", {"format_version": FORMAT_VERSION + 1})
    with pytest.raises(RunError, match="newer SemiSeg"):
        RunFolder.open(run.path)


def test_a_reader_never_sees_a_file_half_written(tmp_path):
    path = tmp_path / "status.json"
    content = {"text": "x" * 2_000_000}
    write_json(path, content)
    code = (
        "import json, sys; from pathlib import Path; from SemiSegLib.runs import write_json\n"
        "for i in range(30): write_json(Path(sys.argv[1]), {'text': str(i % 10) * 2_000_000})"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(path)])
    seen = 0
    while writer.poll() is None:
        assert len(json.loads(path.read_text(encoding="utf-8"))["text"]) == 2_000_000
        seen += 1
    assert writer.returncode == 0
    assert seen > 0
    assert list(tmp_path.iterdir()) == [path]


def test_a_watcher_and_a_trainer_get_over_a_file_that_is_refused_for_a_moment(run, request):
    """Else the panel would watch a training no more, or a training end, since a file was just being replaced."""
    run.set_status("training", iteration=7, iterations=10)
    failures = request.getfixturevalue("refused_for_a_moment")
    assert read_json(run.status_file)["iteration"] == 7
    for act in (lambda: run.event("message", text="still here"), lambda: list(run.events())):
        failures += [PermissionError(13, "refused")]
        act()
        assert not failures
    assert [event["text"] for event in run.events() if event["event"] == "message"] == ["still here"]


def test_a_file_that_may_not_be_read_is_named(run, monkeypatch):
    def refuse(*arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(RunError, match=r"run\.json cannot be read: Permission denied"):
        read_json(run.run_file)


def test_a_file_that_stays_held_keeps_its_content_and_is_named(tmp_path, monkeypatch):
    """On Windows neither file can then be renamed, and what was written cannot be removed."""
    path = tmp_path / "scans.csv"
    write_whole(path, "before")

    def held(*arguments, **options):
        raise PermissionError(13, "it is open in another program", str(arguments[0]))

    with monkeypatch.context() as windows:
        windows.setattr(os, "replace", held)
        windows.setattr(Path, "unlink", held)
        windows.setattr(time, "sleep", lambda seconds: None)
        with pytest.raises(OSError, match=r"open in another program.*/scans\.csv"):
            write_whole(path, "after")
    assert path.read_text(encoding="utf-8") == "before"


def test_damaged_json_is_named(tmp_path):
    path = tmp_path / "status.json"
    write_whole(path, "{")
    with pytest.raises(RunError, match=r"status\.json is damaged"):
        read_json(path)


def test_status_without_a_trainer(run):
    assert run.status().state == "new"
    run.set_status("finished", iteration=10, iterations=10)
    assert run.status().state == "finished"
    assert not run.status().resumable
    assert time.time() - run.status().updated < 60
