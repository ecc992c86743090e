"""Fields for text and folders that follow the settings of the scene without disturbing whoever types in them.

Slicer's own connectors write the whole text at every change of the parameter node. That moves the cursor while
somebody types, and turns `/data/` into `/data` before the next letter comes. These write only what is different.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..logic.study import Study


class TextField:
    """A QTextEdit that shows one text of the parameter node, and changes it."""

    def __init__(self, widget: Any, study: Study, parameter: str) -> None:
        self._widget, self._study, self._parameter = widget, study, parameter
        widget.connect(self._signal, self._edited)
        study.opened.connect(self.update)
        study.settings_changed.connect(lambda names: parameter in names and self.update())

    _signal = "textChanged()"

    def update(self) -> None:
        """Show the parameter, unless the field says the same already."""
        value = getattr(self._study.parameters, self._parameter)
        if self._read() != value:
            self._write(value)

    def _edited(self, *_text: str) -> None:
        parameters = self._study.parameters
        if parameters is not None and getattr(parameters, self._parameter) != self._read():
            setattr(parameters, self._parameter, self._read())

    def _read(self) -> Any:
        return self._widget.toPlainText()

    def _write(self, value: Any) -> None:
        self._widget.setPlainText(value)


class FolderField(TextField):
    """A ctkPathLineEdit for a folder of the parameter node; no folder is an empty field."""

    _signal = "currentPathChanged(QString)"

    def _read(self) -> Path:
        return Path(self._widget.currentPath.strip())

    def _write(self, value: Path) -> None:
        self._widget.currentPath = "" if value == Path() else str(value)
