"""Figures of paper 003: paths of searches."""
import json
from pathlib import Path

from run_files import Wrong, finished_runs, lines_of, save, summary_of

# The minimum of the bilevel problem of example 2.4.
MINIMUM = (1, 1)


def path_of(run):
    """Values of alpha, w and, of two models, u, as the metrics of a run have them."""
    lines = lines_of(Path(run) / "metrics.jsonl")
    for name in ("alpha", "w"):
        if name not in lines[0]:
            raise Wrong(f"{Path(run) / 'metrics.jsonl'}: no metric '{name}': the figure is for networks with one "
                        "weight and one architecture parameter, and a controller with `watch: [w, alpha]`")
    return {name: [line[name] for line in lines] for name in ("alpha", "w", "u") if name in lines[0]}


def panel_of(folder):
    """The runs of a sweep with what varies, or a single run."""
    if not (Path(folder) / "sweep.json").exists():
        return [(summary_of(folder)["name"], path_of(folder))]
    values = {r["folder"]: r["values"] for r in json.loads((Path(folder) / "sweep.json").read_text())["runs"]}
    symbols = {"lambda": r"$\lambda$", "beta": r"$\beta$", "w": "$u_0$"}
    runs = []
    for _, path in finished_runs(folder):
        named = [(key.rsplit(".", 1)[-1], value) for key, value in values[path.name].items()]
        runs.append((", ".join(f"{symbols.get(key, key)} = {value:g}" for key, value in named), path_of(path)))
    return runs


def trajectories(folders, baseline, out):
    """Paths of searches with one weight over alpha, a panel for each sweep: w solid, u dashed."""
    import matplotlib.pyplot as plt
    figure, panels = plt.subplots(1, len(folders), figsize=(5 * len(folders), 4.5), squeeze=False)
    beside = path_of(baseline) if baseline else None
    for folder, panel in zip(folders, panels[0]):
        runs = panel_of(folder)
        for i, (label, path) in enumerate(runs):
            colour = plt.get_cmap("viridis")(0.9 * i / max(1, len(runs) - 1))
            panel.plot(path["alpha"], path["w"], color=colour, label=label, linewidth=1.2)
            if "u" in path:
                panel.plot(path["alpha"], path["u"], color=colour, linewidth=1, linestyle="--")
            panel.plot(path["alpha"][-1], path["w"][-1], color=colour, marker="o", markersize=4)
        if beside:
            panel.plot(beside["alpha"], beside["w"], color="black", linewidth=1.2,
                       label=summary_of(baseline)["name"])
            panel.plot(beside["alpha"][-1], beside["w"][-1], color="black", marker="o", markersize=4)
        panel.plot(*MINIMUM, color="red", marker="*", markersize=10, linestyle="")
        panel.set_xlabel(r"$\alpha$")
        panel.set_ylabel("w (solid), u (dashed)")
        panel.grid(alpha=0.3)
        panel.legend(fontsize="small")
    save(figure, out, "trajectories")
