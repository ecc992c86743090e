"""What a correction round brings, by how it is trained: a model, a few more masks, and a short training from it.

    python Testing/Benchmarks/correct.py cardiac-cine --data ACDC --splits ACDC/splits.json:development --out WORK \
        --starts 1 2 3 --rounds supervised:300:0.05 unimatch:300:0.05

Each start is a random order of the training scans: the first `--cases` are annotated and trained with (or the run of
annotate.py's first round of whole volumes is taken, which is the same), `--more` scans that `semiseg suggest` names are
corrected then (whole, without error), and each of `--rounds`, METHOD:ITERATIONS:RATE[:KEY=VALUE...], begins from that
model. annotation/correction-TASK-startN.json beside this file gets DSC of every validation scan before and after, and
of the corrected scans; a round that it holds already is not trained again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import annotate

from SemiSegLib.models import model_file
from SemiSegLib.presets import build_settings
from SemiSegLib.runs import RunFolder, read_json, write_json
from SemiSegLib.train import assignments


def round_settings(text: str) -> tuple[str, dict[str, str]]:
    """Method and settings of METHOD:ITERATIONS:RATE[:KEY=VALUE...]; a key without a dot is the method's."""
    method, iterations, rate, *further = text.split(":")
    own = {key if "." in key else f"method_settings.{key}": value for key, value in assignments(further).items()}
    return method, {"training.iterations": iterations, "training.learning_rate": rate, **own}


def round_folder(person: annotate.Session, text: str) -> RunFolder:
    """Where a round is trained; Windows has no colons in names."""
    return RunFolder(person.work / text.translate(str.maketrans(":=,", "---")))


def validation(run: RunFolder) -> dict[str, float]:
    """Mean DSC over the classes of every validation scan, by the last model."""
    scores = read_json(run.report / "validation.json")["cases"]
    return {name: sum(label["dsc"] for label in labels.values()) / len(labels) for name, labels in scores.items()}


def measure(person: annotate.Session, options: argparse.Namespace, result: Path) -> None:
    """All rounds of one start; the file is written after each."""
    common = {"training.seed": options.seed, "data.cache": str(options.out / "cache"), **assignments(options.set)}
    costs = annotate.Costs.of(options.task)
    for case in person.order()[: options.cases]:
        person.annotate(case, None, costs, corrected=False, ignore=255)
    base = person.run(0)
    annotate.finish(base, build_settings(options.method, options.preset, None, common), person.case_list())
    named = [name for name, _ in annotate.suggested(base.path, options)][: options.more]
    by_name = {case.name: case for case in person.order()}
    for name in named:
        person.annotate(by_name[name], None, costs, corrected=True, ignore=255)
    cases = person.case_list()
    origins = {case.name: "corrected" if case.name in named else "drawn" for case in cases.labelled}
    cases = replace(cases, labelled=tuple(replace(case, origin=origins[case.name]) for case in cases.labelled))
    content = read_json(result) if result.exists() else {}
    content |= {"task": options.task, "start": person.start, "settings": options.set, "corrected": named}
    content |= {"before": validation(base), "rounds": content.get("rounds", {})}
    for text in options.rounds:
        if text not in content["rounds"]:
            method, overrides = round_settings(text)
            run = round_folder(person, text)
            shared = {key: value for key, value in common.items() if not key.startswith("method_settings.")}
            settings = build_settings(method, options.preset, None, shared | overrides)
            annotate.finish(run, settings, cases, model_file(base.path))
            corrected = read_json(run.report / "corrected.json")["cases"]
            content["rounds"][text] = {"after": validation(run), "corrected": corrected}
            write_json(result, content)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every start."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("task")
    add("--results", type=Path, default=annotate.HERE / "annotation")
    annotate.add_training_options(parser)
    add("--cases", type=int, default=6, help="scans annotated before")
    add("--more", type=int, default=2, help="scans corrected")
    add("--method", default="supervised", help="of the model that is corrected")
    add("--rounds", nargs="+", required=True, metavar="METHOD:ITERATIONS:RATE[:KEY=VALUE...]")
    options = parser.parse_args(arguments)
    cases = annotate.annotatable(options.data, options.splits)
    for start in options.starts:
        person = annotate.Session("volumes-corrected", start, Path(), cases, strategy=options.strategy)
        person.work = options.out / f"{options.task}-{person.name}-start{start}"
        measure(person, options, options.results / f"correction-{options.task}-start{start}.json")


if __name__ == "__main__":
    main()
