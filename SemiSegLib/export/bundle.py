"""A model as a MONAI bundle: the way from a scan to its mask as MONAI's configuration, the network as TorchScript."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
from pathlib import Path
from typing import Any

from SemiSegLib.config import DataSettings, InferenceSettings
from SemiSegLib.export.network import MULTIPLE, ExportError, describe, save_torchscript
from SemiSegLib.files import naming, replace, unfinished_folder
from SemiSegLib.models import Card, Model

_SCRIPTS = "scripts.semiseg_bundle"  # bundle_scripts.py, as the bundle knows it
# The import makes `from scripts import semiseg_bundle` work in configs: MONAI only looks for an attribute.
_INIT = '''"""Steps of this bundle that MONAI has no equal transform for."""

from scripts import semiseg_bundle as semiseg_bundle
'''
_REQUIRED = ("nibabel", "scipy", "SimpleITK")


def save_bundle(model: Model, folder: Path) -> None:
    """Write the bundle into a new folder, whole or not at all. Raises ExportError if the folder holds something.

    python -m monai.bundle run --config_file configs/inference.json --input SCANS      (in the folder)
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ExportError(f"{folder} exists already: name a new folder for the bundle.")
    made = unfinished_folder(folder.parent, f".{folder.name}")
    try:
        with naming(folder):
            _fill(model, made)
        if folder.exists():
            folder.rmdir()
        replace(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _fill(model: Model, folder: Path) -> None:
    for name in ("configs", "docs", "models", "scripts"):
        (folder / name).mkdir()
    save_torchscript(model, folder / "models" / "model.ts")
    source = Path(__file__).with_name("bundle_scripts.py").read_text(encoding="utf-8")
    for path, text in (
        ("configs/inference.json", json.dumps(inference_config(model.card), indent=2)),
        ("configs/metadata.json", json.dumps(metadata(model.card), indent=2)),
        ("docs/README.md", _readme(model.card)),
        ("scripts/__init__.py", _INIT),
        ("scripts/semiseg_bundle.py", source),
    ):
        (folder / path).write_text(text, encoding="utf-8", newline="\n")


def inference_config(card: Card) -> dict[str, Any]:
    """configs/inference.json: preprocessing, network, windows and post-processing of the model."""
    return {
        "imports": [
            "$from pathlib import Path",
            "$import numpy as np",
            "$import torch",
            "$from scripts import semiseg_bundle",
        ],
        "bundle_root": ".",
        "input": "input",
        "output_dir": "output",
        "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
        "files": "$[Path(@input)] if Path(@input).is_file() else Path(@input).iterdir()",
        "scans": "$sorted(p for p in @files if not p.name.startswith('.'))",
        "preprocessing": {"_target_": "Compose", "transforms": _preprocessing(card.settings.data)},
        "dataset": {
            "_target_": "Dataset",
            "data": "$[{'image': str(p), 'scan': str(p)} for p in @scans]",
            "transform": "@preprocessing",
        },
        "network_def": "$torch.jit.load(str(Path(@bundle_root) / 'models' / 'model.ts'), map_location=@device).eval()",
        "network": "$@network_def",
        "inferer": {"_target_": f"{_SCRIPTS}.Windows", **_windows(card)},
        "postprocessing": {"_target_": "Compose", "transforms": _postprocessing(card.settings)},
        "run": ["$semiseg_bundle.predict_all(@dataset, @network, @inferer, @postprocessing, @device)"],
    }


def _preprocessing(data: DataSettings) -> list[dict[str, Any]]:
    return [
        {"_target_": "LoadImaged", "keys": ["image", "scan"], "ensure_channel_first": True, "image_only": True},
        {"_target_": "EnsureTyped", "keys": "image", "dtype": "$torch.float32"},
        *_intensities(data),
        {"_target_": "Orientationd", "keys": "image", "axcodes": "LPS"},
        {"_target_": f"{_SCRIPTS}.ToSpacingd", "keys": "image", "spacing": data.spacing and list(data.spacing)},
    ]


def _intensities(data: DataSettings) -> list[dict[str, Any]]:
    """Window, then zero mean and unit sd of the whole scan or its tissue, or [0, 1]."""
    steps: list[dict[str, Any]] = []
    low, high = data.window or (None, None)
    unit = data.normalisation == "unit"
    if data.window:
        to = {"b_min": 0.0, "b_max": 1.0} if unit else {"b_min": low, "b_max": high}
        steps.append({"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": low, "a_max": high, **to})
        steps[-1]["clip"] = True
    elif unit:
        steps.append({"_target_": "ScaleIntensityd", "keys": "image", "minv": 0.0, "maxv": 1.0})
    if unit:
        return steps
    step = f"{_SCRIPTS}.NormaliseTissued" if data.normalisation == "tissue" else "NormalizeIntensityd"
    return [*steps, {"_target_": step, "keys": "image"}]


def _windows(card: Card) -> dict[str, Any]:
    inference: InferenceSettings = card.settings.inference
    return {
        "patch": list(card.settings.training.patch_size or ()),
        "overlap": inference.overlap,
        "stride": inference.stride and list(inference.stride),
        "whole": inference.window == "whole",
        "mirror": list(card.settings.augmentation.mirror_axes) if inference.mirror else [],
        "multiple": MULTIPLE,
    }


def _postprocessing(settings: Any) -> list[dict[str, Any]]:
    labels = settings.data.labels
    values = [0, *(label.value for label in labels)]
    dtype = "uint8" if max(values) < 256 else "uint16"
    kept = settings.inference.largest_component
    surest = [{"_target_": f"{_SCRIPTS}.SurestPartd", "keys": "pred"}] if kept and settings.inference.touching else []
    largest = [{"_target_": f"{_SCRIPTS}.LargestPartd", "keys": "pred"}] if kept else []
    return [
        {"_target_": f"{_SCRIPTS}.BackToScand", "keys": "pred", "scan": "scan"},
        *surest,
        {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
        *largest,
        {
            "_target_": "MapLabelValued",
            "keys": "pred",
            "orig_labels": list(range(len(values))),
            "target_labels": values,
            "dtype": f"$np.{dtype}",
        },
        {
            "_target_": "SaveImaged",
            "keys": "pred",
            "output_dir": "@output_dir",
            "output_postfix": "seg",
            "output_dtype": f"$np.{dtype}",
            "separate_folder": False,
            "resample": False,
        },
    ]


def metadata(card: Card) -> dict[str, Any]:
    """configs/metadata.json, after MONAI's schema of bundles."""
    settings = card.settings
    names = ", ".join(label.name for label in settings.data.labels)
    channels = {str(index): name for index, name in enumerate(["background", *(x.name for x in settings.data.labels)])}
    window = settings.data.window
    return {
        "version": "1.0.0",
        "changelog": {"1.0.0": f"exported by SemiSeg {card.semiseg_version}"},
        "monai_version": importlib.metadata.version("monai"),
        "pytorch_version": importlib.metadata.version("torch"),
        "numpy_version": importlib.metadata.version("numpy"),
        "required_packages_version": {name: importlib.metadata.version(name) for name in _REQUIRED},
        "name": f"Segmentation of {names}",
        "task": f"Segmentation of {names}",
        "description": card.notes or f"Trained by SemiSeg with the method {settings.method}.",
        "authors": "",
        "copyright": "",
        "intended_use": "Research only; masks are for a clinician to check.",
        "scores": card.scores,
        "network_data_format": {
            "inputs": {
                "image": {
                    "type": "image",
                    "format": "hounsfield" if window else "magnitude",
                    "num_channels": 1,
                    "spatial_shape": [f"{MULTIPLE}*n"] * settings.data.dimensions,
                    "dtype": "float32",
                    "value_range": [],
                    "is_patch_data": True,
                    "channel_def": {"0": "image"},
                }
            },
            "outputs": {
                "pred": {
                    "type": "probabilities",
                    "format": "segmentation",
                    "num_channels": len(channels),
                    "spatial_shape": [f"{MULTIPLE}*n"] * settings.data.dimensions,
                    "dtype": "float32",
                    "value_range": [0, 1],
                    "is_patch_data": True,
                    "channel_def": channels,
                }
            },
        },
    }


def _readme(card: Card) -> str:
    facts = "\n".join(f"* {name.replace('_', ' ')}: {value}" for name, value in describe(card).items() if value)
    return f"""# Segmentation of {", ".join(label.name for label in card.settings.data.labels)}

A MONAI bundle, exported by SemiSeg; SemiSeg is not needed to use it. In this folder, with a scan or a folder of scans:

    pip install monai fire {" ".join(_REQUIRED)}
    python -m monai.bundle run --config_file configs/inference.json --input SCANS --output_dir MASKS

Scans are NIfTI files; for NRRD, MetaImage or DICOM MONAI needs the package itk, too (`pip install itk`). Masks are
written on each scan's own grid. `preprocessing`, `network_def`, `inferer` and `postprocessing` in
configs/inference.json are the steps one by one; those in scripts/ have no equal in MONAI.

{facts}
"""
