"""What a person sees of a run on a terminal: a progress bar with speed, ETA and scores, or plain lines in a log."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import Any, TextIO

_OF_EACH_KIND = 3  # warnings shown that say the same of several files


class Console:
    """Listens to a run's events and shows them; plain lines every half minute when the output is no terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.interactive = self.stream.isatty()
        self.bar: Any = None
        self.dsc: float | None = None
        self.next_line = 0.0
        self.warned: Counter[str] = Counter()

    def __call__(self, event: dict[str, Any]) -> None:
        """Show one event."""
        show = getattr(self, f"_on_{event['event']}", None)
        if show:
            show(event)

    def close(self) -> None:
        """Leave the terminal tidy."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def line(self, text: str) -> None:
        """One line above the bar."""
        if self.bar is not None:
            self.bar.write(text, file=self.stream)
        else:
            print(text, file=self.stream, flush=True)

    def _on_message(self, event: dict[str, Any]) -> None:
        file, _, said = event["text"].partition(": ")
        if event.get("level") == "warning" and said:
            self.warned[said] += 1
            if self.warned[said] == _OF_EACH_KIND + 1:
                self.line(f"The same of {file} and perhaps more: events.jsonl in the run folder has all of them.")
            if self.warned[said] > _OF_EACH_KIND:
                return
        self.line(event["text"])

    def _on_plan(self, event: dict[str, Any]) -> None:
        self.line(event["text"])

    def _on_preparing(self, event: dict[str, Any]) -> None:
        if event["index"] == event["count"] or self._due():
            self.line(f"prepared {event['index']} of {event['count']} scans ({event['name']})")

    def _on_resumed(self, event: dict[str, Any]) -> None:
        after = f"going on after iteration {event['iteration']}"
        self.line(after if event["iteration"] else "beginning again: the run had ended before its first checkpoint")

    def _on_iteration(self, event: dict[str, Any]) -> None:
        terms = " ".join(f"{name} {value:.3g}" for name, value in event["losses"].items() if value is not None)
        if self.interactive:
            self._show_bar(event, terms)
        elif event["iteration"] == event["iterations"] or self._due():
            speed = event["seconds_per_iteration"]
            self.line(
                f"iteration {event['iteration']}/{event['iterations']}  loss {_number(event['total'])} ({terms})  "
                f"{speed:.2f} s/iteration  {time_left(event['eta_seconds'])} left"
            )

    def _show_bar(self, event: dict[str, Any], terms: str) -> None:
        from tqdm import tqdm

        if self.bar is None:
            self.bar = tqdm(total=event["iterations"], initial=event["iteration"], file=self.stream, unit="it")
        self.bar.update(event["iteration"] - self.bar.n)
        score = "" if self.dsc is None else f"DSC {100 * self.dsc:.1f}, "
        self.bar.set_postfix_str(f"{score}loss {_number(event['total'])}: {terms}")

    def _on_validation(self, event: dict[str, Any]) -> None:
        self.dsc = event["dsc"]
        score = "no class in any mask" if self.dsc is None else f"validation DSC {100 * self.dsc:.2f} %"
        self.line(f"iteration {event['iteration']}: {score}")

    def _on_state(self, event: dict[str, Any]) -> None:
        if event["state"] in ("finished", "stopped", "failed"):
            self.close()
            self.line(f"{event['state']}{': ' if event['message'] else ''}{event['message']}")

    def _due(self) -> bool:
        if time.monotonic() < self.next_line:
            return False
        self.next_line = time.monotonic() + 30
        return True


def time_left(seconds: float | None) -> str:
    """Seconds as a person says it: 45 s, 12 min, 3 h 05 min."""
    if seconds is None:
        return "?"
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def _number(value: float | None) -> str:
    return "not a number" if value is None else f"{value:.4f}"
