"""The one base class of every error that a user of SemiSeg can do something about."""


class SemiSegError(ValueError):
    """Something about the input, the settings or a run folder is wrong; the message says what and what to do."""
