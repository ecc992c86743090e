"""A training of a given length, with speeds that are given: voxel size, patch and iterations worked by hand."""

import math

import numpy as np
import pytest
import torch

from SemiSegLib.compute.devices import Compute
from SemiSegLib.config import Label, Settings, SettingsError
from SemiSegLib.durations import duration, parse_minutes
from SemiSegLib.presets import at_preset, build_settings
from SemiSegLib.training import timing
from SemiSegLib.training.trainer import build_method

CPU = Compute(torch.device("cpu"), torch.float32, "")


TIMES = [("15m", 15), ("1h", 60), ("1.5h", 90), ("1h30m", 90), ("2h5", 125), ("90", 90)]


@pytest.mark.parametrize(("text", "minutes"), TIMES)
def test_times_as_people_write_them(text, minutes):
    assert parse_minutes(text) == minutes


@pytest.mark.parametrize("text", ["", "soon", "-5m", "0h", "nan", "inf", "5d", "h", "m", "30m1h", "1h-5m", "1e9999"])
def test_other_times_are_refused(text):
    with pytest.raises(SettingsError, match="15m, 1h, 1h30m or 8h"):
        parse_minutes(text)


def test_times_as_people_read_them():
    said = ["1 minute", "15 minutes", "1 hour", "1.5 hours", "8 hours"]
    assert [duration(minutes) for minutes in (1.2, 15, 60, 90, 480)] == said


@pytest.fixture
def plan(monkeypatch):
    """A function that plans so many minutes on a device that takes so many microseconds a voxel."""

    def make(minutes, microseconds, adaptable=True, preset="left-atrium", learnt=None, **overrides):
        settings = build_settings("supervised", preset, overrides=overrides)
        settings.training.minutes = minutes
        monkeypatch.setattr(timing, "measured_seconds", lambda s, c, patch: 1e-6 * microseconds * math.prod(patch))
        return timing.plan_time(settings, CPU, adaptable, learnt), settings

    return make


def test_a_fast_device_trains_at_the_tasks_own_resolution(plan):
    timetable, settings = plan(60, 0.09)
    # 0.09 s for 112 x 112 x 80 = 1,003,520 voxels: 0.85 * 3,600 s are 33,881 iterations, 32,000 are needed
    assert (timetable.spacing, timetable.patch) == ((0.625, 0.625, 0.625), (112, 112, 80))
    assert settings.training.iterations == timetable.iterations == int(0.85 * 3600 / 0.09031680)


def test_a_slow_one_at_a_coarser_one(plan):
    """7 us: 0.51 s for 48 x 48 x 32 voxels, so 15 minutes are 1,482 iterations."""
    short, settings = plan(15, 7.0)
    assert (short.spacing, short.patch) == ((1.6, 1.6, 1.6), (48, 48, 32))
    assert short.iterations == settings.training.iterations == int(0.85 * 900 / (7e-6 * 48 * 48 * 32))


# Of 64 x 64 x 48 voxels three hours are 6,670 iterations, eight 17,787; of 64 x 64 x 32 they are 10,005, one 3,335.
@pytest.mark.parametrize(("hours", "spacing", "patch"), [(1, 1.6, 32), (3, 1.25, 32), (8, 1.0, 48)])
def test_finer_voxels_want_as_many_more_iterations_as_there_are_more_of_them(plan, hours, spacing, patch):
    """4,000 at 1.25 mm, so 4,000 * 1.25^3 = 7,812 at 1 mm (on the left atrium 5,000 were too few)."""
    timetable, settings = plan(60 * hours, 7.0)
    assert timetable.spacing == settings.data.spacing == (spacing,) * 3
    assert timetable.patch[2] == settings.training.patch_size[2] == patch


def test_a_round_of_correction_goes_on_at_the_resolution_of_its_model(plan):
    """Five minutes are 185 iterations of 64 x 64 x 48 voxels here; coarser voxels are not what the model knows."""
    model = (1.0, 1.0, 1.0), (64, 64, 48)
    short, settings = plan(5, 7.0, learnt=model)
    assert (short.spacing, short.patch) == (settings.data.spacing, settings.training.patch_size) == model
    assert short.iterations == int(0.85 * 300 / (7e-6 * 64 * 64 * 48))


def test_a_longer_one_makes_a_coarse_model_finer(plan):
    coarse = (1.6, 1.6, 1.6), (48, 48, 32)
    assert plan(15, 7.0, learnt=coarse)[0].spacing == (1.6, 1.6, 1.6)
    assert plan(180, 7.0, learnt=coarse)[0].spacing == plan(180, 7.0)[0].spacing == (1.25, 1.25, 1.25)


def test_slices_go_on_with_those_of_their_model(plan):
    model = (2.0, 2.0, 0.0), (96, 96)
    timetable, _ = plan(15, 1.0, preset="cardiac-cine", learnt=model)
    assert (timetable.spacing, timetable.patch) == model


def test_what_was_set_by_hand_stays(plan):
    settings = build_settings("supervised", "left-atrium", overrides={"data.spacing": "1,1,1"})
    assert not at_preset(settings)
    assert at_preset(build_settings("supervised", "left-atrium"))
    timetable, settings = plan(15, 7.0, adaptable=False)
    assert settings.training.patch_size == (112, 112, 80)
    assert timetable.iterations == int(0.85 * 900 / (7e-6 * 112 * 112 * 80))


def test_slices_keep_their_size(plan):
    timetable, settings = plan(60, 1.0, preset="cardiac-cine")
    assert timetable.patch == settings.training.patch_size == (128, 128)
    assert settings.data.spacing == (1.5, 1.5, 0.0)


def test_too_little_time_says_so(plan):
    with pytest.raises(SettingsError, match="not even ten iterations"):
        plan(0.1, 100.0)


@pytest.mark.parametrize("method", ["supervised", "simcvd", "unimatch", "self-training", "action"])
def test_the_speed_of_every_kind_of_method_can_be_measured(method):
    settings = build_settings(method, "custom", overrides={"data.spacing": "1,1,1", "training.patch_size": "32,16,16"})
    settings.data.labels = [Label(1, "one", (1, 2, 3)), Label(2, "two", (4, 5, 6))]
    assert 0 < timing.measured_seconds(settings, CPU, (32, 16, 16)) < 60


def test_patches_are_drawn_while_iterations_are_measured(monkeypatch):
    """As in training: on few cores, or before a fast GPU, drawing decides how long an iteration takes."""
    settings = build_settings("unimatch", "custom", overrides={"data.spacing": "1,1,1"})
    settings.data.labels = [Label(1, "one", (1, 2, 3))]
    monkeypatch.setattr(timing, "_LONG", math.inf)  # as many on a slow machine, too
    drawn = []
    resampled = timing.PatchSampler._resampled
    monkeypatch.setattr(timing.PatchSampler, "_resampled", lambda *a: drawn.append(a[0].patch) or resampled(*a))
    timing.measured_seconds(settings, CPU, (32, 16, 16))
    iterations = timing._TIMED + 1
    assert drawn == iterations * (settings.training.labelled_batch + settings.training.unlabelled_batch) * [
        (32, 16, 16)
    ]


@pytest.mark.parametrize(("share", "stage"), [(0.7, "supervised"), (0.5, "weak to strong"), (0.2, "weak to strong")])
def test_the_stage_that_takes_most_of_the_time_is_measured(share, stage, make_method):
    method = make_method("unimatch", shares=(share, 1 - share))
    assert timing._timed_stage(method, Settings().training) == stage


@pytest.mark.parametrize(
    ("durations", "expected"),
    [
        ([50, 1, 1.1, 0.9, 1, 8], 1.0),  # the first warms up, the last was disturbed
        ([40, 4, 6, 5], 5.0),  # long ones are not repeated more than needed
    ],
)
def test_a_moment_of_other_work_does_not_decide(durations, expected, monkeypatch):
    settings = build_settings("supervised", "custom", overrides={"data.spacing": "1,1,1"})
    settings.training.patch_size = (32, 16, 16)
    settings.data.labels = [Label(1, "one", (1, 2, 3))]
    clock = iter(np.cumsum([0, *durations]).tolist())
    monkeypatch.setattr(timing.time, "monotonic", lambda: next(clock))
    assert timing.measured_seconds(settings, CPU, (32, 16, 16)) == pytest.approx(expected)
    assert next(clock, None) is None


@pytest.fixture
def little_memory(monkeypatch):
    """A function that makes a device whose memory holds so many patches; what it returns collects what was tried."""

    def make(settings, most):
        network, tried = type(build_method(settings).student), []
        whole = network.encode_whole

        def encode_whole(self, image):
            tried.append(len(image))
            if len(image) > most:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
            return whole(self, image)

        monkeypatch.setattr(network, "encode_whole", encode_whole)
        return tried

    return make


def supervised():
    settings = build_settings("supervised", "custom", overrides={"data.spacing": "1,1,1", "training.minutes": 60})
    settings.training.patch_size = (32, 16, 16)
    settings.training.labelled_batch = 2
    settings.data.labels = [Label(1, "one", (1, 2, 3))]
    return settings


def test_where_memory_is_short_the_speed_is_that_of_a_batch_in_parts(little_memory):
    """As training computes it then: a small GPU must not end the training before it has begun."""
    settings = supervised()
    tried = little_memory(settings, 1)
    assert timing.measured_seconds(settings, CPU, (32, 16, 16)) > 0
    assert tried[0] > 1
    assert tried[-10:] == 10 * [1]


def test_memory_for_no_patch_at_all_is_told_with_what_to_do(little_memory):
    settings = supervised()
    little_memory(settings, 0)
    with pytest.raises(SettingsError, match=r"one patch of 32 x 16 x 16 voxels.*--patch"):
        timing.plan_time(settings, CPU, False)
