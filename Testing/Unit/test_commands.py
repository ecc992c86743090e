"""The command line as a whole: one entry for everything, quick, and each command knows how it was called."""

import argparse
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from SemiSegLib.__main__ import main
from SemiSegLib.commands import COMMANDS, file_to_write, run_command
from SemiSegLib.errors import SemiSegError
from SemiSegLib.runs import write_json

REPOSITORY = Path(__file__).resolve().parents[2]
LIBRARY = REPOSITORY / "SemiSegLib"


def python(*arguments):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, encoding="utf-8", cwd=REPOSITORY, check=False
    )


def test_without_a_command_all_commands_are_listed():
    shown = python("-m", "SemiSegLib")
    assert shown.returncode == 0
    for name, command in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(command.summary)}$", shown.stdout, re.MULTILINE)


def test_the_list_needs_nothing_heavy():
    code = (
        "import sys; from SemiSegLib.__main__ import main; main([]); "
        "print(sorted({'torch', 'numpy', 'SimpleITK', 'monai', 'matplotlib'} & set(sys.modules)))"
    )
    assert python("-c", code).stdout.splitlines()[-1] == "[]"


def test_every_module_with_a_command_line_is_a_command():
    modules = (file.relative_to(REPOSITORY).with_suffix("").parts for file in LIBRARY.rglob("*.py"))
    found = {
        ".".join(parts)
        for parts in modules
        if 'if __name__ == "__main__":' in REPOSITORY.joinpath(*parts).with_suffix(".py").read_text(encoding="utf-8")
    }
    assert found - {"SemiSegLib.__main__"} == {command.module for command in COMMANDS.values()}


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize(
    ("started", "shown"),
    [
        ("/usr/bin/semiseg", "semiseg {name}"),
        ("C:/Scripts/semiseg.exe", "semiseg {name}"),
        ("/x/SemiSegLib/__main__.py", "python -m SemiSegLib {name}"),
        ("/x/SemiSegLib/other.py", "python -m {module}"),
    ],
)
def test_every_command_explains_itself_as_it_was_called(name, started, shown, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [started, name])
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    module = COMMANDS[name].module.removesuffix(".__main__")
    usage = " ".join(capsys.readouterr().out.split())
    assert usage.startswith(f"usage: {shown.format(name=name, module=module)} [")


def test_a_command_s_arguments_and_exit_code_are_passed_on(tmp_path, capsys):
    assert main(["evaluate", "--predictions", str(tmp_path / "none"), "--references", str(tmp_path)]) == 2
    assert f"{tmp_path / 'none'}: no such folder" in capsys.readouterr().err


@pytest.mark.parametrize(("wrong", "hint"), [("trian", "did you mean train?"), ("xyz", "there are: train, predict")])
def test_an_unknown_command_is_named(wrong, hint, capsys):
    assert main([wrong]) == 2
    assert hint in capsys.readouterr().err


def test_the_version_is_printed(capsys):
    assert main(["--version"]) == 0
    assert re.fullmatch(r"SemiSeg \d+\.\d+\.\d+\n", capsys.readouterr().out)


def test_the_console_script_is_this_command_line():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read pyproject.toml by itself")
    scripts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    assert EntryPoint("semiseg", scripts["semiseg"], "console_scripts").load() is main


def test_commands_import_without_torch():
    modules = [command.module for command in COMMANDS.values()]
    code = f"import importlib, sys; [importlib.import_module(m) for m in {modules}]; print('torch' in sys.modules)"
    assert python("-c", code).stdout.strip() == "False"
    assert all(importlib.import_module(module).main for module in modules)


MISSING = {  # each command with input that is not there
    "predict": ("--model", "MISSING", "--input", "MISSING", "--output", "out"),
    "evaluate": ("--predictions", "MISSING", "--references", "MISSING"),
    "report": ("MISSING",),
    "quality": ("--model", "MISSING", "--input", "MISSING", "--output", "out.json"),
    "suggest": ("--run", "MISSING"),
    "refine": ("--model", "MISSING", "--scan", "MISSING", "--strokes", "MISSING", "--output", "out.nii.gz"),
    "models": ("export", "MISSING", "out.safetensors"),
    "export": ("MISSING", "out", "--format", "torchscript"),
    "devices": ("--device", "cuda:99"),
}


@pytest.mark.parametrize("name", MISSING)
def test_wrong_input_is_a_message_and_exit_code_2(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main = importlib.import_module(COMMANDS[name].module).main
    assert main(MISSING[name]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert ("MISSING" in said) or name == "devices"


def interrupted():
    raise KeyboardInterrupt


def refused():
    raise SemiSegError("scan.nii.gz: no")


def test_how_a_command_ends(capsys):
    assert run_command(lambda: None) == 0
    assert run_command(lambda: 3) == 3
    assert run_command(interrupted) == 130
    assert run_command(refused, json_progress=True) == 2
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"event": "error", "message": "scan.nii.gz: no"}
    assert shown.err == "interrupted\nerror: scan.nii.gz: no\n"


def test_what_the_system_refuses_is_a_message_that_names_the_file(tmp_path, capsys):
    (tmp_path / "file").write_text("x", encoding="utf-8")

    def work():
        write_json(tmp_path / "file" / "folder" / "labels.json", {})

    assert run_command(work, json_progress=True) == 2
    shown = capsys.readouterr()
    assert str(tmp_path / "file") in json.loads(shown.out)["message"]
    assert shown.err.startswith(f"error: {tmp_path / 'file'}")


def test_a_file_that_cannot_replace_a_folder_goes_by_its_own_name(tmp_path):
    with pytest.raises(OSError, match=re.escape(str(tmp_path))) as caught:
        write_json(tmp_path, {})
    assert caught.value.filename == str(tmp_path)


@pytest.mark.parametrize("place", ["folder", "file/x.json"])
def test_where_nothing_can_be_written_is_said_before_the_work(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("x", encoding="utf-8")
    for name in ("evaluate", "quality", "suggest", "refine"):
        arguments = [*MISSING[name], "--output", place]
        with pytest.raises(SystemExit) as ended:
            importlib.import_module(COMMANDS[name].module).main(arguments)
        assert ended.value.code == 2
        assert Path(place).parts[0] in capsys.readouterr().err.splitlines()[-1]


def test_a_training_that_cannot_make_its_folder_says_so(tiny_data, tmp_path, capsys):
    (tmp_path / "file").write_text("x", encoding="utf-8")
    train = importlib.import_module("SemiSegLib.train").main
    assert train(["--data", str(tiny_data), "--out", str(tmp_path / "file" / "run"), "--method", "supervised"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'file'}")


def in_one_region(*arguments):
    """As on Windows, where what goes to a file or another program has the characters of one region."""
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONIOENCODING": "cp1252", "PYTHONUTF8": "0"},
        check=False,
    )


def test_what_an_output_cannot_show_does_not_end_a_command():
    code = "from SemiSegLib.commands import run_command; raise SystemExit(run_command(lambda: print('Łódź 陳.nii.gz')))"
    done = in_one_region("-c", code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(b".nii.gz" + os.linesep.encode())


@pytest.mark.parametrize("read", [0, 1])
def test_who_reads_no_further_ends_a_command_quietly(read):
    # `semiseg train --list-settings | head`
    work = "lambda: [print(i) for i in range(30000)] and 0"
    code = f"import sys; from SemiSegLib.commands import run_command; sys.exit(run_command({work}))"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=REPOSITORY
    ) as started:
        for _ in range(read):
            started.stdout.readline()
        started.stdout.close()
        said = started.stderr.read()
    assert said == b""
    assert started.returncode == 141  # as the shell counts a program that this ended


def test_another_broken_pipe_is_no_quiet_end():
    def work():
        raise BrokenPipeError("a helper process ended")

    with pytest.raises(BrokenPipeError, match="helper"):
        run_command(work)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
def test_a_full_disk_is_said_though_the_system_names_no_file(capsys):
    def write():
        with open("/dev/full", "w") as file:
            file.write("anything")

    assert run_command(write) == 2
    assert "No space left" in capsys.readouterr().err


def test_nor_does_it_end_a_training_or_a_benchmark(tmp_path):
    write_json(tmp_path / "config.json", {"data.labels": [{"value": 1, "name": "左心房", "color": [1, 2, 3]}]})
    done = in_one_region("-m", "SemiSegLib.train", "--list-settings", "--config", str(tmp_path / "config.json"))
    assert done.returncode == 0, done.stderr
    (tmp_path / "results").mkdir()
    for name in ("simcvd", "supervised"):
        measured = f"left-atrium-{name}-8-seed1.json"
        shutil.copy(REPOSITORY / "Testing" / "Benchmarks" / "results" / measured, tmp_path / "results")
    done = in_one_region("-m", "SemiSegLib.benchmark", "--table-only", "--results", str(tmp_path / "results"))
    assert done.returncode == 0, done.stderr


def test_a_drive_that_is_not_there_is_named(monkeypatch):
    """On Windows not even the root of a path needs to exist."""
    with monkeypatch.context() as windows:
        windows.setattr(Path, "exists", lambda self: False)
        with pytest.raises(argparse.ArgumentTypeError, match=r"report\.json: there is no /"):
            file_to_write("/report.json")


@pytest.mark.parametrize(
    "command",
    [
        ["quality", "--model", "RUN", "--input", "SCANS", "--output", "FILE"],
        ["suggest", "--run", "RUN", "--output", "FILE"],
        ["evaluate", "--predictions", "MASKS", "--references", "TRUTH", "--output", "FILE"],
        ["evaluate", "--predictions", "MASKS", "--references", "TRUTH", "--csv", "FILE"],
        ["models", "export", "RUN", "FILE"],
    ],
    ids=lambda command: " ".join(command[:1] + command[-2:]),
)
def test_no_scan_or_mask_is_replaced_by_figures(command, tmp_path, capsys):
    scan = tmp_path / "scan.nii.gz"
    scan.write_bytes(b"voxels")
    with pytest.raises(SystemExit):
        main([str(scan) if word == "FILE" else word for word in command])
    assert f"{scan} is called like a scan" in capsys.readouterr().err
