"""How much computing a cell may take, and by which recipe; the table to edit is here.

`lite` and `paper` train as published, on a CPU and on a GPU; `strong` by our own recipe, about a quarter of an hour on
two CPU cores: 3,600 iterations of four patches on the left atrium (0.5 s each with one thread). Values are written as
on the command line. What is not named stays as the preset and the method say.
"""

from __future__ import annotations

BUDGETS: dict[str, dict[str, dict[str, str]]] = {
    "lite": {
        "left-atrium": {
            "data.spacing": "1.6,1.6,1.6",
            "training.patch_size": "48,48,32",
            "training.iterations": "1500",
            "training.foreground_fraction": "0",  # uniform crops and no post-processing, as in the papers
            "inference.largest_component": "false",
        },
        "cardiac-cine": {
            "data.spacing": "2,2,0",
            "training.patch_size": "96,96",
            "training.iterations": "2000",
            "training.labelled_batch": "4",
            "training.unlabelled_batch": "4",
        },
        "pancreas": {
            "data.spacing": "2,2,2",
            "training.patch_size": "48,48,48",
            "training.iterations": "1500",
            "training.foreground_fraction": "0",
            "inference.largest_component": "false",
        },
        "abdomen-ct": {
            "data.spacing": "4,4,4",
            "training.patch_size": "64,64,48",
            "training.iterations": "1500",
            "training.foreground_fraction": "0",
            "inference.largest_component": "false",
        },
        "custom": {"training.iterations": "1500"},
    },
    "strong": {
        "left-atrium": {
            "data.spacing": "1.6,1.6,1.6",
            "training.patch_size": "48,48,32",
            "training.iterations": "3600",
        },
        "cardiac-cine": {
            "data.spacing": "1.5,1.5,0",
            "training.patch_size": "128,128",
            "training.iterations": "4000",
            "training.labelled_batch": "6",
            "training.unlabelled_batch": "6",
        },
        "pancreas": {
            "data.spacing": "2,2,2",
            "training.patch_size": "48,48,48",
            "training.iterations": "3600",
        },
        "abdomen-ct": {
            "data.spacing": "4,4,4",
            "training.patch_size": "64,64,48",
            "training.iterations": "4000",
            "training.unlabelled_batch": "1",
        },
        "custom": {"training.iterations": "3600"},
    },
    "paper": {
        "left-atrium": {  # UA-MT's protocol, which SimCVD and the others follow: the preset's 0.625 mm, 112x112x80
            "training.iterations": "6000",
            "training.foreground_fraction": "0",
            "inference.largest_component": "false",
            "inference.stride": "18,18,4",
        },
        "cardiac-cine": {  # SSL4MIS's protocol; 12 + 12 slices, poly schedule and rotations are the preset's
            "data.normalisation": "unit",
            "training.patch_size": "256,256",
            "training.iterations": "30000",
            "training.foreground_fraction": "0",
        },
        "pancreas": {  # SimCVD's protocol: the preset's 1 mm, 96x96x96
            "training.iterations": "6000",
            "training.foreground_fraction": "0",
            "inference.largest_component": "false",
            "inference.stride": "16,16,16",
        },
        "abdomen-ct": {},  # no paper's: the preset's 2 x 2 x 3 mm, 128x128x64
        "custom": {},
    },
}

# Settings of single methods: budget, method, key, value, reason.
SCALED: tuple[tuple[str, str, str, str, str], ...] = (
    (
        "lite",
        "simcvd",
        "method_settings.ema_decay",
        "0.996",
        "the teacher averages over a sixth of the training, as the paper's 0.999 does in 6,000 iterations",
    ),
    (
        "lite",
        "action",
        "method_settings.shares",
        "[1, 1, 10]",
        "a short training needs its steps for the last stage; action:shares=[0,0,1] leaves the others out",
    ),
    *(
        (
            "lite",
            "action",
            f"method_settings.{name}",
            value,
            "a quarter of the paper's voxels for patches that have less than a tenth of its voxels; with all of them "
            "the contrast takes longer on a CPU than the networks",
        )
        for name, value in (("queries", "64"), ("keys", "128"), ("negatives", "128"))
    ),
    (
        "paper",
        "action",
        "method_settings.teacher_temperature",
        "0.01",
        "the paper's; the default is for short trainings",
    ),
    *(
        (
            "lite",
            "bcp",
            f"training.{part}_batch",
            "4",
            "as in the paper: two patches become one, so the student sees four, as with the other methods' 2 + 2",
        )
        for part in ("labelled", "unlabelled")
    ),
)


def budget_settings(budget: str, dataset: str, method: str) -> dict[str, str]:
    """Dotted settings of one method under a budget, its recipe among them; `dataset` is the preset's name."""
    recipe = {"recipe": "strong" if budget == "strong" else "published"}
    scaled = {key: value for name, whose, key, value, _ in SCALED if (name, whose) == (budget, method)}
    return recipe | BUDGETS[budget][dataset] | scaled
