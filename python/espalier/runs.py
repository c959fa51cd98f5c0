"""Runs, sweeps and reproductions by their folders."""
import importlib.util
import sys
from functools import cached_property
from pathlib import Path

from .files import Wrong, json_of, lines_of, results_of, tensors_of, yaml_of


class Run:
    """The folder of a run. Each file is read when it is first asked for, and what was read is kept: load a run that is
    still training once more to see how far it has come."""

    def __init__(self, folder, values=None):
        self.folder = Path(folder)
        self.name = self.folder.resolve().name
        # What the matrix of a sweep set for this run: {path in the recipe: value}.
        self.values = values or {}

    def __repr__(self):
        return f"<Run {self.folder}: {self.status}>"

    @property
    def status(self):
        """finished, interrupted or failed; `not finished` of a run that is still training or was killed."""
        return self.summary["status"] if (self.folder / "summary.json").exists() else "not finished"

    @cached_property
    def recipe(self):
        """The recipe with all defaults."""
        return yaml_of(self.folder / "recipe.yaml")

    @cached_property
    def environment(self):
        return json_of(self.folder, "environment.json")

    @cached_property
    def summary(self):
        return json_of(self.folder, self._left_at_the_end("summary.json").name)

    @cached_property
    def graph(self):
        """The structure that the run ended with."""
        return json_of(self.folder, self._left_at_the_end("graph.json").name)

    @property
    def results(self):
        """The numbers of the summary by the names that `espalier runs` knows them by; empty without a result."""
        return results_of(self.summary) if (self.folder / "summary.json").exists() else {}

    @cached_property
    def metrics(self):
        """A data frame with a row for each epoch, numbered from 1 over all stages, and a column for each number."""
        import pandas as pd
        if not self._epochs:
            raise Wrong(f"{self.folder}: the run has not finished an epoch yet, so it has no metrics")
        return pd.DataFrame(self._epochs, index=pd.RangeIndex(1, len(self._epochs) + 1, name="run_epoch"))

    @cached_property
    def history(self):
        """A data frame with a row for each line of history.jsonl: edits that were carried out as one. `run_epoch` is
        how many epochs of the run were over, as a fraction within an epoch."""
        import pandas as pd
        rows = []
        for line, at in zip(self._history, self._epochs_of_edits()):
            row = {"stage": line["stage"], "epoch": line["epoch"], "step": line["step"], "run_epoch": at,
                   "edit": text_of(line)}
            for size in ("params", "macs"):
                row |= {f"{size}_before": line["before"][size], size: line["after"][size]}
            row |= {name: line.get(name) for name in ("zeroing_difference", "removal_difference", "difference",
                                                      "tolerance", "inexact_at")}
            accuracy = line.get("accuracy", {})
            row |= {f"accuracy_{when}": accuracy.get(when) for when in ("before", "zeroed", "after")}
            rows.append(row | {"edits": line["edits"], "axes": line["axes"]})
        frame = pd.DataFrame(rows, columns=COLUMNS)
        return frame.astype({name: float for name in COLUMNS if "difference" in name or name == "tolerance"})

    @cached_property
    def widths(self):
        """A data frame with a column for each width that an edit changed or that a controller watches: a row for the
        beginning of the run and one for each line of the history. The columns of a run that ended are in the order of
        the network."""
        import pandas as pd
        rows = [{}]
        for line in self._history:
            for axis in line["axes"]:
                if not any(axis["name"] in row for row in rows):
                    rows[0][axis["name"]] = axis["before"]
            rows.append({axis["name"]: axis["after"] for axis in line["axes"]})
        # Of what a controller watches, the history does not have what stayed as it was.
        for column in dict.fromkeys(name for epoch in self._epochs for name in epoch if name.startswith("width.")):
            found = {epoch[column] for epoch in self._epochs if column in epoch}
            if len(found) == 1:
                rows[0].setdefault(column.removeprefix("width."), *found)
        index = pd.Index([0.0, *self._epochs_of_edits()], name="run_epoch")
        frame = pd.DataFrame(rows, index=index).ffill().astype(int)
        if not (self.folder / "graph.json").exists():
            return frame
        order = [axis["name"] for axis in self.graph["axes"]]
        return frame[sorted(frame, key=lambda name: order.index(name) if name in order else len(order))]

    @cached_property
    def sizes(self):
        """A data frame with `params` and `macs`, and the rows of `widths`."""
        import pandas as pd
        if self._history:
            rows = [self._history[0]["before"], *(line["after"] for line in self._history)]
        else:
            rows = [{size: self.metrics[size].iloc[0] for size in ("params", "macs")}]
        return pd.DataFrame(rows, index=self.widths.index)

    def tensors(self):
        """The parameters and buffers that the run ended with, as arrays by their names."""
        return tensors_of(self._left_at_the_end("model.safetensors"))

    @cached_property
    def records(self):
        """What controllers kept for figures: {name of the file: {name: array}}."""
        files = sorted((self.folder / "records").glob("*.safetensors"))
        return {file.stem: tensors_of(file) for file in files}

    @cached_property
    def model_py(self):
        """The run's model.py as a module of Python, with `normalize` and the names of the classes where it has them.
        Importing it executes it."""
        if importlib.util.find_spec("torch") is None:
            raise Wrong(f"{self.folder}: its network needs PyTorch, which is not installed: pip install torch")
        self._left_at_the_end("model.safetensors")
        path = self.folder / "model.py"
        if not path.exists():
            raise Wrong(f"{path}: there is no such file, because an operation of the network has no Python form; "
                        f"`espalier export {self.folder} --to python` names it")
        name = f"espalier_model_{abs(hash(path.resolve()))}"
        specification = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(specification)
        sys.modules[name] = module  # where torch and pickle look for the class of the network
        specification.loader.exec_module(module)
        return module

    def network(self):
        """The trained network as a new torch.nn.Module, in the mode for inference. Executes the run's model.py."""
        return self.model_py.load_model()

    @cached_property
    def _epochs(self):
        return self._lines_of("metrics.jsonl")

    @cached_property
    def _history(self):
        return self._lines_of("history.jsonl")

    def _lines_of(self, name):
        """A file that is not there before the run has something to write into it."""
        path = self.folder / name
        return lines_of(path) if path.exists() else []

    def _left_at_the_end(self, name):
        path = self.folder / name
        if not path.exists():
            raise Wrong(f"{path}: there is no such file; a run writes it at its end, and this one is {self.status}. "
                        f"`espalier resume {self.folder}` continues it")
        return path

    def _epochs_of_edits(self):
        """For each line of the history, how many epochs of the run were over."""
        import numpy as np
        if not self._history:
            return []
        epochs = self._epochs
        stages = [stage["name"] for stage in self.recipe["stages"]]
        ends = [0] + [line["step"] for line in epochs]
        numbers = range(len(ends))
        at = []
        for line in self._history:
            # A line of the history counts epochs from 0 and steps within the epoch, one of the metrics epochs from 1
            # and steps of the run.
            here = stages.index(line["stage"]), line["epoch"]
            over = sum((stages.index(epoch["stage"]), epoch["epoch"] - 1) < here for epoch in epochs)
            at.append(float(np.interp(ends[over] + line["step"], ends, numbers)))
        return at


COLUMNS = ["stage", "epoch", "step", "run_epoch", "edit", "params_before", "params", "macs_before", "macs",
           "zeroing_difference", "removal_difference", "difference", "tolerance", "inexact_at", "accuracy_before",
           "accuracy_zeroed", "accuracy_after", "edits", "axes"]


def text_of(line):
    """What the edits of a line of the history did: "shrink conv1.out 20 → 10, fold_gate gates.conv1"."""
    widths = {axis["name"]: f" {axis['before']} → {axis['after']}" for axis in line["axes"]}
    texts = []
    for edit in line["edits"]:
        # The first field of an edit is the name of what it changes.
        kind, what = list(edit.values())[:2]
        texts.append(f"{kind} {what}" + (widths.get(what, "") if "axis" in edit else ""))
    return ", ".join(texts)


class Sweep:
    """The folder of a sweep: the runs of a recipe with a matrix."""
    file = "sweep.json"

    def __init__(self, folder):
        self.folder = Path(folder)
        self.record = json_of(self.folder, self.file)
        try:
            self._entries = [(self._folder_of(entry), entry) for entry in self.record["runs"]]
            for _, entry in self._entries:
                entry["status"], entry["values"].items()
        except (KeyError, TypeError, AttributeError) as e:
            raise Wrong(f"{self.folder / self.file}: no list of runs ({e!r})") from None
        # Runs that have not begun have no folder yet.
        self.runs = [Run(path, entry["values"]) for path, entry in self._entries if (path / "recipe.yaml").exists()]

    def __repr__(self):
        return f"<{type(self).__name__} {self.folder}: {len(self._entries)} runs>"

    def _folder_of(self, entry):
        return self.folder / entry["folder"]

    @cached_property
    def table(self):
        """A data frame with a row for each run: its status, the values that the matrix set, and its results."""
        import pandas as pd
        rows = [{"status": entry["status"]} | entry["values"] | results_of(entry.get("summary") or {})
                for _, entry in self._entries]
        return pd.DataFrame(rows, index=pd.Index([self._name_of(entry) for _, entry in self._entries], name="run"))

    def _name_of(self, entry):
        return entry["folder"]


class Reproduction(Sweep):
    """The folder of a reproduction, as runs/reproduce-short: the runs of many recipes, which lie beside it."""
    file = "runs.json"

    def _folder_of(self, entry):
        return self.folder.resolve().parent / entry["run"]

    def _name_of(self, entry):
        return entry["run"]


def load(path):
    """The run, the sweep or the reproduction that a folder holds: a Run, a Sweep or a Reproduction."""
    folder = Path(path)
    for kind in (Sweep, Reproduction):
        if (folder / kind.file).exists():
            return kind(folder)
    if (folder / "recipe.yaml").exists():
        return Run(folder)
    wanted = "give the folder of a run, of a sweep or of a reproduction"
    if not folder.exists():
        raise Wrong(f"{folder}: there is no such folder; {wanted}")
    if not folder.is_dir():
        raise Wrong(f"{folder}: this is a file; {wanted}")
    inner = sorted(file.parent for name in ("recipe.yaml", Sweep.file, Reproduction.file)
                   for file in folder.glob(f"*/{name}"))
    raise Wrong(f"{folder}: it holds no run (there is no recipe.yaml in it); {wanted}"
                + (f", such as {inner[0]}" if inner else ""))
