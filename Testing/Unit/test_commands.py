"""The command line as a whole: one entry for everything, quick, and each command knows how it was called."""

import importlib
import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from SemiSegLib.__main__ import main
from SemiSegLib.commands import COMMANDS

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
