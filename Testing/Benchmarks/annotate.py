"""A simulated annotator: DSC against minutes of annotation, for several ways to spend them.

    python Testing/Benchmarks/annotate.py run left-atrium --data LA --splits LA/splits.json:development --out WORK
    python Testing/Benchmarks/annotate.py draw left-atrium

`run` trains after every round of annotation and scores the last model on the validation cases of the split; it writes
annotation/TASK-WAY-startN.json beside this file after every round and goes on where it was interrupted (the WAY ends
with the strategy where scans are suggested). `draw` makes TASK.png there from them. What annotation costs stands in
annotation_costs.json, with sources.

Ways (`--ways`), each from `--starts` random orders of the cases:

    volumes-random      whole volumes, cases at random: today's way
    volumes-suggested   whole volumes, cases as `semiseg suggest --strategy STRATEGY` says
    volumes-cold        whole volumes, the first round, too, as `semiseg suggest --data DATA --strategy STRATEGY` says
    slices-random       some slices of each scan at equal distances, cases at random
    slices-corrected    slices of suggested scans: drawn in the first round; later rounds correct suggested slices of
                        the model's own masks and start from the model of the round before

A round adds `--cases` scans. The annotator draws without error: what is drawn is the reference.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from SemiSegLib.config import Settings
from SemiSegLib.data.cases import Case, CaseList, read_case
from SemiSegLib.data.geometry import from_array, to_array
from SemiSegLib.data.layouts import find_cases
from SemiSegLib.data.splits import apply_splits
from SemiSegLib.data.writing import write_mask
from SemiSegLib.inference.choosing import evenly
from SemiSegLib.models import model_file
from SemiSegLib.presets import build_settings
from SemiSegLib.runs import RunFolder, read_json, write_json
from SemiSegLib.suggest import suggest, suggest_cold
from SemiSegLib.train import assignments
from SemiSegLib.training import session
from SemiSegLib.training.intent import Intent

HERE = Path(__file__).resolve().parent
WAYS = ("volumes-random", "volumes-suggested", "volumes-cold", "slices-random", "slices-corrected")
AXIS = 2  # of the slices in all three data sets' files


@dataclass(frozen=True)
class Costs:
    """Seconds that annotation takes; see annotation_costs.json."""

    drawn: float  # a slice
    corrected: float  # a slice
    looked_at: float  # a slice in which there is nothing to draw

    @classmethod
    def of(cls, task: str) -> Costs:
        """Those of a task; raises KeyError for an unknown one."""
        content = read_json(HERE / "annotation_costs.json")
        drawn = content["used"][task]["seconds_per_slice_drawn"]
        share, look = content["share_of_a_corrected_slice"], content["seconds_per_slice_looked_at"]
        return cls(drawn, share * drawn, look)

    def minutes(self, mask: np.ndarray, slices: Sequence[int], corrected: bool) -> float:
        """What annotating these slices of a mask (x, y, z) takes; looking through the others is part of it."""
        full = [index for index in slices if (np.take(mask, index, AXIS) > 0).any()]
        others = mask.shape[AXIS] - len(full)
        return (len(full) * (self.corrected if corrected else self.drawn) + others * self.looked_at) / 60


@dataclass
class Session:
    """One annotator at work: a way, an order of the cases, what is annotated, and the points of the curve."""

    way: str
    start: int
    work: Path
    cases: CaseList  # labelled: the pool, all with reference; validation
    annotated: dict[str, Path] = field(default_factory=dict)
    points: list[dict[str, float]] = field(default_factory=list)
    minutes: float = 0.0
    strategy: str = "random"  # of suggestions

    @property
    def name(self) -> str:
        """Of the way in files and folders, with the strategy where scans are suggested."""
        return self.way if self.way.endswith("random") else f"{self.way}-{self.strategy}"

    def order(self) -> list[Case]:
        """The pool in this start's order; without a model two thirds of it, so that starts differ."""
        pool = sorted(self.cases.labelled, key=lambda case: case.name)
        order = [pool[index] for index in np.random.default_rng(self.start).permutation(len(pool))]
        return order[: len(order) * 2 // 3] if self.way.endswith("cold") else order

    def run(self, number: int) -> RunFolder:
        """Of a round's training; the first round is the same for all ways that draw the same, and trained once."""
        if self.way.endswith("cold"):
            return RunFolder(self.work / f"round{number}")
        first = self.work.with_name(self.work.name.replace(self.name, self.way.partition("-")[0]))
        return RunFolder(self.work / f"round{number}" if number else first)

    def annotate(self, case: Case, slices: Sequence[int] | None, costs: Costs, corrected: bool, ignore: int) -> None:
        """Draw (or correct) all or some slices of a case; the time is noted."""
        mask = read_case(case)[1]
        assert mask is not None
        reference = to_array(mask.image)
        chosen = list(range(reference.shape[AXIS])) if slices is None else list(slices)
        self.minutes += costs.minutes(reference, chosen, corrected)
        file = self.work / "labels" / f"{case.name}.nii.gz"
        if slices is None:
            write_mask(mask, file, template=case.image)
        else:
            kept = kept_slices(reference, chosen, ignore).astype(np.uint8)
            write_mask(from_array(kept, mask.image), file, template=case.image)
        self.annotated[case.name] = file

    def case_list(self) -> CaseList:
        """What the next training sees: annotated cases with what was drawn, the others without any mask."""
        drawn = [case for case in self.cases.labelled if case.name in self.annotated]
        labelled = tuple(replace(case, label=self.annotated[case.name]) for case in drawn)
        bare = tuple(replace(case, label=None) for case in self.cases.labelled if case.name not in self.annotated)
        return replace(self.cases, labelled=labelled, unlabelled=bare)


def kept_slices(mask: np.ndarray, slices: Sequence[int], ignore: int) -> np.ndarray:
    """A mask (x, y, z) of which only some slices count as annotated; all other voxels get the value `ignore`."""
    result = np.full_like(mask, ignore)
    here = (slice(None),) * AXIS + (list(slices),)
    result[here] = mask[here]
    return result


def play(person: Session, options: argparse.Namespace, costs: Costs, result: Path) -> None:
    """All rounds of one annotator; each is annotated, trained and scored, then written."""
    training = training_of(training_settings(options).to_dict())
    content = {"task": options.task, "way": person.name, "start": person.start, "training": training, "points": []}
    content |= {"costs": asdict(costs), "settings": options.set, "cases_a_round": options.cases}
    resumed = read_json(result) if result.exists() else content
    other = [key for key in content if key != "points" and resumed.get(key) != content[key]]
    if other:
        raise SystemExit(f"{result} has other {', '.join(other)}: name another folder with --results.")
    for number in range(options.rounds):
        run = person.run(number)
        before = person.run(number - 1).path if number else None
        for case, slices in next_cases(person, before, options):
            person.annotate(case, slices, costs, corrected=before is not None and "corrected" in person.way, ignore=255)
        if number < len(resumed["points"]):
            person.points.append(resumed["points"][number])
            continue
        point = {"minutes": person.minutes, "cases": len(person.annotated), "dsc": train(person, run, before, options)}
        person.points.append(point)
        write_json(result, content | {"points": person.points})
        print(person.name, person.start, point, flush=True)


def next_cases(
    person: Session, before: Path | None, options: argparse.Namespace
) -> list[tuple[Case, Sequence[int] | None]]:
    """The scans of a round, and the slices to draw (None: all); suggested ones are remembered beside the run."""
    order = [case for case in person.order() if case.name not in person.annotated]
    by_name = {case.name: case for case in order}
    chosen: list[tuple[Case, Sequence[int] | None]]
    if before is None and person.way.endswith("cold"):
        found = suggest_cold([replace(case, label=None) for case in order], options.cases, options.strategy)
        chosen = [(by_name[entry.name], None) for entry in found]
    elif before is None or person.way.endswith("random"):
        chosen = [(case, None) for case in order[: options.cases]]
    else:
        chosen = [(by_name[name], slices) for name, slices in suggested(before, options)]
    if "volumes" in person.way:
        return [(case, None) for case, _ in chosen]
    return [(case, slices or evenly(_length(case), options.slices)) for case, slices in chosen]


def suggested(before: Path, options: argparse.Namespace) -> list[tuple[str, list[int]]]:
    """Names and slices that `semiseg suggest` says after a run, in its order; remembered beside it."""
    file = before / f"suggested-{options.strategy}.json"
    if not file.exists():
        found = suggest(before, options.cases, options.strategy, options.slices, AXIS, options.seed)
        write_json(file, [[entry.name, [place.index for place in entry.slices]] for entry in found])
    return [(name, slices) for name, slices in read_json(file)]


def _length(case: Case) -> int:
    return int(to_array(read_case(replace(case, label=None))[0]).shape[AXIS])


def train(person: Session, run: RunFolder, before: Path | None, options: argparse.Namespace) -> float:
    """Train on what is annotated, from the model before where the way says so; mean DSC of the validation cases."""
    goes_on = model_file(before) if before and "corrected" in person.way else None
    finish(run, training_settings(options), person.case_list(), goes_on)
    summary = read_json(run.report / "validation.json")["summary"]
    return float((summary.get("all classes") or next(iter(summary.values())))["dsc"]["mean"])


def training_settings(options: argparse.Namespace) -> Settings:
    """What every round is trained with."""
    overrides = {"training.seed": options.seed, "data.cache": str(options.out / "cache"), **assignments(options.set)}
    return build_settings(options.method, options.preset, None, overrides)


def training_of(settings: Mapping[str, Any]) -> str:
    """Method and network in words, by which curves are told apart."""
    return f"{settings['method']}, {settings['network']['normalisation']} normalisation"


def finish(run: RunFolder, settings: Settings, cases: CaseList, init: Path | None = None) -> None:
    """Train in that folder, from the model `init`, or go on where it was interrupted; nothing where it has finished.

    Raises SystemExit where somebody stopped it, since what follows needs the whole of it, and where the folder holds a
    training by another method or network.
    """
    wanted, intent = training_of(settings.to_dict()), Intent.read(run) if run.has_training() else None
    if intent is not None and training_of(intent.settings) != wanted:
        raise SystemExit(f"{run.path} was not trained by {wanted}: name another folder with --out.")
    if not run.has_training():
        with run.begun(Intent.of(settings, cases, init=init).to_dict()):
            session.start(run, settings, cases, init)
    elif run.status().state != "finished":
        session.resume(run)
    if run.status().state != "finished":
        raise SystemExit(f"{run.path} was stopped: the same command goes on with it.")


def curves_of(results: Sequence[Path]) -> dict[tuple[str, str], list[list[dict[str, float]]]]:
    """The points of every start, by (way, training)."""
    curves: dict[tuple[str, str], list[list[dict[str, float]]]] = {}
    for content in map(read_json, results):
        curves.setdefault((content["way"], content["training"]), []).append(content["points"])
    return dict(sorted(curves.items()))


def draw(task: str, results: Sequence[Path], file: Path) -> None:
    """Mean curve of each way and training over its starts, and every start as a thin line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axis = pyplot.subplots(figsize=(7.5, 5.2), layout="constrained")
    for number, ((way, training), starts) in enumerate(curves_of(results).items()):
        look = {"color": f"C{number}", "marker": "os^Dv"[number % 5]}
        for points in starts:
            axis.plot([x["minutes"] for x in points], [x["dsc"] for x in points], **look, ms=3, lw=1, alpha=0.35)
        axis.plot(*mean_curve(starts), **look, lw=2, label=f"{way}: {training} ({len(starts)} starts)")
    axis.set_xlabel("minutes of annotation")
    axis.set_ylabel(f"mean DSC, {task}")
    axis.grid(alpha=0.3)
    figure.legend(frameon=False, fontsize=9, loc="outside lower center")
    figure.savefig(file, dpi=110)


def mean_curve(starts: Sequence[Sequence[dict[str, float]]]) -> tuple[list[float], list[float]]:
    """(minutes, DSC), means over all starts, for each number of scans that all of them came to."""
    by_cases = [{point["cases"]: point for point in points} for points in starts]
    shared = sorted(set.intersection(*(set(points) for points in by_cases)))
    minutes, dsc = (
        [float(np.mean([points[cases][key] for points in by_cases])) for cases in shared] for key in ("minutes", "dsc")
    )
    return minutes, dsc


def add_training_options(parser: argparse.ArgumentParser) -> None:
    """What simulated annotators of every kind are told: scans, folders, orders, suggestions, settings of trainings."""
    add = parser.add_argument
    add("--data", type=Path, required=True)
    add("--splits", required=True, metavar="FILE:NAME")
    add("--out", type=Path, required=True, help="work folder: runs and what was drawn")
    add("--starts", type=int, nargs="+", default=[1, 2, 3])
    add("--slices", type=int, default=8, help="of each scan, where not all are drawn")
    add("--strategy", default="power", help="of `semiseg suggest`")
    add("--preset", default="custom")
    add("--seed", type=int, default=1)
    add("--set", action="append", default=[], metavar="KEY=VALUE")


def annotatable(data: Path, splits: str) -> CaseList:
    """The split's training scans, all with their references, as labelled; its validation scans."""
    pool, masked = apply_splits(find_cases(data), splits, 1), {case.name: case for case in find_cases(data)}
    training = tuple(masked[case.name] for case in (*pool.labelled, *pool.unlabelled))
    return replace(pool, labelled=training, unlabelled=())


def main(arguments: Sequence[str] | None = None) -> None:
    """Annotate, or draw what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    tasks = list(json.loads((HERE / "annotation_costs.json").read_text(encoding="utf-8"))["used"])
    for name in ("run", "draw"):
        command = commands.add_parser(name)
        command.add_argument("task", choices=tasks)
        command.add_argument("--results", type=Path, default=HERE / "annotation")
        if name == "draw":
            continue
        add_training_options(command)
        command.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
        command.add_argument("--rounds", type=int, default=4)
        command.add_argument("--cases", type=int, default=4, help="scans a round")
        command.add_argument("--method", default="mean-teacher")
    options = parser.parse_args(arguments)
    if options.command == "draw":
        results = sorted(options.results.glob(f"{options.task}-*.json"))
        draw(options.task, results, options.results / f"{options.task}.png")
        return
    cases = annotatable(options.data, options.splits)
    for start in options.starts:
        for way in options.ways:
            person = Session(way, start, Path(), cases, strategy=options.strategy)
            named = f"{options.task}-{person.name}-start{start}"
            person.work = options.out / named
            play(person, options, Costs.of(options.task), options.results / f"{named}.json")


if __name__ == "__main__":
    main()
