"""Only the annotated scans are used: the baseline that every other method must beat.

L = (CE + Dice) / 2 on the labelled patches (UA-MT's code, also V-Net's row in the papers' tables).
"""

from __future__ import annotations

from dataclasses import dataclass

from SemiSegLib.config import setting
from SemiSegLib.losses.segmentation import output_loss
from SemiSegLib.methods import base
from SemiSegLib.methods.base import Batch, Plan, Term
from SemiSegLib.schedules import Step


@dataclass
class MethodSettings:
    """How the batch is used."""

    fill: bool = setting(
        False, "labelled patches also in the places of the unlabelled ones, so that the batch is as large as others'"
    )


# Batch normalisation is as good as instance normalisation or better here, and it stands scans with more around the
# organ than those learnt from, on which the other finds nothing (left atrium; Testing/Benchmarks).
STRONG_DEFAULTS = {"method_settings.fill": True, "network.normalisation": "batch"}


class Method(base.Method):
    """Supervised training of the literature's network."""

    settings: MethodSettings
    needs_unlabelled = False

    def __init__(self, settings: MethodSettings, plan: Plan) -> None:
        super().__init__(settings, plan)
        self.student = plan.build_network()

    def patches(self, stage: str, labelled: int, unlabelled: int) -> tuple[int, int]:
        """Labelled patches alone."""
        return (labelled + unlabelled if self.settings.fill else labelled), 0

    def losses(self, batch: Batch, step: Step) -> dict[str, Term]:
        """The supervised term alone."""
        return {"supervised": Term(output_loss(self.student(batch.labelled.image), batch.labelled.mask))}
