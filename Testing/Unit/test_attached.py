"""A process that belongs to another: real processes, which end."""

import os
import signal
import subprocess
import sys
import time

import pytest

from SemiSegLib.compute.attached import LOCK_NAME, ORPHANED

# Works in a folder, attached, and says so; then it would work on for a minute.
WORKER = """
import sys, time
from pathlib import Path
from SemiSegLib.compute.attached import attached
from SemiSegLib.errors import SemiSegError
try:
    with attached(Path(sys.argv[1])):
        print("working", flush=True)
        time.sleep(float(sys.argv[2]))
except SemiSegError as error:
    print(error, flush=True)
"""
# Starts such a worker, as Slicer does, tells its number and waits to be killed.
STARTER = f"""
import subprocess, sys, time
command = [sys.executable, "-c", {WORKER!r}, sys.argv[1], "60"]
worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
print(worker.stdout.readline().strip(), worker.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def work(tmp_path):
    started = []

    def begin(seconds=60.0, program=WORKER):
        command = [sys.executable, "-c", program, str(tmp_path / "out"), str(seconds)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8")
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_it_ends_when_its_starter_closes_the_line(work):
    worker = work()
    assert worker.stdout.readline() == "working\n"
    worker.stdin.close()
    assert worker.wait(timeout=20) == ORPHANED


def test_it_does_its_work_while_the_line_is_open(work):
    worker = work(seconds=0.2)
    assert worker.wait(timeout=20) == 0


@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_it_ends_when_its_starter_crashes(work):
    starter = work(program=STARTER)
    said, pid = starter.stdout.readline().split()
    assert said == "working"
    os.kill(starter.pid, signal.SIGKILL)
    end = time.monotonic() + 20
    while _runs(int(pid)):
        assert time.monotonic() < end
        time.sleep(0.05)


def _runs(pid):
    psutil = pytest.importorskip("psutil")
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_two_do_not_share_a_folder(work, tmp_path):
    first = work()
    assert first.stdout.readline() == "working\n"
    second = work()
    assert "Another process writes into" in second.stdout.readline()
    first.stdin.close()
    assert work().stdout.readline() == "working\n"
    assert (tmp_path / "out" / LOCK_NAME).exists()
