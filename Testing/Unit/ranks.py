"""What the tests of training on several processes have torchrun start: jobs from a file, one after the other.

    torchrun --nproc_per_node=2 ranks.py FOLDER

FOLDER/jobs.json is a list of {"program": "train" or "predict", "arguments": [...], "pin": "", "frozen" or "double",
"stop_after": iteration or null}. Each process writes its outcome of every job to FOLDER/RANK.json.
"""

import hashlib
import json
import sys
from pathlib import Path

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from SemiSegLib import predict, train
from SemiSegLib.compute import distributed
from SemiSegLib.compute.torchrun import rank_and_world_size
from SemiSegLib.data.batch import Patches
from SemiSegLib.losses.contrastive import dimensional_info_nce, info_nce, symmetric_info_nce
from SemiSegLib.runs import RunFolder
from SemiSegLib.training import labelling, session, summary, trainer


class Job:
    """A training or prediction whose random dropout and batch statistics may be pinned."""

    def __init__(self, program, arguments, pin="", stop_after=None):
        self.program, self.arguments, self.pin, self.stop_after = program, arguments, pin, stop_after
        self.outcome = {}

    def run(self):
        """Exit code, and of a training a digest of the last state and the iteration it ended at."""
        if self.program == "predict":
            return {"code": predict.main(self.arguments)}
        kept = session.Trainer, Patches.to, summary.write_summary, labelling._label
        session.Trainer = self._trainer()
        summary.write_summary = lambda *arguments: None  # its pictures take longer than these trainings
        labelling._label = self._counted(labelling._label)
        if self.pin == "double":
            Patches.to = in_double(Patches.to)
        try:
            return {"code": train.main(self.arguments), **self.outcome}
        finally:
            session.Trainer, Patches.to, summary.write_summary, labelling._label = kept

    def _counted(self, label):
        """`label`, which notes the cases that this process labels."""
        self.outcome["labelled"] = []

        def labelled(networks, case, *rest):
            self.outcome["labelled"].append(case.name)
            return label(networks, case, *rest)

        return labelled

    def _trainer(self):
        job = self

        class Trainer(trainer.Trainer):
            def __init__(self, *arguments):
                super().__init__(*arguments)
                if job.pin:
                    pin_dropout(self.method)
                if job.pin == "frozen":
                    freeze_statistics(self.method)
                if job.pin == "double":
                    self.method.double()
                    self.average = self.average and self.average.double()
                if job.stop_after and rank_and_world_size()[0] == 0:
                    self.run.listeners.append(stop_after(self.run, job.stop_after))

            def run_to_end(self, stop):
                result = super().run_to_end(stop)
                job.outcome |= {"digest": digest(self.method), "iteration": self.iteration}
                return result

        return Trainer


def pin_dropout(method):
    """No value is ever dropped."""
    for module in method.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0


def freeze_statistics(method):
    """Batch norm stays in eval() mode, so that patches do not see each other."""
    for module in method.modules():
        if isinstance(module, _BatchNorm):
            module.eval()
            module.train = lambda mode=True, module=module: module


def in_double(to):
    """Patches with images in double precision."""

    def converted(patches, device):
        patches = to(patches, device)
        return Patches(patches.image.double(), patches.mask, patches.sdm, patches.frame)

    return converted


def stop_after(run, iteration):
    """A listener that asks for a stop once."""

    def listen(event):
        if event["event"] == "iteration" and event["iteration"] == iteration:
            run.request_stop()

    return listen


def digest(method):
    """Of every parameter and buffer."""
    result = hashlib.sha256()
    for value in method.state_dict().values():
        result.update(value.detach().cpu().contiguous().numpy().tobytes())
    return result.hexdigest()


def totals(path):
    """Total loss of every iteration of a run."""
    return [event["total"] for event in RunFolder.open(path).history() if event["event"] == "iteration"]


def contrasts(rows, keys):
    """Every contrastive loss of these rows, summed, and its gradient with respect to the rows."""
    rows = rows.clone().requires_grad_()
    total = info_nce(rows, keys, 0.1) + 2 * symmetric_info_nce(rows, keys, 0.5) + dimensional_info_nce(rows, keys, 0.5)
    total.backward()
    return total.detach(), rows.grad


def contrast_of_a_rank(rank, folder, parts):
    """What one of several processes computes of its part of (rows, keys); written to FOLDER/RANK.pt."""
    store = f"file://{(folder / 'store').as_posix()}"
    torch.distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=len(parts))
    torch.save(contrasts(*parts[rank]), folder / f"{rank}.pt")
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def main():
    folder = Path(sys.argv[1])
    outcomes = []
    with distributed.process_group():  # one for all: its addresses cannot be agreed upon twice
        for job in json.loads((folder / "jobs.json").read_text(encoding="utf-8")):
            outcomes.append(Job(**job).run())
    (folder / f"{rank_and_world_size()[0]}.json").write_text(json.dumps(outcomes))


if __name__ == "__main__":
    main()
