"""Exported models give the same masks in a process that has no SemiSeg."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from monai.bundle import ConfigParser

from SemiSegLib.compute.devices import choose_compute
from SemiSegLib.config import Label
from SemiSegLib.data.images import read_image
from SemiSegLib.export.__main__ import main
from SemiSegLib.export.bundle import inference_config
from SemiSegLib.inference.predictor import Predictor
from SemiSegLib.models import Card, load_model, save_model
from SemiSegLib.networks import build_network
from SemiSegLib.presets import build_settings

ALONE = "import sys; sys.modules['SemiSegLib'] = None\n"  # any import of it now fails
RUN_BUNDLES = """
import os, warnings
import numpy as np, torch
from monai.bundle import ConfigParser, run
from monai.data import MetaTensor
warnings.simplefilter("ignore")
torch.set_num_threads(1)
sys.path.insert(0, "")
for folder in sys.argv[1:]:
    os.chdir(folder)
    parser = ConfigParser()
    parser.read_config("configs/inference.json")
    parser.read_meta("configs/metadata.json")
    parser["input"], parser["device"] = "../scan.nii.gz", torch.device("cpu")
    [item] = parser.get_parsed_content("dataset")
    network, inferer = parser.get_parsed_content("network_def"), parser.get_parsed_content("inferer")
    maps = MetaTensor(inferer(item["image"].as_tensor()[None], network)[0], affine=item["image"].affine)
    back = parser.get_parsed_content("postprocessing").transforms[0]
    np.save("../probabilities.npy", np.asarray(back({**item, "pred": maps})["pred"]))
    files = {"config_file": "configs/inference.json", "meta_file": "configs/metadata.json"}
    run(**files, input="../scan.nii.gz", output_dir="../masks", device="$torch.device('cpu')")
"""


def alone(code, *arguments, cwd):
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-c", ALONE + code, *map(str, arguments)]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def make_model(path, dimensions=3, **overrides):
    """A network with random weights and batch statistics that answers differently everywhere."""
    torch.manual_seed(0)
    labels = [Label(2, "a", (255, 0, 0)), Label(300 if dimensions == 3 else 5, "b", (0, 255, 0))]
    settings = build_settings(
        "supervised",
        overrides={
            "data.labels": labels,
            "data.dimensions": dimensions,
            "training.patch_size": (16, 32, 16)[:dimensions],
            "training.precision": "fp32",
            "training.threads": 1,
            "network.normalisation": "batch",
            "network.deep_supervision": False,
            **overrides,
        },
    )
    network = build_network(dimensions, 3, True, settings.network)
    for name, buffer in network.named_buffers():
        if name.endswith("running_var"):
            buffer.uniform_(0.05, 0.3)
    with torch.no_grad():
        if settings.network.architecture == "papers":  # dynunet begins with weights that are large enough
            network.mask_head.weight.mul_(8)
    save_model(path, network, Card(settings, True, 0, notes="random"))
    return path


CASES = {
    "resampled, oblique, in windows": (3, {"data.spacing": (1.3, 1.1, 2.5)}, True),
    "window of intensities, evenly blended": (
        3,
        {"data.window": (-20, 90), "data.normalisation": "tissue", "inference.stride": (16, 16, 8)},
        False,
    ),
    "another network than the papers'": (
        3,
        {
            "network.architecture": "dynunet",
            "network.normalisation": "instance",
            "network.deep_supervision": True,
            "network.dropout": 0.0,
            "training.patch_size": (32, 48, 32),  # two voxels alone, normalised, would be a sign each
        },
        False,
    ),
    "mirrored, largest part, unit": (
        3,
        {
            "data.normalisation": "unit",
            "inference.mirror": True,
            "augmentation.mirror_axes": (0, 2),
            "inference.largest_component": True,
        },
        False,
    ),
    "in one piece": (3, {"inference.window": "whole", "data.window": (0, 80), "data.normalisation": "unit"}, True),
    "slice by slice, touching parts": (
        2,
        {"data.spacing": (1.5, 1.5, 0.0), "inference.largest_component": True, "inference.touching": True},
        True,
    ),
}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """By case, a folder with model, scan, bundle, and what the bundle made of the scan: all in one foreign process."""
    root, folders = tmp_path_factory.mktemp("bundles"), []
    for number, (dimensions, overrides, oblique) in enumerate(CASES.values()):
        folder = root / str(number)
        folder.mkdir()
        model = make_model(folder / "model.safetensors", dimensions, **overrides)
        sitk.WriteImage(scan_of_noise(oblique), folder / "scan.nii.gz")
        assert main([str(model), str(folder / "bundle")]) == 0
        folders.append(folder)
    alone(RUN_BUNDLES, *(folder / "bundle" for folder in folders), cwd=root)
    return dict(zip(CASES, folders, strict=True))


def scan_of_noise(oblique):
    grid = sitk.GetImageFromArray(np.random.default_rng(0).normal(40, 30, (21, 37, 29)).astype(np.float32))
    grid.SetSpacing((1.1, 0.9, 1.4))
    grid.SetOrigin((-20.0, 30.0, 7.0))
    grid.SetDirection((0.96, 0.0, -0.28, 0.28, 0.0, 0.96, 0.0, -1.0, 0.0) if oblique else (-1, 0, 0, 0, 1, 0, 0, 0, 1))
    return sitk.RecursiveGaussian(grid, sigma=1.5)


@pytest.mark.parametrize("case", CASES)
def test_a_bundle_gives_the_same_mask_without_semiseg(case, bundles):
    folder = bundles[case]
    scan, model = read_image(folder / "scan.nii.gz"), load_model(folder / "model.safetensors")
    ours = Predictor(model, choose_compute("cpu", "fp32", 1))(scan)
    theirs = np.load(folder / "probabilities.npy")
    assert ours.probabilities.std() > 0.05  # the network says something
    np.testing.assert_allclose(theirs[1:], ours.probabilities, atol=1e-3)
    written = sitk.ReadImage(folder / "masks" / "scan_seg.nii.gz")
    assert written.GetSize() == scan.GetSize()
    np.testing.assert_allclose(written.GetDirection(), scan.GetDirection(), atol=1e-5)
    np.testing.assert_allclose(written.GetOrigin(), scan.GetOrigin(), atol=1e-4)
    mask, wanted = sitk.GetArrayFromImage(written), sitk.GetArrayFromImage(ours.mask)
    assert {0} < set(np.unique(wanted)) <= {0, *(label.value for label in model.card.settings.data.labels)}
    assert (mask != wanted).mean() < 1e-3


def test_a_bundle_runs_as_its_readme_says(bundles, tmp_path):
    """In a process of its own, in which nothing of the bundle was imported before; `python -m monai.bundle run` hands
    its arguments to this function (by the package fire)."""
    folder = bundles["mirrored, largest part, unit"]
    run = "from monai.bundle import run\nsys.path.insert(0, '')\nrun(config_file='configs/inference.json', input="
    alone(f"{run}'../scan.nii.gz', output_dir={str(tmp_path)!r})", cwd=folder / "bundle")
    masks = [sitk.GetArrayFromImage(sitk.ReadImage(f / "scan_seg.nii.gz")) for f in (tmp_path, folder / "masks")]
    assert (masks[0] == masks[1]).all()


def test_a_bundle_predicts_the_other_scans_when_one_cannot_be_read(bundles, tmp_path):
    """As `semiseg predict` does: the broken one is named in the end."""
    folder = bundles["mirrored, largest part, unit"]
    (tmp_path / "scans").mkdir()
    stored = (folder / "scan.nii.gz").read_bytes()
    for name, content in (("a.nii.gz", stored), ("b.nii.gz", stored[: len(stored) // 2]), ("c.nii.gz", stored)):
        (tmp_path / "scans" / name).write_bytes(content)
    scans, masks = str(tmp_path / "scans"), str(tmp_path)
    told = alone(
        "from monai.bundle import run\nsys.path.insert(0, '')\ntry:\n"
        f"    run(config_file='configs/inference.json', input={scans!r}, output_dir={masks!r})\n"
        "except Exception as error:\n    print(error, error.__cause__)\n",
        cwd=folder / "bundle",
    )
    assert sorted(path.name for path in tmp_path.glob("*_seg.nii.gz")) == ["a_seg.nii.gz", "c_seg.nii.gz"]
    assert "1 of 3 scans" in told
    assert "b.nii.gz" in told
    assert "a.nii.gz" not in told


def test_a_bundle_passes_over_hidden_files(tmp_path):
    """macOS leaves .DS_Store in every folder that was looked at, and ._NAME beside files on other disks."""
    for name in ("b.nii.gz", "a.nrrd", ".DS_Store", "._a.nrrd"):
        (tmp_path / name).touch()
    card = load_model(make_model(tmp_path / ".model.safetensors", 3)).card
    parsed = ConfigParser({**inference_config(card), "input": str(tmp_path)})
    assert [path.name for path in parsed.get_parsed_content("scans")] == ["a.nrrd", "b.nii.gz"]


@pytest.mark.parametrize("dimensions", [2, 3])
def test_torchscript_gives_the_same_probabilities_for_any_sides(dimensions, tmp_path):
    model = make_model(tmp_path / "model.safetensors", dimensions)
    assert main([str(model), str(tmp_path / "model.ts"), "--format", "torchscript"]) == 0
    image = torch.randn(2, 1, *(48, 16, 32)[:dimensions])
    np.save(tmp_path / "image.npy", image)
    code = (
        "import json, numpy as np, torch\nextra = {'semiseg.json': ''}\n"
        "network = torch.jit.load('model.ts', _extra_files=extra)\n"
        "with torch.inference_mode(): np.save('found.npy', network(torch.from_numpy(np.load('image.npy'))))\n"
        "print(json.loads(extra['semiseg.json'])['labels'][0]['name'])"
    )
    assert alone(code, cwd=tmp_path) == "a\n"
    with torch.inference_mode():
        wanted = load_model(model).network()(image).probabilities
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), wanted, atol=1e-4)


@pytest.mark.skipif(not all(map(find_spec, ("onnx", "onnxscript", "onnxruntime"))), reason="needs onnx and onnxruntime")
@pytest.mark.parametrize("dimensions", [2, 3])
def test_onnx_gives_the_same_probabilities_for_any_sides(dimensions, tmp_path):
    import onnxruntime

    model = make_model(tmp_path / "model.safetensors", dimensions)
    assert main([str(model), str(tmp_path / "model.onnx"), "--format", "onnx"]) == 0
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    image = torch.randn(2, 1, *(48, 16, 32)[:dimensions])
    [found] = session.run(None, {"image": image.numpy()})
    with torch.inference_mode():
        wanted = load_model(model).network()(image).probabilities
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    described = json.loads(session.get_modelmeta().custom_metadata_map["semiseg"])
    assert [label["value"] for label in described["labels"]] == [
        label.value for label in load_model(model).card.settings.data.labels
    ]


@pytest.mark.skipif(find_spec("onnx") is not None, reason="onnx is here")
def test_onnx_says_what_it_needs(tmp_path, capsys):
    model = make_model(tmp_path / "model.safetensors")
    assert main([str(model), str(tmp_path / "model.onnx"), "--format", "onnx"]) == 2
    assert "pip install onnx onnxscript" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_bundle_is_written_though_its_files_are_held_for_a_moment(held_for_a_moment, tmp_path, monkeypatch):
    """On Windows a folder cannot be renamed while a virus scanner reads a file in it; nor does PyTorch write a file of
    its own below a folder with an umlaut."""
    model = make_model(tmp_path / "model.safetensors")

    def refuse(self, name, *arguments, **options):
        raise RuntimeError(f"{name} cannot be opened")

    monkeypatch.setattr(torch.jit.ScriptModule, "save", refuse)
    (tmp_path / "Müller").mkdir()
    assert main([str(model), str(tmp_path / "Müller" / "bundle")]) == 0
    assert [path.name for path in (tmp_path / "Müller").iterdir()] == ["bundle"]
    assert (tmp_path / "Müller" / "bundle").stat().st_mode == (tmp_path / "Müller").stat().st_mode


def test_a_bundle_never_replaces_anything_and_leaves_no_litter(tmp_path, capsys):
    model = make_model(tmp_path / "model.safetensors")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "work.txt").write_text("mine")
    assert main([str(model), str(tmp_path / "bundle")]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["nowhere", str(tmp_path / "other")]) == 2
    assert "no model nowhere" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "model.safetensors"]
    assert main([str(model), str(tmp_path / "new")]) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "model.safetensors", "new"]
    assert Path(tmp_path / "new" / "models" / "model.ts").stat().st_size > 1e6
