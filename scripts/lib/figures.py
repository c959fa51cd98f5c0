"""Pictures of runs: see --help. Reads metrics.jsonl, summary.json, records/ and model.safetensors of run folders."""
import argparse
import json
import sys
from pathlib import Path

import compare_figures
import component_figures
import kept_figures
import kernel_figures
import search_figures
from run_files import Wrong, finished_runs, lines_of, metric_of, on_front, save, summary_of, tensors_of

EXAMPLES = """examples:
  scripts/figures growth runs/adenel-lenet5-seed0
  scripts/figures filters runs/adenel-lenet5-seed0 --beside runs/lenet5-seed0
  scripts/figures front "AdeNeL=runs/000-f3-budgets/*" "from scratch=runs/000-f3-scratch/*" \\
      --quoted recipes/paper/000/f3-quoted.json
  scripts/figures front runs/search --against macs
  scripts/figures front runs/002-f3-cifar10 runs/002-f3-cifar10-static --against authors \\
      --quoted recipes/paper/002/f3-quoted.json
  scripts/figures shrinking runs/002-gc-cifar10/every=1 runs/002-gc-cifar10/every=0
  scripts/figures sizes runs/kernel-size-cifar10
  scripts/figures frontier runs/001-f4-cifar18x5 runs/001-f5-cifar19 --envelope \\
      --quoted recipes/paper/001/f6-quoted.json
  scripts/figures trajectories runs/003-f1-lambda runs/003-f1-beta runs/003-f1-start \\
      --baseline runs/003-f1-darts-seed0
  scripts/figures cells runs/003-t1-search-seed0
  scripts/figures kept runs/003-f4-kept/ratio=0.2 runs/003-f4-kept/ratio=0.4
  scripts/figures components runs/sparsify-resnet/seed=0,weight=0.01
  scripts/figures compare runs --beside full,narrow --panel scores=random,l1,taylor --panel growth=adenel,growth

Figures of paper 000: filters is figure 4, front is figure 3 (one call for each panel). Of paper 001: widths is figure
1, supports 2, sizes 3, frontier 4 and 5, with --envelope 6, kernels 7, correlation 8. Of paper 002: front is figures 3
and 4; --against authors counts parameters of VGG-16 by the formula of the authors' program. Of paper 003:
trajectories is figure 2.1, cells 3.1, kept 4.2. Of paper 004: components shows what a run with the controller sparsify
left."""


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


def growth(run, out):
    """Widths and selected shares of every layer, accuracy, parameters, time and MACs, over the epochs."""
    import matplotlib.pyplot as plt
    metrics = lines_of(Path(run) / "metrics.jsonl")
    epochs = range(1, len(metrics) + 1)
    layers = [key.split(".", 1)[1] for key in metrics[0] if key.startswith("width.")]
    if not layers:
        raise Wrong(f"{Path(run) / 'metrics.jsonl'}: no widths: the run's first stage has no controller that "
                    "grows (adenel)")
    stages = [i for i in range(1, len(metrics)) if metrics[i]["stage"] != metrics[i - 1]["stage"]]
    colours = plt.get_cmap("viridis")
    figure, panels = plt.subplots(4, 1, figsize=(8, 12), sharex=True)
    last = {}
    for i, layer in enumerate(layers):
        colour = colours(i / max(1, len(layers) - 1))
        widths = []
        for line in metrics:
            last[layer] = line.get(f"width.{layer}", last.get(layer))
            widths.append(last[layer])
        panels[0].step(epochs, widths, where="mid", color=colour, label=layer)
        shares = [(e, line[f"selected.{layer}"]) for e, line in zip(epochs, metrics) if f"selected.{layer}" in line]
        panels[1].plot(*zip(*shares), color=colour, marker=".", linewidth=0.8)
    panels[0].set_ylabel("filters")
    panels[1].set_ylabel("share selected, $s^l$")
    panels[1].set_ylim(-0.02, 1.02)
    leading = next((key[len("train_"):] for key in metrics[-1] if key.startswith("train_")), "accuracy")
    panels[2].plot(epochs, [line.get("test_" + leading) for line in metrics], color="black")
    panels[2].set_ylabel("test " + leading + (", %" if leading == "accuracy" else ""))
    parameters = panels[2].twinx()
    parameters.step(epochs, [line["params"] / 1e6 for line in metrics], where="mid", color="tab:orange")
    parameters.set_ylabel("parameters, millions", color="tab:orange")
    panels[3].plot(epochs, [line["seconds"] for line in metrics], color="black")
    panels[3].set_ylabel("seconds of the epoch")
    panels[3].set_ylim(bottom=0)
    panels[3].set_xlabel("epoch")
    macs = panels[3].twinx()
    macs.step(epochs, [line["macs"] / 1e6 for line in metrics], where="mid", color="tab:orange")
    macs.set_ylabel("multiply-accumulates, millions", color="tab:orange")
    macs.set_ylim(bottom=0)
    for panel in panels:
        for begin in stages:
            panel.axvline(begin + 0.5, color="grey", linewidth=0.8, linestyle=":")
    panels[0].legend(fontsize="x-small", ncols=max(1, len(layers) // 14 + 1), loc="center left",
                     bbox_to_anchor=(1.01, 0.5))
    save(figure, out, "growth")


def filters(run, beside, weight, out):
    """The first layer's filters at the end of every round, the selected ones in red; below, those from scratch."""
    import matplotlib.pyplot as plt
    import numpy as np
    files = sorted((Path(run) / "records").glob("*.safetensors"))
    if not files:
        raise Wrong(f"{Path(run) / 'records'}: nothing is recorded; the controller's option "
                    "`record: conv1.weight` does it")
    rows = []
    for file in files:
        kept = tensors_of(file)
        names = [n for n in kept if n + ".support" in kept and (weight is None or n == weight)]
        if not names:
            raise Wrong(f"{file}: it has no '{weight}'; it has {', '.join(n for n in kept if n + '.support' in kept)}")
        rows.append((file.stem, kept[names[0]], kept[names[0] + ".support"] > 0))
    name = names[0]
    if beside:
        scratch = tensors_of(Path(beside) / "model.safetensors")
        if name not in scratch:
            raise Wrong(f"{Path(beside) / 'model.safetensors'}: it has no '{name}'")
        rows.append((Path(beside).name, scratch[name], None))
    columns = max(len(w) for _, w, _ in rows)
    figure, panels = plt.subplots(len(rows), columns, figsize=(0.6 * columns + 1.5, 0.66 * len(rows)), squeeze=False)
    for (title, w, selected), row in zip(rows, panels):
        most = np.abs(w).max()
        for i, panel in enumerate(row):
            panel.set_xticks([])
            panel.set_yticks([])
            if i >= len(w):
                panel.axis("off")
                continue
            picture = w[i].transpose(1, 2, 0) / (2 * most) + 0.5
            panel.imshow(picture if picture.shape[2] == 3 else picture.mean(axis=2), cmap="gray", vmin=0, vmax=1)
            chosen = selected is not None and selected[i]
            for side in panel.spines.values():
                side.set(color="red" if chosen else "lightgrey", linewidth=2 if chosen else 0.5)
        row[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize="x-small")
    save(figure, out, "filters")


def shrinking(runs, out):
    """Seconds of an epoch and the memory it needs against multiply-accumulates, and these over the epochs."""
    import matplotlib.pyplot as plt
    figure, panels = plt.subplots(1, 3, figsize=(13, 4))
    for run in runs:
        lines = lines_of(Path(run) / "metrics.jsonl")
        if not any("peak_memory_mb" in line for line in lines):
            raise Wrong(f"{Path(run) / 'metrics.jsonl'}: no peak_memory_mb: the run was on a GPU, "
                        "or by an older program")
        name = Path(run).resolve().name
        macs = [line["macs"] / 1e6 for line in lines]
        # An epoch is trained with the network that the one before left, and its line has what it left itself.
        panels[0].plot(macs[:-1], [line["seconds"] for line in lines[1:]], marker="o", linestyle="", label=name)
        memory = [line.get("tensor_memory_mb", line["peak_memory_mb"]) for line in lines[1:]]
        panels[1].plot(macs[:-1], memory, marker="o", linestyle="", label=name)
        panels[2].step([line["step"] for line in lines], macs, where="post", label=name)
    labels = ("seconds of the epoch", "most memory of tensors, MB", "multiply-accumulates, millions")
    for panel, label in zip(panels, labels):
        panel.set_ylabel(label)
        panel.set_ylim(bottom=0)
        panel.set_xlabel("steps" if panel is panels[2] else "multiply-accumulates, millions")
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small")
    save(figure, out, "shrinking")


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


def main():
    parser = argparse.ArgumentParser(prog="scripts/figures",
                                     description="Draws what runs left in their folders, as SVG and PNG.",
                                     epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="FIGURE")
    out = argparse.ArgumentParser(add_help=False)
    out.add_argument("--out", type=Path, metavar="DIR", help="where the pictures go (default: RUN/figures, or figures)")
    p = commands.add_parser("growth", parents=[out], help=growth.__doc__)
    p.add_argument("run", metavar="RUN")
    p = commands.add_parser("filters", parents=[out], help=filters.__doc__)
    p.add_argument("run", metavar="RUN")
    p.add_argument("--beside", metavar="RUN", help="a run whose network was trained from scratch")
    p.add_argument("--weight", metavar="NAME", help="of the recorded ones (default: the first)")
    p = commands.add_parser("front", parents=[out], help=front.__doc__)
    p.add_argument("groups", nargs="+", metavar="NAME=RUNS|SWEEP",
                   help="a name and a pattern of run folders, or the folder of a sweep")
    p.add_argument("--quoted", metavar="FILE",
                   help='JSON: {"name": [{"params": 5.4, "macs": 113, "accuracy": 92.1}]}, in millions')
    p.add_argument("--against", choices=["params", "macs", "authors"], default="params")
    p.add_argument("--metric", metavar="NAME",
                   help="a metric of the runs, or NAME_best (default: the leading one's best; of a sweep the leading "
                        "one as its runs ended)")
    p = commands.add_parser("shrinking", parents=[out], help=shrinking.__doc__)
    p.add_argument("runs", nargs="+", metavar="RUN")
    for name in ("widths", "sizes", "frontier", "correlation"):
        p = commands.add_parser(name, parents=[out], help=getattr(kernel_figures, name).__doc__)
        p.add_argument("runs", nargs="+", metavar="SWEEP|RUN", help="the folder of a sweep or of a run")
        if name == "frontier":
            p.add_argument("--envelope", action="store_true", help="draws the best of all points, too")
            p.add_argument("--quoted", metavar="FILE", help="points of others, as of front")
    p = commands.add_parser("supports", parents=[out], help=kernel_figures.supports.__doc__)
    p.add_argument("--side", type=int, default=5, metavar="N", help="of the kernels, 1 to 15 (default: 5)")
    p.add_argument("--corner", choices=["top_left", "bottom_right"], default="top_left",
                   help="where the first half-ring lies")
    p = commands.add_parser("kernels", parents=[out], help=kernel_figures.kernels.__doc__)
    p.add_argument("run", metavar="RUN")
    p.add_argument("--most", type=int, default=32, metavar="N", help="kernels of a layer that are shown (default: 32)")
    p = commands.add_parser("trajectories", parents=[out], help=search_figures.trajectories.__doc__)
    p.add_argument("sweeps", nargs="+", metavar="SWEEP|RUN", help="a panel each")
    p.add_argument("--baseline", metavar="RUN", help="a run that every panel shows, too")
    p = commands.add_parser("cells", parents=[out], help=search_figures.cells.__doc__)
    p.add_argument("run", metavar="RUN", help="a run with a search or with the controller derive")
    p = commands.add_parser("components", parents=[out], help=component_figures.components.__doc__)
    p.add_argument("run", metavar="RUN", help="a run with the controller sparsify")
    p = commands.add_parser("compare", parents=[out], help=compare_figures.compare.__doc__)
    p.add_argument("folders", nargs="+", metavar="RUNS", help="a folder that holds the runs of recipes/compare")
    p.add_argument("--panel", action="append", metavar="NAME=METHOD,METHOD",
                   help="a part of the picture with these methods, called as the files of their recipes")
    p.add_argument("--beside", default="", metavar="METHOD,METHOD", help="methods that every panel shows, too")
    p.add_argument("--metric", metavar="NAME", help="a metric of the runs (default: the leading one's best)")
    p = commands.add_parser("kept", parents=[out], help=kept_figures.kept.__doc__)
    p.add_argument("runs", nargs="+", metavar="RUN", help="a run with the controller sidt or vtp")
    given = parser.parse_args()
    import matplotlib
    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "espalier"
    where = given.out or (Path(given.run) / "figures" if "run" in given else Path("figures"))
    if given.command == "growth":
        growth(given.run, where)
    elif given.command == "filters":
        filters(given.run, given.beside, given.weight, where)
    elif given.command == "shrinking":
        shrinking(given.runs, where)
    elif given.command == "front":
        front(given.groups, given.quoted, given.against, given.metric, where)
    elif given.command == "frontier":
        kernel_figures.frontier(given.runs, given.quoted, given.envelope, where)
    elif given.command == "supports":
        if not 1 <= given.side <= 15:
            raise Wrong(f"--side {given.side}: a side is a number from 1 to 15")
        kernel_figures.supports(given.side, given.corner, where)
    elif given.command == "kernels":
        if given.most < 1:
            raise Wrong(f"--most {given.most}: give a number from 1 on")
        kernel_figures.kernels(given.run, given.most, where)
    elif given.command == "trajectories":
        search_figures.trajectories(given.sweeps, given.baseline, where)
    elif given.command == "cells":
        search_figures.cells(given.run, where)
    elif given.command == "kept":
        kept_figures.kept(given.runs, where)
    elif given.command == "compare":
        compare_figures.compare(given.folders, given.panel, given.beside, given.metric, where)
    elif given.command == "components":
        component_figures.components(given.run, where)
    else:
        getattr(kernel_figures, given.command)(given.runs, where)


if __name__ == "__main__":
    try:
        main()
    except Wrong as e:
        sys.exit(f"figures: {e}")
