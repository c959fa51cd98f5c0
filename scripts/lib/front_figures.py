"""Figures of a metric against the size of networks."""
import json
from pathlib import Path

from run_files import Wrong, finished_runs, metric_of, on_front, save, summary_of, tensors_of


def size_of(summary, folder, value):
    """The size of the network that a run ended with, in millions."""
    if value != "authors":
        return summary["final"][value] / 1e6
    # Paper 002's program: 9 in out of each convolution, and of the classifiers 1024 cl1 + cl1 cl2 + 10 cl2, whatever
    # the last convolution has. It counts too many parameters in small networks, and no biases and norms.
    shapes = {name: array.shape for name, array in tensors_of(Path(folder) / "model.safetensors").items()}
    layers = [s for name, s in shapes.items() if name.endswith(".weight")]
    kernels = sum(9 * s[0] * s[1] for s in layers if len(s) == 4)
    linear = [s for s in layers if len(s) == 2]
    if not kernels or len(linear) != 3:
        raise Wrong(f"{folder}: --against authors is for VGG-16 with two hidden layers; this network has "
                    f"{len(linear)} linear layers")
    return (kernels + 1024 * linear[0][0] + linear[1][0] * linear[1][1] + 10 * linear[2][1]) / 1e6


def draw_sweep(panel, sweep, value, metric):
    """All finished runs of a sweep, and its front. Returns the metric's name with its unit."""
    found = finished_runs(sweep)
    summaries = [summary for summary, _ in found]
    leading = summaries[0].get("metric") or {"name": "accuracy", "unit": "%", "larger_is_better": True}
    if any((s.get("metric") or leading)["name"] != leading["name"] for s in summaries):
        raise Wrong(f"{sweep}: the runs do not have the same leading metric")
    shown = metric or leading["name"]  # as the run ended: what the sweep's table has
    if shown.removesuffix("_best") != leading["name"]:
        raise Wrong(f"{sweep}: whether a larger '{shown}' is better is known of the leading metric alone: "
                    f"{leading['name']} or {leading['name']}_best")
    points = [(size_of(s, folder, value), metric_of(s, shown)) for s, folder in found]
    points = [(size, m) for size, m in points if m is not None]  # null: not finite
    name = Path(sweep).resolve().name
    panel.plot([size for size, _ in points], [m for _, m in points], linestyle="", marker="o", alpha=0.4,
               label=f"{name}, all runs")
    best = on_front(points, leading["larger_is_better"])
    panel.plot([size for size, _ in best], [m for _, m in best], marker="o", label=f"{name}, front")
    return leading["name"] + (f", {leading['unit']}" if leading["unit"] else "")


def front(groups, quoted, value, metric, out):
    """Metric against parameters or MACs: a line for each NAME=RUNS; of a sweep's folder all runs and the front."""
    import matplotlib.pyplot as plt
    figure, panel = plt.subplots(figsize=(6, 4.5))
    label = "accuracy, %"
    for group in groups:
        if (Path(group) / "sweep.json").exists():
            label = draw_sweep(panel, group, value, metric)
            continue
        name, _, pattern = group.partition("=")
        if not pattern:
            raise Wrong(f"'{group}': expected NAME=RUNS, as in \"grown=runs/f3/*\", or the folder of a sweep")
        path = Path(pattern)
        base = Path(path.anchor) if path.is_absolute() else Path()
        runs = [r for r in sorted(base.glob(str(path.relative_to(path.anchor)))) if (r / "summary.json").exists()]
        if not runs:
            raise Wrong(f"'{pattern}': no folder of a run that ended is there")
        points = sorted((size_of(s, run, value), metric_of(s, metric))
                        for run, s in zip(runs, map(summary_of, runs)) if "final" in s)
        panel.plot(*zip(*points), marker="o", label=name)
    if quoted:
        for name, points in json.loads(Path(quoted).read_text()).items():
            points = [p for p in points if value in p] if isinstance(points, list) else []
            if points:
                panel.plot([p[value] for p in points], [p["accuracy"] for p in points], linestyle="", marker="x",
                           label=name)
    panel.set_xscale("log")
    panel.set_xlabel({"params": "parameters, millions", "macs": "multiply-accumulates, millions",
                      "authors": "parameters by the authors' formula, millions"}[value])
    panel.set_ylabel("test " + label)
    panel.legend(fontsize="small")
    panel.grid(alpha=0.3)
    save(figure, out, "front")
