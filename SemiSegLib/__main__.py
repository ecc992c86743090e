"""SemiSeg's command line: `semiseg COMMAND …`, or `python -m SemiSegLib COMMAND …` where nothing is installed."""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence

from SemiSegLib import __doc__ as title
from SemiSegLib import __version__
from SemiSegLib.commands import COMMANDS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code, 2 for one that does not exist. Without a command: say what there is."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    name, *rest = words
    if name == "--version":
        print(f"SemiSeg {__version__}")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are: {', '.join(COMMANDS)}."
        print(f"error: there is no command {name}; {hint}", file=sys.stderr)
        return 2
    return importlib.import_module(COMMANDS[name].module).main(rest)


def overview() -> str:
    """What can be done, for people."""
    lines = "\n".join(f"  {name:10} {command.summary}" for name, command in COMMANDS.items())
    return (
        f"SemiSeg {__version__}: {str(title).splitlines()[0]}\n\n{lines}\n\n"
        "`semiseg COMMAND --help` explains each; without the script it is `python -m SemiSegLib COMMAND`. From Python: "
        "`import SemiSegLib.api`."
    )


if __name__ == "__main__":
    sys.exit(main())
