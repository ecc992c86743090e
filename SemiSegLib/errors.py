"""Errors that a user can do something about: one base class, and what several files raise."""

SOME_FAILED = 3  # exit code of a command that could not work on some of the scans


class SemiSegError(ValueError):
    """Something about the input, the settings or a run folder is wrong; the message says what and what to do."""

    exit_code = 2  # of a command that ends with it


class TrainingError(SemiSegError):
    """Training cannot go on; the message says why and what to change."""
