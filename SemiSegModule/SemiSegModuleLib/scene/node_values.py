"""What a node of the scene keeps, as attributes of a Python object that is a view of this node, its `node`.

>>> class Case:
...     group = Text("group", "The same for scans of one patient; else ''.")
...     def __init__(self, node) -> None:
...         self.node = node
>>> Case(node).group = "cine 3"                                         # doctest: +SKIP

The names are those in the scenes that users have saved: what is renamed here is lost there.
"""

from __future__ import annotations

import dataclasses
import json
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar, overload

Value = TypeVar("Value")


class NodeView(Protocol):
    """What has a node of the scene as its `node`."""

    node: Any


class Stored(ABC, Generic[Value]):
    """A value, kept as text in a parameter of the node; one that was never set has the text ''.

    :param name: of the parameter
    :param doc: what `help` says of the attribute
    :param once: it can be set as long as there is none
    """

    def __init__(self, name: str, doc: str = "", once: bool = False) -> None:
        self.name, self.once, self.__doc__ = name, once, doc

    @abstractmethod
    def from_text(self, text: str) -> Value:
        """The value that was kept as this text."""

    @abstractmethod
    def to_text(self, value: Value) -> str:
        """The text to keep a value as."""

    @overload
    def __get__(self, view: None, owner: type) -> Stored[Value]: ...
    @overload
    def __get__(self, view: NodeView, owner: type) -> Value: ...
    def __get__(self, view, owner):
        return self if view is None else self.from_text(view.node.GetParameter(self.name) or "")

    def __set__(self, view: NodeView, value: Value) -> None:
        if self.once and view.node.GetParameter(self.name):
            raise AttributeError(f"'{self.name}' was set before and stays as it is.")
        view.node.SetParameter(self.name, self.to_text(value))


class Text(Stored[str]):
    """Text; '' without any."""

    def from_text(self, text: str) -> str:
        return text

    def to_text(self, value: str) -> str:
        return value


class Flag(Stored[bool]):
    """Yes or no; no until it is set."""

    def from_text(self, text: str) -> bool:
        return text == "true"

    def to_text(self, value: bool) -> str:
        return "true" if value else "false"


class Number(Stored[float | None]):
    """A number; None when there is none."""

    def from_text(self, text: str) -> float | None:
        return float(text) if text else None

    def to_text(self, value: float | None) -> str:
        return "" if value is None else repr(float(value))


class Amount(Number):
    """A number that is 0 until it is set."""

    def from_text(self, text: str) -> float:
        return super().from_text(text) or 0.0


class WholeNumber(Stored[int | None]):
    """A whole number; None when there is none."""

    def from_text(self, text: str) -> int | None:
        return int(text) if text else None

    def to_text(self, value: int | None) -> str:
        return "" if value is None else str(value)


class Plain(Stored[Any]):
    """Lists, dictionaries and what else JSON has; None when there is none."""

    def from_text(self, text: str) -> Any:
        return json.loads(text) if text else None

    def to_text(self, value: Any) -> str:
        return "" if value is None else json.dumps(value)


class Record(Stored[Value | None]):
    """A dataclass; None when there is none.

    :param make: called with the fields by their names; sequences are tuples then, and what lies deeper as in JSON
    """

    def __init__(self, name: str, make: Callable[..., Value], doc: str = "") -> None:
        super().__init__(name, doc)
        self._make = make

    def from_text(self, text: str) -> Value | None:
        if not text:
            return None
        content = json.loads(text)
        return self._make(**{key: tuple(part) if isinstance(part, list) else part for key, part in content.items()})

    def to_text(self, value: Value | None) -> str:
        return "" if value is None else json.dumps(dataclasses.asdict(value))


class Reference:
    """Another node, that the node refers to; None when there is none, or when it was deleted.

    :param kind: see `role`
    :param doc: what `help` says of the attribute
    :param once: it can be set as long as there is none
    """

    def __init__(self, kind: str, doc: str = "", once: bool = False) -> None:
        self.role, self.once, self.__doc__ = role(kind), once, doc

    def __get__(self, view: NodeView | None, owner: type):
        return self if view is None else view.node.GetNodeReference(self.role)

    def __set__(self, view: NodeView, node) -> None:
        if self.once and view.node.GetNodeReferenceID(self.role):
            raise AttributeError(f"'{self.role}' was set before and stays as it is.")
        view.node.SetNodeReferenceID(self.role, node.GetID() if node is not None else None)


def role(kind: str) -> str:
    """Name of the references of a kind in the scene."""
    return f"SemiSeg.{kind}"
