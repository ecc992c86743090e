"""report/index.html of a run: one file that opens offline, with scores, curves, pictures, settings and warnings.

Everything but the pictures of cases is read from the run folder; nothing here imports torch.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from SemiSegLib.config import Settings, SettingsError, explain
from SemiSegLib.files import write_whole
from SemiSegLib.presets import build_settings
from SemiSegLib.report import OUTLINES, case_rows, score_header, summary_rows
from SemiSegLib.runs import RunFolder, read_json


@dataclass(frozen=True)
class Strip:
    """The small picture of one case (WebP) and what is said below it."""

    name: str
    caption: str
    picture: bytes


def write_page(run: RunFolder, validation: Sequence[Strip], unlabelled: Sequence[Strip], total: int) -> None:
    """Write report/index.html, whole; `unlabelled` are some of the run's `total` unlabelled cases."""
    from jinja2 import Environment

    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode("ascii")
    page = environment.from_string(TEMPLATE).render(
        run=run.path.resolve(),
        facts=_facts(run),
        scores=_scores(run),
        curves=(run.report / "curves.png").read_bytes(),
        parts=[
            ("Validation cases", validation, len(validation), True),
            ("Unlabelled cases", unlabelled, total, False),
        ],
        warnings=_warnings(run),
        settings=_settings(run),
        colours={name: colour for name, (colour, _) in OUTLINES.items()},
    )
    write_whole(run.report / "index.html", page)


def _facts(run: RunFolder) -> dict[str, str]:
    """What a reader wants to know first."""
    settings, cases = read_json(run.settings_file), read_json(run.cases_file)
    environment, status = read_json(run.environment_file), run.status()
    counts = [f"{len(cases[part])} {part}" for part in ("labelled", "unlabelled", "validation")]
    best = "" if status.best_dsc is None else f"{100 * status.best_dsc:.2f} % (on the networks' grid)"
    facts = {
        "method": settings["method"],
        "task": ", ".join(label["name"] for label in settings["data"]["labels"]),
        "cases": ", ".join(counts),
        "iterations": f"{status.iteration} of {status.iterations}",
        "best validation DSC": best,
        "computed on": f"{environment['device']}, {environment['precision']}",
        "SemiSeg": f"{environment['semiseg']}, torch {environment['libraries']['torch']}",
        "written": time.strftime("%Y-%m-%d %H:%M"),
    }
    return {name: value for name, value in facts.items() if value}


def _scores(run: RunFolder) -> list[tuple[list[str], list[list[str]]]]:
    """Tables (header, rows): means, then every case; none without validation cases."""
    file = run.report / "validation.json"
    if not file.exists():
        return []
    content = _with_nan(read_json(file))
    return [
        (score_header("mean ± sd"), summary_rows(content["summary"])),
        (score_header(), case_rows(content["cases"])),
    ]


def _with_nan(content: Any) -> Any:
    """JSON has null where a score is undefined."""
    if isinstance(content, dict):
        return {key: _with_nan(value) for key, value in content.items()}
    return float("nan") if content is None else content


def _warnings(run: RunFolder) -> list[str]:
    """Warnings and errors of the run, each once."""
    messages = [event for event in run.history() if event["event"] == "message"]
    return list(dict.fromkeys(event["text"] for event in messages if event.get("level") in ("warning", "error")))


def _settings(run: RunFolder) -> list[dict[str, Any]]:
    """Every setting with its explanation, and whether it differs from the preset's, the recipe's and the method's."""
    settings = Settings.from_dict(read_json(run.settings_file))
    try:
        own = build_settings(settings.method, settings.preset, recipe=settings.recipe)
        usual = {f.name: f.value for f in explain(own)}
        usual_of_method = {name: _readable(value) for name, value in own.method_settings.items()}
    except SettingsError:  # a preset or method that this version no longer has
        usual, usual_of_method = {}, {}
    rows = [
        {"name": f.name, "value": _readable(f.value), "help": f.help, "changed": usual.get(f.name) != f.value}
        for f in explain(settings)
    ]
    values = {name: _readable(value) for name, value in settings.method_settings.items()}
    return rows + [
        {"name": f"method_settings.{name}", "value": value, "help": "", "changed": usual_of_method.get(name) != value}
        for name, value in values.items()
    ]


def _readable(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(str(getattr(entry, "name", entry)) for entry in value)
    return "none" if value is None else str(value)


TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ run.name }}: {{ facts.method }}</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ddd; }
.path, .note { color: #666; }
dl { display: grid; grid-template-columns: max-content auto; gap: .1rem 1.5rem; } dt { color: #666; } dd { margin: 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin-bottom: 1.5rem; display: block;
  overflow-x: auto; }
th, td { padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #eee; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.strips { display: flex; flex-wrap: wrap; gap: 1rem; }
figure { margin: 0; } figure img { height: 10rem; max-width: 100%; object-fit: contain; display: block; }
.curves { max-width: 100%; } figcaption { color: #444; }
.warnings li { white-space: pre-wrap; overflow-wrap: anywhere; }
.settings td { text-align: left; white-space: normal; vertical-align: top; } .settings .help { color: #666; }
.changed td:first-child, .changed td:nth-child(2) { font-weight: 600; }
.line { display: inline-block; width: 1.2rem; border-top: 3px solid; vertical-align: middle; }
</style>
</head>
<body>
<h1>{{ run.name }}</h1>
<div class="path">{{ run }}</div>
<dl>
{% for name, value in facts.items() %}
<dt>{{ name }}</dt><dd>{{ value }}</dd>
{% endfor %}
</dl>
{% if warnings %}
<h2>Warnings</h2>
<ul class="warnings">
{% for text in warnings %}
<li>{{ text }}</li>
{% endfor %}
</ul>
{% endif %}
{% if scores %}
<h2>Scores of the last model</h2>
{% for header, rows in scores %}
<table>
<tr>{% for title in header %}<th>{{ title }}</th>{% endfor %}</tr>
{% for row in rows %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</table>
{% endfor %}
{% endif %}
<h2>Curves</h2>
<img class="curves" alt="loss terms and validation DSC by iteration" src="data:image/png;base64,{{ curves|base64 }}">
{% for title, strips, total, measured in parts if total %}
<h2>{{ title }}</h2>
<p class="note">
{% if strips|length < total %}
{{ strips|length }} of {{ total }}, spread over the list; <code>semiseg report RUN --strips all</code> shows every one.
{% endif %}
Outlines: <span class="line" style="border-color: {{ colours.prediction }}"></span> prediction
{% if measured %}
<span class="line" style="border-color: {{ colours.reference }}"></span> reference. The worst case comes first.
{% endif %}
</p>
<div class="strips">
{% for strip in strips %}
<figure>
<img loading="lazy" alt="three slices of {{ strip.name }}" src="data:image/webp;base64,{{ strip.picture|base64 }}">
<figcaption><strong>{{ strip.name }}</strong> {{ strip.caption }}</figcaption>
</figure>
{% endfor %}
</div>
{% endfor %}
<h2>Settings</h2>
<p class="note">Bold: other than the preset's, the recipe's and the method's own.</p>
<details>
<summary>{{ settings|length }} settings</summary>
<table class="settings">
{% for row in settings %}
<tr{% if row.changed %} class="changed"{% endif %}><td>{{ row.name }}</td><td>{{ row.value }}</td>
<td class="help">{{ row.help }}</td></tr>
{% endfor %}
</table>
</details>
</body>
</html>
"""
