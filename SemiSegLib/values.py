"""Values of settings: what they may be, in words and as a check, and their types from text."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from SemiSegLib.errors import SemiSegError


class SettingsError(SemiSegError):
    """A setting has an unknown name or a value that does not fit; the message names both."""


@dataclass(frozen=True)
class Allowed:
    """What a setting may be; of several values each. None is not asked.

    choices: these alone. lengths: so many values. ascending: each above the one before it.
    """

    choices: tuple[Any, ...] = ()
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    multiple_of: int | None = None
    lengths: tuple[int, ...] = ()
    ascending: bool = False

    def __str__(self) -> str:
        """The range or the choices of one value, for people; empty where anything goes."""
        if self.choices:
            return f"one of {', '.join(map(str, self.choices))}"
        if self.at_least is not None and self.at_most is not None and self.multiple_of is None:
            return f"from {self.at_least:g} to {self.at_most:.10g}"
        words = ("at least", self.at_least), ("above", self.above), ("at most", self.at_most), ("below", self.below)
        parts = [f"a multiple of {self.multiple_of}"] if self.multiple_of else []
        return " and ".join(parts + [f"{word} {limit:.10g}" for word, limit in words if limit is not None])

    def fits(self, value: Any) -> bool:
        """Whether a value, or a list of values, is allowed."""
        values = value if isinstance(value, (list, tuple)) else [value]
        if isinstance(value, (list, tuple)) and self.lengths and len(value) not in self.lengths:
            return False
        rising = all(a < b for a, b in itertools.pairwise(values)) if self.ascending else True
        return rising and all(map(self._fits, values))

    def _fits(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        return (
            (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
            and (self.multiple_of is None or value % self.multiple_of == 0)
        )

    def check(self, key: str, value: Any) -> None:
        """Raise SettingsError naming the setting where the value is not allowed."""
        if value is None or self.fits(value):
            return
        shown = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else repr(value)
        raise SettingsError(f"The setting '{key}' is {shown}; it must be {self.of_kind(type(value))}.")

    def of_kind(self, hint: Any) -> str:
        """The same with the type in words: 'a number above 0', '2 or 3 whole numbers, each at least 1; or none'."""
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in (typing.Union, types.UnionType):
            return f"{self.of_kind(arguments[0])}; or none"
        several = origin in (tuple, list) or hint in (tuple, list)
        kind: Any = arguments[0] if arguments else None if several else hint
        if kind is bool:
            return "true or false"
        range_ = str(self)
        if not several:
            name = {int: "a whole number", float: "a number"}.get(kind, "") if not self.choices else ""
            return " ".join(part for part in (name, range_) if part) or "text"
        counted = " or ".join(map(str, self.lengths))
        name = {int: "whole numbers", float: "numbers"}.get(kind, "values")
        order = ", rising" if self.ascending else ""
        return f"{counted} {name}".strip() + (f", each {range_}" if range_ else "") + order


def setting(default: Any, help: str, **limits: Any) -> Any:
    """A dataclass field with its explanation and what it may be (see Allowed); lists and dicts are copied."""
    metadata = {"help": help, "allowed": Allowed(**limits)}
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)


def convert(value: Any, hint: Any, key: str) -> Any:
    """`value` (typed or text) as the annotated type; raises SettingsError naming `key`."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None or (isinstance(value, str) and value.lower() in ("none", "null", "")):
            return None
        return convert(value, next(a for a in arguments if a is not type(None)), key)
    try:
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            return value if isinstance(value, hint) else to_dataclass(value, hint, key)
        if origin in (tuple, list):
            items = _items(value) if isinstance(value, str) else value
            if not isinstance(items, (list, tuple)):
                items = [items]
            if origin is tuple and Ellipsis not in arguments and len(items) != len(arguments):
                raise ValueError(f"{len(arguments)} values are needed")
            return origin(convert(item, arguments[0], key) for item in items)
        if hint is bool:
            return _to_bool(value)
        if hint in (int, float):
            return _to_number(value, hint)
        return value if hint is Any else (dict(value) if origin is dict else hint(value))
    except (TypeError, ValueError, KeyError) as error:
        if isinstance(error, SettingsError):
            raise
        raise SettingsError(f"The setting '{key}' cannot be {value!r}: {error}.") from error


def _items(text: str) -> Any:
    """The values of a list that is written 1,2,3 or as JSON; none of them where it is empty or `none`."""
    if text.strip().lower() in ("", "none"):
        return []
    if not text.lstrip().startswith("["):
        return text.split(",")
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"a list is needed, and this is not JSON ({error})") from error


def _to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).lower()
    if text not in ("true", "false", "1", "0", "yes", "no"):
        raise ValueError("true or false is needed")
    return text in ("true", "1", "yes")


def _to_number(value: Any, kind: type) -> int | float:
    name = "a whole number" if kind is int else "a number"
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is needed") from None
    if not math.isfinite(number):
        raise ValueError("a finite number is needed")
    if kind is float:
        return number
    if number != int(number):
        raise ValueError("a whole number is needed")
    return int(value) if isinstance(value, int) else int(number)


def to_dataclass(values: Any, cls: Any, key: str) -> Any:
    """An instance of the dataclass from named values, JSON's or typed; raises SettingsError naming `key`."""
    if not isinstance(values, Mapping):
        raise SettingsError(f"'{key or 'settings'}' must be a group of named values, not {values!r}.")
    hints = typing.get_type_hints(cls)
    unknown = set(values) - set(hints)
    if unknown:
        raise SettingsError(f"There is no setting '{key + '.' if key else ''}{sorted(unknown)[0]}'.")
    converted = {name: convert(v, hints[name], f"{key}.{name}" if key else name) for name, v in values.items()}
    try:
        return cls(**converted)
    except TypeError as error:
        raise SettingsError(f"'{key}' is incomplete: {error}.") from error
