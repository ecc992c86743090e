"""More iterations for a run that has begun: what becomes of its stages and of its schedule."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from SemiSegLib.config import Settings
from SemiSegLib.errors import SemiSegError
from SemiSegLib.schedules import learning_rate, step_at


def lengthen(
    settings: Settings,
    stages: Mapping[str, float],
    done: int,
    iterations: int,
    constant: Collection[str] = (),
    later: Mapping[str, float] | None = None,
) -> str:
    """Give a run of which `done` iterations are done another end; returns what that does, in words.

    `stages` are the method's, `constant` those whose learning rate stays what it is at the start. Stages that are over
    keep their length; the one at work and those to come share the rest as before. `later` are the stages that a method
    of a single one has with so many iterations. `settings` are changed:
    `training.iterations`, and `method_settings.shares` where there are several stages. Raises SemiSegError where the
    new end has been passed already.
    """
    training, before = settings.training, settings.training.iterations
    if iterations <= done:
        raise SemiSegError(f"The run has done {done} iterations already: --iterations {iterations} must be more.")
    last = step_at(max(done - 1, 0), before, stages)
    lengths = stage_lengths(stages, before)
    if len(stages) > 1:
        lengths = _shared_anew(lengths, last.stage, iterations)
        if done and step_at(done - 1, iterations, lengths).stage != last.stage:
            raise SemiSegError(f"--iterations {iterations} is too few for the stage '{last.stage}' that is at work.")
        settings.method_settings["shares"] = tuple(float(length) for length in lengths.values())
        stages = lengths
    elif later is not None:
        stages = later
    rate = learning_rate(last, training, constant)
    training.iterations = iterations
    steps = (step_at(i, iterations, stages) for i in (done, iterations - 1))
    goes_on, ends = (learning_rate(step, training, constant) for step in steps)
    return (
        f"{iterations} iterations instead of {before}, {done} of them done: the schedule and the ramps of the losses "
        f"are stretched over {'the longer stage' if len(stages) > 1 else 'all of them'}. The learning rate was "
        f"{rate:.3g}, goes on at {goes_on:.3g} and ends at {ends:.3g}."
    )


def stage_lengths(stages: Mapping[str, float], iterations: int) -> dict[str, int]:
    """Iterations of each stage, as `step_at` counts them."""
    total, reached, first = sum(stages.values()), 0.0, 0
    lengths = {}
    for name, share in stages.items():
        reached += share
        end = round(iterations * reached / total)
        lengths[name], first = end - first, end
    return lengths


def _shared_anew(lengths: Mapping[str, int], at_work: str, iterations: int) -> dict[str, int]:
    names = list(lengths)
    over = dict.fromkeys(names[: names.index(at_work)])
    kept = {name: lengths[name] for name in over}
    rest = {name: lengths[name] for name in names if name not in over}
    return kept | stage_lengths(rest, iterations - sum(kept.values()))
