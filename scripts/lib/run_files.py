"""What all figures need: readers of run folders, and the files that pictures become."""
import json
import struct
from pathlib import Path


class Wrong(Exception):
    """Bad input: what, where and what to do."""


def lines_of(path):
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except (FileNotFoundError, NotADirectoryError):
        raise Wrong(f"{path}: there is no such file; is {path.parent} the folder of a run?") from None
    except json.JSONDecodeError as e:
        raise Wrong(f"{path}: not JSON lines ({e})") from None


def json_of(run, name):
    """A file in JSON of a run that ended."""
    path = Path(run) / name
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        raise Wrong(f"{path}: there is no such file; is {run} the folder of a run that ended?") from None
    except json.JSONDecodeError as e:
        raise Wrong(f"{path}: not JSON ({e})") from None


def summary_of(run):
    path = Path(run) / "summary.json"
    summary = json_of(run, path.name)
    if summary.get("status") != "finished":
        raise Wrong(f"{path}: the run is {summary.get('status')}, not finished: espalier resume {run}")
    return summary


def metric_of(summary, name):
    """A metric of a finished run by its name; NAME_best, or none: the leading one of the best epoch."""
    # Summaries of before there were other metrics than accuracies have them one by one.
    metrics = summary.get("metrics") or {"accuracy": summary["accuracy"]}
    leading = summary.get("metric") or {"name": "accuracy", "best": summary["accuracy_best"]}
    if name in (None, leading["name"] + "_best"):
        return leading["best"]
    if name not in metrics:
        raise Wrong(f"run {summary['name']}: no metric '{name}'; it has {', '.join(metrics)}")
    return metrics[name]


def tensors_of(path):
    """Arrays of a safetensors file of floats."""
    import numpy as np
    try:
        data = Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise Wrong(f"{path}: there is no such file") from None
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8:8 + size])
    types = {"F32": np.float32, "F64": np.float64, "I64": np.int64}
    arrays = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] not in types:
            continue
        begin, end = entry["data_offsets"]
        values = np.frombuffer(data[8 + size + begin:8 + size + end], types[entry["dtype"]])
        arrays[name] = values.reshape(entry["shape"])
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


def save(figure, out, name):
    out.mkdir(parents=True, exist_ok=True)
    for form in ("svg", "png"):
        figure.savefig(out / f"{name}.{form}", bbox_inches="tight", dpi=150)
    print(out / f"{name}.svg")
