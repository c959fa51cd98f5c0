"""Readers of the files of runs and sweeps, for the package and for the scripts of the tree."""
import json
import struct
from pathlib import Path


class Wrong(Exception):
    """Bad input: what, where and what to do."""


def lines_of(path):
    """The records of a file of JSON lines. A last line that is not complete is left out: a run may be writing it."""
    try:
        *lines, rest = Path(path).read_bytes().split(b"\n")
    except (FileNotFoundError, NotADirectoryError):
        raise Wrong(f"{path}: there is no such file; is {path.parent} the folder of a run?") from None
    records = []
    for number, line in enumerate(lines, 1):
        try:
            records.append(json.loads(line))
        except ValueError as e:
            raise Wrong(f"{path}:{number}: not a line of JSON ({e}); the file is damaged") from None
    try:
        return [*records, json.loads(rest)]
    except ValueError:
        return records


def json_of(run, name):
    """A file in JSON of a run that ended."""
    path = Path(run) / name
    try:
        return json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        raise Wrong(f"{path}: there is no such file; is {run} the folder of a run that ended?") from None
    except ValueError as e:
        raise Wrong(f"{path}: not JSON ({e})") from None


def yaml_of(path):
    """A file in YAML as the program reads it: 1e-3 is a number, and `on` and 2001-01-01 are texts."""
    import re

    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers = {}

    for kind, pattern, begins in (("null", r"null|~|", ["n", "~", ""]), ("bool", "true|false", "tf"),
                                  ("int", "[-+]?[0-9]+", "-+0123456789"),
                                  ("float", r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?", "-+.0123456789")):
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", re.compile(f"^(?:{pattern})$"), list(begins))
    try:
        return yaml.load(Path(path).read_bytes(), Loader)
    except (FileNotFoundError, NotADirectoryError):
        raise Wrong(f"{path}: there is no such file") from None
    except yaml.YAMLError as e:
        raise Wrong(f"{path}: not YAML ({e})") from None


def summary_of(run):
    path = Path(run) / "summary.json"
    summary = json_of(run, path.name)
    if summary.get("status") != "finished":
        raise Wrong(f"{path}: the run is {summary.get('status')}, not finished: espalier resume {run}")
    return summary


# Summaries of before there were other metrics than accuracies have them one by one.
def metrics_of(summary):
    return summary.get("metrics") or {"accuracy": summary["accuracy"]}


def leading_of(summary):
    """The leading metric of a run that ended with a result: {name, unit, larger_is_better, best}."""
    return summary.get("metric") or {"name": "accuracy", "unit": "%", "larger_is_better": True,
                                     "best": summary["accuracy_best"]}


def metric_of(summary, name):
    """A metric of a finished run by its name; NAME_best, or none: the leading one of the best epoch."""
    metrics, leading = metrics_of(summary), leading_of(summary)
    if name in (None, leading["name"] + "_best"):
        return leading["best"]
    if name not in metrics:
        raise Wrong(f"run {summary['name']}: no metric '{name}'; it has {', '.join(metrics)}")
    return metrics[name]


def results_of(summary):
    """The numbers of a summary by the names that `espalier runs` knows them by; of a run without a result none."""
    if "final" not in summary:
        return {}
    leading = leading_of(summary)
    results = metrics_of(summary) | {leading["name"] + "_best": leading["best"]}
    results |= {name: summary[name] for name in ("loss", "train_loss", "sparsity") if name in summary}
    for prefix, size in (("", "final"), ("base_", "base")):
        results |= {prefix + name: summary[size][name] for name in ("params", "macs")}
    return results | {name: summary[name] for name in ("train_cost", "seconds")}


def tensors_of(path):
    """Arrays of a safetensors file."""
    import numpy as np
    try:
        data = Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise Wrong(f"{path}: there is no such file") from None
    types = {"F32": np.float32, "F64": np.float64, "F16": np.float16, "I64": np.int64, "I32": np.int32,
             "I16": np.int16, "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_, "BF16": np.uint16}
    arrays = {}
    try:
        size = struct.unpack("<Q", data[:8])[0]
        for name, entry in json.loads(data[8:8 + size]).items():
            if name == "__metadata__":
                continue
            begin, end = entry["data_offsets"]
            values = np.frombuffer(data[8 + size + begin:8 + size + end], types[entry["dtype"]])
            if entry["dtype"] == "BF16":  # NumPy has no such type: the upper half of a float32
                values = (values.astype(np.uint32) << 16).view(np.float32)
            arrays[name] = values.reshape(entry["shape"])
    except (struct.error, ValueError, KeyError) as e:
        raise Wrong(f"{path}: no safetensors file, or a damaged one ({e})") from None
    return arrays


def finished_runs(sweep):
    """The summaries and folders of a sweep's finished runs."""
    path = Path(sweep) / "sweep.json"
    try:
        runs = json.loads(path.read_text())["runs"]
        found = [(run["summary"], Path(sweep) / run["folder"]) for run in runs if run["status"] == "finished"]
    except (json.JSONDecodeError, KeyError, TypeError) as e:
        raise Wrong(f"{path}: no record of a sweep ({e!r})") from None
    if not found:
        raise Wrong(f"{path}: no run of the sweep has finished: espalier resume {sweep}")
    return found


def on_front(points, larger_is_better):
    """Those of (size, metric) to which no other is at least as good in both and better in one, smaller ones first."""
    sign = 1 if larger_is_better else -1
    return sorted((size, m) for size, m in points
                  if not any(s <= size and sign * other >= sign * m and (s < size or other != m)
                             for s, other in points))
