"""Testing/Benchmarks/annotate.py on tiny scans: minutes worked by hand, slices as drawn, gone on with."""

import numpy as np
import pytest
import SimpleITK as sitk

from SemiSegLib.runs import RunFolder, read_json, write_json
from SemiSegLib.synthetic import make_dataset
from SemiSegLib.training.intent import Intent
from SemiSegLib.training.trainer import Trainer

TINY = {
    "training.iterations": 1,
    "training.patch_size": "32,16,16",
    "training.precision": "fp32",
    "training.device": "cpu",
    "training.threads": 1,
    "data.spacing": "3.75,3.75,5",
    "inference.mirror": "false",
}


@pytest.fixture(scope="module")
def annotate(benchmark_script):
    return benchmark_script("annotate")


@pytest.fixture(scope="module")
def correct(annotate, benchmark_script):
    return benchmark_script("correct")  # which imports annotate


def options(data, folder):
    sets = [part for key, value in TINY.items() for part in ("--set", f"{key}={value}")]
    where = ["--out", str(folder / "work"), "--results", str(folder / "results")]
    task = ["--data", str(data), "--splits", f"{data / 'splits.json'}:demo", "--preset", "left-atrium"]
    return ["left-atrium", *task, *where, *sets, "--method", "supervised", "--starts", "1", "--cases", "1"]


def test_minutes_are_those_of_slices_with_something_to_draw(annotate):
    mask = np.zeros((4, 4, 10), np.uint8)
    mask[1, 1, 3:7] = 1
    costs = annotate.Costs(drawn=60, corrected=30, looked_at=6)
    assert costs.minutes(mask, range(10), corrected=False) == pytest.approx(4 + 6 * 0.1)
    assert costs.minutes(mask, [3, 6, 9], corrected=False) == pytest.approx(2 + 8 * 0.1)
    assert costs.minutes(mask, [3, 6, 9], corrected=True) == pytest.approx(1 + 8 * 0.1)
    assert annotate.Costs.of("left-atrium").corrected == pytest.approx(0.6 * annotate.Costs.of("left-atrium").drawn)


def test_a_mask_keeps_only_some_slices(annotate):
    mask = np.arange(24).reshape(2, 4, 3)
    kept = annotate.kept_slices(mask, [2, 0], 255)
    assert (kept[..., [0, 2]] == mask[..., [0, 2]]).all()
    assert (kept[..., 1] == 255).all()


def test_rounds_are_annotated_trained_scored_and_not_repeated(annotate, tmp_path):
    data = make_dataset(tmp_path / "data", cases=5, labelled=4, validation=1, size=(32, 32, 16))
    command = ["run", *options(data, tmp_path), "--ways", "slices-random", "slices-corrected"]
    command += ["--rounds", "2", "--slices", "3"]
    annotate.main(command)
    result, other = sorted((tmp_path / "results").iterdir())
    content = read_json(result)
    assert result.name == "left-atrium-slices-corrected-power-start1.json"
    assert read_json(other)["points"][0] == content["points"][0]  # drawn alike, trained once
    assert [point["cases"] for point in content["points"]] == [1, 2]
    costs, spent = annotate.Costs.of("left-atrium"), 0.0
    work = tmp_path / "work" / "left-atrium-slices-corrected-power-start1"
    folders = [tmp_path / "work" / "left-atrium-slices-start1", work / "round1"]
    before: set[str] = set()
    for number, folder in enumerate(folders):
        cases = {case["name"] for case in read_json(folder / "cases.json")["labelled"]}
        [new], before = cases - before, cases
        drawn = sitk.GetArrayFromImage(sitk.ReadImage(work / "labels" / f"{new}.nii.gz"))
        truth = sitk.GetArrayFromImage(sitk.ReadImage(data / "labels" / f"{new}.nii.gz"))
        slices = [z for z in range(16) if (drawn[z] != 255).any()]
        assert len(slices) == 3
        assert (drawn[slices] == truth[slices]).all()
        spent += costs.minutes(truth.T, slices, corrected=number > 0)
        assert content["points"][number]["minutes"] == pytest.approx(spent)
        assert 0 <= content["points"][number]["dsc"] <= 1
    stamps = {file: file.stat().st_mtime_ns for file in work.parent.rglob("*.safetensors")}
    assert len({file.parent for file in stamps}) == 3
    annotate.main(command)
    assert read_json(result) == content
    with pytest.raises(SystemExit, match=r"start1\.json has other training: name another folder with --results"):
        annotate.main([*command, "--method", "mean-teacher"])
    with pytest.raises(SystemExit, match=r"was not trained by mean-teacher, instance normalisation: .*--out"):
        annotate.main([*command, "--method", "mean-teacher", "--results", str(tmp_path / "others")])
    assert stamps == {file: file.stat().st_mtime_ns for file in work.parent.rglob("*.safetensors")}


def test_a_correction_is_trained_from_the_model_before_and_compared_on_all_scans(annotate, correct, tmp_path):
    data = make_dataset(tmp_path / "data", cases=5, labelled=4, validation=1, size=(32, 32, 16))
    command = [*options(data, tmp_path), "--more", "1", "--rounds", "supervised:2:0.05", "unimatch:2:0.01:shares=1,1"]
    correct.main(command)
    [result] = (tmp_path / "results").iterdir()
    content = read_json(result)
    base = RunFolder(tmp_path / "work" / "left-atrium-volumes-start1")
    assert content["before"] == correct.validation(base)
    work = tmp_path / "work" / "left-atrium-volumes-corrected-power-start1"
    cases = annotate.annotatable(data, f"{data}/splits.json:demo")
    person = annotate.Session("volumes-corrected", 1, work, cases, strategy="power")
    for text, scores in content["rounds"].items():
        run = correct.round_folder(person, text)
        assert Intent.read(run).initial_model() == base.last_model
        assert scores["after"].keys() == content["before"].keys()
        assert list(scores["corrected"]) == content["corrected"]
        assert len(read_json(run.cases_file)["labelled"]) == 2
    assert read_json(run.settings_file)["training"]["learning_rate"] == 0.01
    written = result.stat().st_mtime_ns
    correct.main(command)
    assert result.stat().st_mtime_ns == written


def test_a_training_that_is_stopped_is_not_taken_for_a_round(annotate, tmp_path, monkeypatch):
    step = Trainer.step

    def stopped(self, batch):
        step(self, batch)
        self.run.stop_file.touch()

    data = make_dataset(tmp_path / "data", cases=5, labelled=4, validation=1, size=(32, 32, 16))
    command = ["run", *options(data, tmp_path), "--ways", "volumes-random", "--rounds", "1"]
    monkeypatch.setattr(Trainer, "step", stopped)
    with pytest.raises(SystemExit, match=r"volumes-start1 was stopped: the same command goes on"):
        annotate.main([*command, "--set", "training.iterations=3"])
    monkeypatch.undo()
    annotate.main([*command, "--set", "training.iterations=3"])
    [point] = read_json(next((tmp_path / "results").iterdir()))["points"]
    assert point["cases"] == 1


def test_curves_are_of_one_way_and_one_training_each(annotate, tmp_path):
    first = {"way": "slices", "training": "a", "points": [{"minutes": 1, "dsc": 0.5}]}
    contents = [first, first | {"training": "b"}, first | {"points": [{"minutes": 2, "dsc": 0.6}]}]
    for number, content in enumerate(contents):
        write_json(tmp_path / f"task-{number}.json", content)
    curves = annotate.curves_of(sorted(tmp_path.iterdir()))
    assert {key: [starts[0]["minutes"] for starts in found] for key, found in curves.items()} == {
        ("slices", "a"): [1, 2],
        ("slices", "b"): [1],
    }


def test_means_are_of_rounds_that_all_starts_came_to(annotate):
    long = [{"cases": 8, "minutes": 40, "dsc": 0.8}, {"cases": 16, "minutes": 80, "dsc": 0.9}]
    short = [{"cases": 16, "minutes": 90, "dsc": 0.7}]
    assert annotate.mean_curve([long, short]) == ([85], [pytest.approx(0.8)])
