"""Figures of paper 001: widths, sizes and pictures of kernels, accuracy against complexity, correlations."""
import json
from pathlib import Path

from run_files import Wrong, finished_runs, json_of, lines_of, on_front, save, summary_of, tensors_of


class Run:
    """A finished run, and by which values of a matrix it differs from those beside it."""

    def __init__(self, folder, summary, values):
        self.folder = Path(folder)
        self.summary = summary
        self.values = values
        strengths = [v for path, v in values.items() if path.rsplit(".", 1)[-1] == "weight"]
        # The strength of a penalty, which the paper calls alpha.
        self.alpha = strengths[0] if len(strengths) == 1 and isinstance(strengths[0], (int, float)) else None
        others = [f"{path.rsplit('.', 1)[-1]} {v}" for path, v in values.items()
                  if self.alpha is None or path.rsplit(".", 1)[-1] != "weight"]
        named = ([] if self.alpha is None else [rf"$\alpha$ = {self.alpha:g}"]) + others
        self.label = ", ".join(named) or Path(folder).resolve().name

    def artefact(self, name):
        """What its stages published by this name, the last one's."""
        found = sorted((self.folder / "artefacts").glob(f"*.{name}.json"))
        if not found:
            raise Wrong(f"{self.folder / 'artefacts'}: there is no '{name}', which the controller kernel_threshold "
                        "publishes at the end of its stage" +
                        (" where it has the option 'frontier'" if name == "frontier" else ""))
        return json.loads(found[-1].read_text())


def runs_of(folders):
    """The finished runs of sweeps and single runs, by alpha where they have one."""
    runs = []
    for folder in folders:
        if (Path(folder) / "sweep.json").exists():
            values = {r["folder"]: r["values"] for r in json.loads((Path(folder) / "sweep.json").read_text())["runs"]}
            runs += [Run(path, summary, values[path.name]) for summary, path in finished_runs(folder)]
        else:
            runs.append(Run(folder, summary_of(folder), {}))
            continue
        for run in runs:
            if len(folders) > 1 and run.folder.parent == Path(folder):
                run.label = f"{Path(folder).resolve().name}, {run.label}"
    return sorted(runs, key=lambda r: -1 if r.alpha is None else r.alpha)


def colours_of(runs):
    import matplotlib.pyplot as plt
    return [plt.get_cmap("viridis")(0.9 * i / max(1, len(runs) - 1)) for i in range(len(runs))]


def layers_of(runs):
    """The histograms of kernel sizes of each run, and the layers that all of them have."""
    counts = [run.artefact("kernels") for run in runs]
    names = list(counts[0])
    for run, count in zip(runs, counts):
        if list(count) != names:
            raise Wrong(f"{run.folder}: its layers are not those of {runs[0].folder}: give runs of one network")
    return counts, names


def widths(folders, out):
    """Figure 1: how many kernels each layer has left, a line for each alpha."""
    import matplotlib.pyplot as plt
    runs = runs_of(folders)
    counts, layers = layers_of(runs)
    figure, panel = plt.subplots(figsize=(max(6, 0.55 * len(layers)), 4))
    panel.plot(range(len(layers)), [sum(counts[0][n]) for n in layers], color="lightgrey", linewidth=4, label="base")
    for run, count, colour in zip(runs, counts, colours_of(runs)):
        panel.plot(range(len(layers)), [sum(count[n][1:]) for n in layers], marker="o", color=colour, label=run.label)
    panel.set_xticks(range(len(layers)), layers, rotation=60, ha="right", fontsize="x-small")
    panel.set_ylabel("kernels left, $d_i$")
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small", loc="center left", bbox_to_anchor=(1.01, 0.5))
    save(figure, out, "widths")


def half_rings(side, corner):
    """Of each cell the number of the half-ring that it belongs to, from 1 (the outermost)."""
    number = [[0] * side for _ in range(side)]
    low, high = 0, side - 1
    for n in range(1, side + 1):
        first = (n % 2 == 1) == (corner == "top_left")
        for i in range(low, high + 1):
            edge = low if first else high
            number[edge][i] = number[i][edge] = n
        low, high = (low + 1, high) if first else (low, high - 1)
    return number


def supports(side, corner, out):
    """Figure 2: the supports of the nested groups of half-rings and of rings, for kernels of one side."""
    import matplotlib.pyplot as plt
    import numpy as np
    rings = [[1 + min(y, x, side - 1 - y, side - 1 - x) for x in range(side)] for y in range(side)]
    shapes = [("half-rings", half_rings(side, corner)), ("rings", rings)]
    figure, panels = plt.subplots(2, side, figsize=(1.3 * side + 0.6, 3.2), squeeze=False)
    for (name, numbers), row in zip(shapes, panels):
        numbers = np.array(numbers)
        for n, panel in enumerate(row, start=1):
            if n > numbers.max():
                panel.axis("off")
                continue
            inside = numbers <= n
            panel.imshow(inside, cmap="Blues", vmin=0, vmax=1.6)
            panel.set_title(f"$G_{{{n}}}$, {inside.sum()}", fontsize="small")
            panel.set_xticks(np.arange(side + 1) - 0.5, [])
            panel.set_yticks(np.arange(side + 1) - 0.5, [])
            panel.grid(color="white", linewidth=1)
            panel.tick_params(length=0)
        row[0].set_ylabel(name)
    save(figure, out, f"supports-{side}")


def sizes(folders, out):
    """Figure 3: how many kernels of each size each layer has, a panel for each alpha."""
    import matplotlib.pyplot as plt
    runs = runs_of(folders)
    counts, layers = layers_of(runs)
    largest = max(len(count[n]) for count in counts for n in layers) - 1
    colours = [plt.get_cmap("viridis")(s / max(1, largest)) for s in range(largest + 1)]
    figure, panels = plt.subplots(len(runs), 1, figsize=(max(6, 0.5 * len(layers)), 1.9 * len(runs) + 0.8),
                                  sharex=True, squeeze=False)
    for run, count, panel in zip(runs, counts, panels[:, 0]):
        below = [0] * len(layers)
        # The largest at the bottom; what is gone is white.
        for size in range(largest, -1, -1):
            here = [count[n][size] if size < len(count[n]) else 0 for n in layers]
            panel.bar(range(len(layers)), here, bottom=below, color="white" if size == 0 else colours[size],
                      edgecolor="grey", linewidth=0.4, label="gone" if size == 0 else f"{size} x {size}")
            below = [b + h for b, h in zip(below, here)]
        panel.set_title(run.label, fontsize="small", loc="left", pad=3)
        panel.set_ylabel("kernels")
    panels[-1, 0].set_xticks(range(len(layers)), layers, rotation=60, ha="right", fontsize="x-small")
    panels[0, 0].legend(fontsize="x-small", loc="upper left", bbox_to_anchor=(1.01, 1))
    save(figure, out, "sizes")


def points_of(run):
    """Of each threshold that leaves a network the multiply-accumulates, in millions, and the metric; its name."""
    name = (run.summary.get("metric") or {"name": "accuracy"})["name"]
    points = [(p["macs"] / 1e6, p[name]) for p in run.artefact("frontier") if "macs" in p]
    return points, name


def frontier(folders, quoted, envelope, out):
    """Figures 4 to 6: accuracy against complexity over the thresholds, a curve for each alpha; the envelope of all."""
    import matplotlib.pyplot as plt
    runs = runs_of(folders)
    figure, panel = plt.subplots(figsize=(7, 5))
    everything = []
    for run, colour in zip(runs, colours_of(runs)):
        points, name = points_of(run)
        everything += points
        if points:
            panel.plot(*zip(*sorted(points)), marker=".", linewidth=0.9, color=colour, label=run.label)
        final = (run.summary["final"]["macs"] / 1e6, run.summary["metrics"][name])
        everything.append(final)
        panel.plot(*final, marker="*", markersize=10, linestyle="", color=colour)
    panel.plot([], [], marker="*", markersize=10, linestyle="", color="grey", label="as the run ended, fine-tuned")
    if envelope:
        leading = runs[0].summary.get("metric") or {"larger_is_better": True}
        panel.step(*zip(*on_front(everything, leading["larger_is_better"])), where="post", color="black", linewidth=1.6,
                   label="envelope")
    if quoted:
        quotes = json.loads(Path(quoted).read_text()).items()
        for i, ((source, listed), marker) in enumerate(zip(quotes, "x+1234|_" * 8)):
            listed = listed if isinstance(listed, list) else []
            known = [p for p in listed if "macs" in p]
            if known:
                panel.plot([p["macs"] for p in known], [p["accuracy"] for p in known], linestyle="", marker=marker,
                           color="tab:red", label=source + ", quoted")
            # Of others only the accuracy is known.
            for p in listed:
                if "macs" not in p:
                    panel.axhline(p["accuracy"], color="tab:red", linestyle=":", linewidth=0.9)
                    panel.annotate(source, (0.01 + 0.15 * (i % 6), p["accuracy"]), va="bottom", fontsize="xx-small",
                                   xycoords=("axes fraction", "data"), color="tab:red")
    panel.set_xscale("log")
    panel.set_xlabel("complexity (10): multiply-accumulates, millions")
    panel.set_ylabel(f"test {name}" + (", %" if name == "accuracy" else ""))
    panel.grid(alpha=0.3)
    panel.legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1.01, 0.5))
    save(figure, out, "envelope" if envelope else "frontier")


def convolutions_of(folder):
    """Of the final network the name, the kernels, their sizes and the corner of each convolution."""
    graph = json_of(folder, "graph.json")
    values = tensors_of(Path(folder) / "model.safetensors")
    for node in graph["nodes"]:
        if node["operation"] != "conv2d":
            continue
        kernels = values[node["name"] + ".weight"]
        options = node["options"]
        yield (node["name"], kernels, options.get("sizes") or [kernels.shape[2]] * len(kernels),
               options.get("corner") or "top_left")


def kernels(folder, most, out):
    """Figure 7: the kernels of every layer with the borders of their supports, the largest first."""
    import matplotlib.pyplot as plt
    import numpy as np
    layers = list(convolutions_of(folder))
    if not layers:
        raise Wrong(f"{folder}: its network has no convolutions")
    columns = min(most, max(len(k) for _, k, _, _ in layers))
    figure, panels = plt.subplots(len(layers), columns, figsize=(0.5 * columns + 1.4, 0.55 * len(layers)),
                                  squeeze=False)
    for (name, weights, own, corner), row in zip(layers, panels):
        side = weights.shape[2]
        order = sorted(range(len(weights)), key=lambda f: (-own[f], -float(np.square(weights[f]).sum())))
        # Images of three colours; of other channels the root of the mean square at each place.
        coloured = weights.shape[1] == 3
        pictures = weights if coloured else np.sqrt(np.square(weights).mean(axis=1))
        for panel in row:
            panel.axis("off")
        for f, panel in zip(order, row):
            bright = np.abs(pictures[f]).max() or 1
            if coloured:
                panel.imshow(pictures[f].transpose(1, 2, 0) / (2 * bright) + 0.5, vmin=0, vmax=1)
            else:
                panel.imshow(pictures[f], cmap="magma", vmin=0, vmax=bright)
            begin = (side - own[f] + (1 if corner == "top_left" else 0)) // 2
            panel.add_patch(plt.Rectangle((begin - 0.5, begin - 0.5), own[f], own[f], fill=False, edgecolor="tab:red",
                                          linewidth=1.2, clip_on=False))
        row[0].set_title(f"{name}: {len(weights)} of {side} x {side}, mean size {np.mean(own):.2f}",
                         fontsize="xx-small", loc="left", pad=2)
    figure.subplots_adjust(hspace=0.5, wspace=0.15)
    save(figure, out, "kernels")


def correlation(folders, out):
    """Figure 8: the mean correlation of pairs of kernels over the epochs, a line for each alpha."""
    import matplotlib.pyplot as plt
    runs = runs_of(folders)
    figure, panel = plt.subplots(figsize=(6.5, 4))
    for run, colour in zip(runs, colours_of(runs)):
        lines = lines_of(run.folder / "metrics.jsonl")
        values = [(line["step"], line["kernel_correlation"]) for line in lines if "kernel_correlation" in line]
        if not values:
            raise Wrong(f"{run.folder / 'metrics.jsonl'}: no kernel_correlation; the option `correlation: true` of the "
                        "controller kernel_threshold writes it")
        panel.plot(*zip(*values), marker=".", color=colour, label=run.label)
    panel.set_xlabel("steps")
    panel.set_ylabel("mean size of correlations of kernels")
    panel.set_ylim(bottom=0)
    panel.grid(alpha=0.3)
    panel.legend(fontsize="small")
    save(figure, out, "correlation")
