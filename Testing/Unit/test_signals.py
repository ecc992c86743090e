"""Signals reach the processes they are meant for, and processes end with those that started them."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from SemiSegLib.compute.parent import ward
from SemiSegLib.runs import RunFolder
from SemiSegLib.training.session import _guarded

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals")

SLEEPER = "import time; print('ready', flush=True); time.sleep(60)"
PARENT = """
import os, subprocess, sys
from SemiSegLib.compute.parent import ward
child = subprocess.Popen([sys.executable, "-c", sys.argv[1]], env={**os.environ, **ward()}, stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""
CHILD = "from SemiSegLib.compute.parent import watch; watch(); " + SLEEPER
GENTLE = """

from SemiSegLib.compute.parent import watch
from SemiSegLib.training.signals import stop_signals
watch()
with stop_signals() as stop:
    print("ready", flush=True)
    while not stop.wait(0.1):
        pass
open(PATH, "w").write("saved")
"""


def test_children_of_tests_hear_ctrl_c():
    process = subprocess.Popen([sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert b"KeyboardInterrupt" in errors


def test_children_of_tests_hear_ctrl_c_also_in_the_background():
    """As under `nohup pytest &`: the test above, in a pytest that was started with SIGINT ignored."""
    code = (
        "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'pytest', '-q', *sys.argv[1:]])"
    )
    test = f"{__file__}::test_children_of_tests_hear_ctrl_c"
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", code, "-p", "no:cacheprovider", "--rootdir", str(root), test]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", check=False, cwd=root)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("preparing", "before training"),
        ("training", "interrupted twice"),
        ("reporting", "--resume writes the report"),
    ],
)
def test_a_run_says_what_a_signal_interrupted(number, state, words, tmp_path):
    """Also beside the loop, which saves first: a job of a cluster that is ended while it writes the report goes on."""
    run = RunFolder.create(tmp_path / "run")

    def work():
        run.set_status(state, iteration=6, iterations=6)
        signal.raise_signal(number)

    with pytest.raises(KeyboardInterrupt):
        _guarded(run, work)
    assert (run.status().state, run.status().resumable) == ("stopped", True)
    assert words in run.status().message
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def child_of_a_parent(code):
    """(parent process, psutil process of its child, which runs `code` and is ready)"""
    parent = subprocess.Popen([sys.executable, "-c", PARENT, code], stdout=subprocess.PIPE, encoding="utf-8")
    return parent, psutil.Process(int(parent.stdout.readline()))


def test_a_child_ends_with_its_killed_parent(tmp_path):
    parent, child = child_of_a_parent(CHILD)
    parent.kill()
    parent.communicate()
    assert psutil.wait_procs([child], timeout=30)[1] == []


def test_a_child_that_trains_may_save_first(tmp_path):
    saved = tmp_path / "saved"
    parent, child = child_of_a_parent(GENTLE.replace("PATH", repr(str(saved))))
    parent.kill()
    parent.communicate()
    assert psutil.wait_procs([child], timeout=30)[1] == []
    assert saved.read_text(encoding="utf-8") == "saved"


def test_another_process_with_the_parents_number_is_not_the_parent():
    pid, _, _ = ward()["SEMISEG_PARENT"].partition(":")
    environment = {**os.environ, "SEMISEG_PARENT": f"{pid}:1000.0"}
    process = subprocess.Popen([sys.executable, "-c", CHILD], env=environment, stdout=subprocess.DEVNULL)
    assert process.wait(30) == -signal.SIGTERM
