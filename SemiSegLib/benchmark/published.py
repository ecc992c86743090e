"""Figures that papers and repositories report for the usual splits, each with its source and protocol.

They are here to be printed beside one's own, not to be mixed with them: all were measured on other cases (the official
test set), distances are in voxels, and "ASD" is medpy's one-directional distance or its symmetric sister, depending on
the code behind the paper. The same method differs by several points between sources. CVRL's figures are not here: no
source for them could be read.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Where figures come from."""

    name: str
    reference: str
    protocol: str


@dataclass(frozen=True)
class Published:
    """One row: DSC and Jaccard in %, ASD and 95 % Hausdorff distance in voxels; None where not reported."""

    dataset: str
    labelled: int
    method: str
    dsc: float
    jaccard: float | None
    asd: float | None
    hd95: float | None
    source: Source


_LA = "LA: 80 training and 20 test cases of the 2018 challenge, 0.625 mm, patches of 112x112x80."
_ACDC = "ACDC: 70 training and 20 test patients, slices of 256x256, mean over 3 classes."

SIMCVD = Source(
    "SimCVD",
    "You et al., IEEE TMI 41(9):2228-2237, 2022, Table I.",
    f"{_LA} 6,000 iterations, last model, no post-processing.",
)
DTC = Source(
    "DTC",
    "Luo et al., AAAI 2021, table in the README of the code (HiLab-git/DTC).",
    f"{_LA} 6,000 iterations; the code keeps the largest component by default.",
)
MCNET = Source(
    "MC-Net+",
    "Wu et al., scores of the released models beside the code (ycwu1997/MC-Net, performance.txt).",
    f"{_LA} {_ACDC}",
)
ACTION = Source(
    "ACTION",
    "You et al., IPMI 2023; taken from notes on the paper, not from the paper itself.",
    f"{_ACDC} 30,000 iterations in each stage, last model.",
)
ARCO = Source(
    "ARCO",
    "You et al., NeurIPS 2023 (arXiv 2302.01735), Tables 1 and 9: methods run again by ACTION's authors.",
    f"{_LA} {_ACDC}",
)

_Figures = tuple[str, float, float | None, float | None, float | None]  # method, DSC, Jaccard, ASD, HD95


def _rows(dataset: str, labelled: int, source: Source, *figures: _Figures) -> list[Published]:
    return [Published(dataset, labelled, *row, source) for row in figures]


def _arco(dataset: str, labelled: int, **figures: tuple[float, float]) -> list[Published]:
    names = {"full": "all labels", "labelled_only": "labelled only"}
    return [
        Published(dataset, labelled, names.get(method, method.replace("_", "-")), dsc, None, asd, None, ARCO)
        for method, (dsc, asd) in figures.items()
    ]


PUBLISHED: tuple[Published, ...] = (
    *_rows(
        "left-atrium", 8, SIMCVD,
        ("V-Net, labelled only", 79.99, 68.12, 5.48, 21.11),
        ("DAN", 75.11, 63.47, 3.57, 19.04),
        ("CPS", 84.09, 73.17, 2.41, 22.55),
        ("MT", 84.24, 73.26, 2.71, 19.41),
        ("Entropy-min", 85.90, 75.60, 2.74, 18.65),
        ("UA-MT", 84.25, 73.48, 3.36, 13.84),
        ("ICT", 85.39, 74.84, 2.88, 17.45),
        ("SASSNet", 86.81, 76.92, 3.94, 12.54),
        ("DTC", 87.49, 78.03, 2.37, 9.06),
        ("GLCon", 84.95, 74.77, 3.70, 10.68),
        ("SimCVD", 89.03, 80.34, 2.59, 8.34),
    ),
    *_rows(
        "left-atrium", 16, SIMCVD,
        ("V-Net, all 80 labels", 91.14, 83.82, 1.52, 5.75),
        ("V-Net, labelled only", 86.03, 76.06, 3.51, 14.26),
        ("DAN", 87.52, 78.29, 2.42, 9.01),
        ("CPS", 87.87, 78.61, 2.16, 12.87),
        ("MT", 88.42, 79.45, 2.73, 13.07),
        ("Entropy-min", 88.45, 79.51, 3.72, 14.14),
        ("UA-MT", 88.88, 80.21, 2.26, 7.32),
        ("ICT", 89.02, 80.34, 1.97, 10.38),
        ("SASSNet", 89.27, 80.82, 3.13, 8.83),
        ("DTC", 89.42, 80.98, 2.10, 7.32),
        ("GLCon", 89.94, 81.82, 2.66, 7.23),
        ("SimCVD", 90.85, 83.80, 1.86, 6.03),
    ),
    *_rows(
        "left-atrium", 8, DTC,
        ("UA-MT", 84.25, 73.48, 3.36, 13.84),
        ("SASSNet", 87.32, 77.72, 2.55, 9.62),
        ("DTC", 87.51, 78.17, 2.36, 8.23),
        ("MC-Net", 87.71, 78.31, 2.18, 9.36),
    ),
    *_rows(
        "left-atrium", 16, DTC,
        ("UA-MT", 88.88, 80.21, 2.26, 7.32),
        ("SASSNet", 89.54, 81.24, 2.20, 8.24),
        ("DTC", 89.42, 80.98, 2.10, 7.32),
        ("MC-Net", 90.34, 82.48, 1.77, 6.00),
    ),
    *_rows("left-atrium", 8, MCNET, ("MC-Net+", 88.96, 80.25, 1.86, 7.93)),
    *_rows("left-atrium", 16, MCNET, ("MC-Net+", 91.07, 83.67, 1.67, 5.84)),
    *_arco(
        "left-atrium", 8,
        full=(91.5, 1.51), labelled_only=(82.7, 3.26), MT=(82.8, 5.90), UA_MT=(87.8, 2.12), SASSNet=(87.5, 2.59),
        DTC=(87.1, 2.23), URPC=(83.1, 4.57), CPS=(80.7, 5.16), GCL=(84.8, 4.22), MC_Net=(87.6, 1.82),
        SS_Net=(88.6, 1.90), ACTION=(88.7, 2.10), MONA=(89.5, 2.40),
    ),
    *_rows(
        "cardiac-cine", 3, ACTION,
        ("GCL", 70.6, None, 2.24, None),
        ("SCS", 73.6, None, 5.37, None),
        ("ACTION", 87.5, None, 1.12, None),
    ),
    *_rows(
        "cardiac-cine", 7, ACTION,
        ("GCL", 87.0, None, 0.751, None),
        ("SCS", 84.2, None, 2.01, None),
        ("ACTION", 89.7, None, 0.736, None),
    ),
    *_arco(
        "cardiac-cine", 3,
        full=(91.5, 0.996), labelled_only=(51.7, 13.1), MT=(58.3, 11.2), UA_MT=(48.3, 9.14), SASSNet=(57.8, 6.36),
        DTC=(56.9, 7.59), URPC=(58.9, 8.14), CPS=(61.0, 2.92), GCL=(70.6, 2.24), MC_Net=(62.8, 2.59),
        SS_Net=(65.8, 2.28), ACTION=(86.6, 1.20), MONA=(86.9, 1.07),
    ),
    *_arco(
        "cardiac-cine", 7,
        full=(91.5, 0.996), labelled_only=(79.5, 2.73), MT=(80.1, 2.33), UA_MT=(81.8, 4.04), SASSNet=(84.7, 1.83),
        DTC=(84.3, 4.04), URPC=(83.1, 1.68), CPS=(78.8, 3.41), GCL=(87.0, 0.751), MC_Net=(86.5, 1.89),
        SS_Net=(86.8, 1.40), ACTION=(87.2, 1.47), MONA=(87.7, 1.33),
    ),
    *_rows("cardiac-cine", 7, MCNET, ("MC-Net+", 87.10, 78.06, 2.00, 6.68)),
)  # fmt: skip


def published_for(dataset: str, labelled: int) -> list[Published]:
    """Rows for a preset and a number of labelled scans (patients, for cardiac-cine), grouped by source."""
    return [entry for entry in PUBLISHED if (entry.dataset, entry.labelled) == (dataset, labelled)]
