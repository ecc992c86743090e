"""MLflow: RUN/trackers/mlflow.db unless MLFLOW_TRACKING_URI names a server (`mlflow ui --backend-store-uri sqlite:///…`)."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from typing import Any

from SemiSegLib.runs import RunFolder, read_json, write_json
from SemiSegLib.tracking.tracker import flat, settings_of

EXPERIMENT = "semiseg"
STATUS = {"finished": "FINISHED", "stopped": "KILLED", "failed": "FAILED"}
LONGEST = 500  # characters of a parameter that every version of MLflow takes
MOST = 100  # parameters at once


class MLflow:
    """A run of the experiment "semiseg" (or MLFLOW_EXPERIMENT_NAME); a resumed training goes on in the same one."""

    def __init__(self, run: RunFolder) -> None:
        from mlflow import MlflowClient

        run.trackers.mkdir(exist_ok=True)
        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells how it makes its tables
        local = f"sqlite:///{(run.trackers / 'mlflow.db').resolve().as_posix()}"
        self.client = MlflowClient(tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or local)
        known = run.trackers / "mlflow.json"
        if known.exists():
            self.id = read_json(known)["run_id"]
            self.client.update_run(self.id, status="RUNNING")
            return
        artifacts = None if os.environ.get("MLFLOW_TRACKING_URI") else (run.trackers / "mlartifacts").resolve().as_uri()
        self.id = self._new(run.path.resolve().name, artifacts)
        parameters = list(flat(settings_of(run)).items())
        for start in range(0, len(parameters), MOST):
            self.client.log_batch(self.id, params=[_parameter(*pair) for pair in parameters[start : start + MOST]])
        write_json(known, {"run_id": self.id})

    def _new(self, name: str, artifacts: str | None) -> str:
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", EXPERIMENT)
        found = self.client.get_experiment_by_name(experiment)
        place = found.experiment_id if found else self.client.create_experiment(experiment, artifacts)
        return self.client.create_run(place, run_name=name).info.run_id

    def log(self, values: Mapping[str, float], step: int) -> None:
        """See Tracker."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        self.client.log_batch(self.id, metrics=[Metric(_allowed(name), v, now, step) for name, v in values.items()])

    def close(self, state: str) -> None:
        """See Tracker."""
        self.client.set_terminated(self.id, STATUS[state])


def _parameter(name: str, value: Any) -> Any:
    from mlflow.entities import Param

    return Param(_allowed(name), str(value)[:LONGEST])


def _allowed(name: str) -> str:
    """MLflow takes letters, digits and these signs in names."""
    return "".join(sign if sign.isalnum() or sign in "_-./ " else "_" for sign in name)
