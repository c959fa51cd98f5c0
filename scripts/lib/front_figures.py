"""Figures of a metric against the size of networks."""
import json
from pathlib import Path

from run_files import Wrong, figures, load, save, summary_of


def authors_size(run):
    """The size of a network, in millions, as paper 002's program counts it: 9 in out of each convolution, and of the
    classifiers 1024 cl1 + cl1 cl2 + 10 cl2, whatever the last convolution has. These are too many parameters in small
    networks, and no biases and norms."""
    layers = [array.shape for name, array in run.tensors().items() if name.endswith(".weight")]
    kernels = sum(9 * s[0] * s[1] for s in layers if len(s) == 4)
    linear = [s for s in layers if len(s) == 2]
    if not kernels or len(linear) != 3:
        raise Wrong(f"{run.folder}: --against authors is for VGG-16 with two hidden layers; this network has "
                    f"{len(linear)} linear layers")
    return (kernels + 1024 * linear[0][0] + linear[1][0] * linear[1][1] + 10 * linear[2][1]) / 1e6


def runs_of(pattern):
    """The finished runs of a pattern of folders."""
    path = Path(pattern)
    base = Path(path.anchor) if path.is_absolute() else Path()
    folders = sorted(base.glob(str(path.relative_to(path.anchor))))
    runs = [load(folder) for folder in folders if (folder / "summary.json").exists()]
    if not runs:
        raise Wrong(f"'{pattern}': no folder of a run that ended is there")
    for run in runs:
        summary_of(run.folder)
    return runs


def front(groups, quoted, value, metric, out):
    """Metric against parameters or MACs: a line for each NAME=RUNS; of a sweep's folder all runs and the front."""
    shown = {}
    for group in groups:
        if (Path(group) / "sweep.json").exists():
            shown[Path(group).resolve().name] = load(group)
            continue
        name, _, pattern = group.partition("=")
        if not pattern:
            raise Wrong(f"'{group}': expected NAME=RUNS, as in \"grown=runs/f3/*\", or the folder of a sweep")
        shown[name] = runs_of(pattern)
    figure = figures.front(shown, authors_size if value == "authors" else value, metric)
    panel = figure.axes[0]
    if value == "authors":
        panel.set_xlabel("parameters by the authors' formula, millions")
    if quoted:
        for name, points in json.loads(Path(quoted).read_text()).items():
            points = [p for p in points if value in p] if isinstance(points, list) else []
            if points:
                panel.plot([p[value] for p in points], [p["accuracy"] for p in points], linestyle="", marker="x",
                           label=name)
        panel.legend(fontsize="small")
    save(figure, out, "front")
