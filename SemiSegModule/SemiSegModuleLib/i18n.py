"""The translation function `_`, as Slicer gives it, or plain text where there is no Slicer."""

try:
    from slicer.i18n import tr as _
except ImportError:  # PythonSlicer without the application, or a test of one part

    def _(text: str) -> str:
        return text


__all__ = ["_"]
