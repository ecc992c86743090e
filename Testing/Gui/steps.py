"""What several tests of the panel do with it or need for it."""

import json

from SemiSegLib.config import Settings


def limit_to(opened, case, size_mm):
    """Make the box by its button and pull its faces in to this size around the same centre."""
    opened.ui.addRegionButton.click()
    case.region.SetSize(size_mm, size_mm, size_mm)


def give_model(run, label, iteration=2):
    """A model file of the run that segments a label of this name, in the place of an earlier one."""
    settings = Settings().to_dict()
    settings["data"]["labels"] = [{"value": 1, "name": label, "color": [1, 2, 3]}]
    settings["training"]["patch_size"] = [48, 48, 32]  # every training has chosen one
    card = json.dumps({"settings": settings, "iteration": iteration, "scores": {}})
    header = json.dumps({"__metadata__": {"card": card}}).encode()
    run.last_model.parent.mkdir(exist_ok=True)
    run.last_model.write_bytes(len(header).to_bytes(8, "little") + header)


def curve(opened, kind, name):
    """(iteration, value) pairs of a curve that its chart shows."""
    chart = opened.logic.training.curves.charts[kind]
    series = [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]
    table = next(s for s in series if s.GetYColumnName() == name).GetTableNode().GetTable()
    columns = [table.GetColumnByName("iteration"), table.GetColumnByName(name)]
    return [tuple(column.GetValue(row) for column in columns) for row in range(table.GetNumberOfRows())]
