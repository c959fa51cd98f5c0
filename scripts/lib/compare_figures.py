"""The picture and the table of a comparison of methods: runs of many recipes at several sizes, over seeds."""
import json
from pathlib import Path

from run_files import Wrong, metric_of, save, summary_of


def label_of(run):
    """What a matrix varies beside the seed: "macs=0.5", or "" of a run that is in no sweep."""
    if not (run.parent / "sweep.json").exists():
        return ""
    return ",".join(part for part in run.name.split(",") if not part.startswith("seed="))


def runs_in(folders):
    """Finished runs: {method: {label: [(summary, folder)]}}. A method is called as the file of its recipe."""
    found = {}
    for folder in folders:
        for file in sorted(Path(folder).rglob("summary.json")):
            run = file.parent
            if run.name.startswith("finished-") or any(".before-" in part for part in run.parts):
                continue
            if json.loads(file.read_text()).get("status") != "finished":
                continue
            recipe = json.loads((run / "environment.json").read_text()).get("recipe") or run.name
            found.setdefault(Path(recipe).stem, {}).setdefault(label_of(run), []).append((summary_of(run), run))
    if not found:
        raise Wrong(f"{', '.join(map(str, folders))}: no folder of a run that ended is there")
    return found


def spread(numbers):
    """Mean and standard deviation of the sample; none of a single number."""
    mean = sum(numbers) / len(numbers)
    if len(numbers) < 2:
        return mean, None
    return mean, (sum((n - mean) ** 2 for n in numbers) / (len(numbers) - 1)) ** 0.5


def points_of(labels, whole, metric):
    """A point for each label, larger networks first: share of the multiply-accumulates, metric, and so on."""
    points = []
    for label, runs in labels.items():
        summaries = [s for s, _ in runs]
        points.append({
            "label": label,
            "share": spread([s["final"]["macs"] / whole for s in summaries]),
            "metric": spread([metric_of(s, metric) for s in summaries]),
            "params": spread([s["final"]["params"] for s in summaries])[0],
            "cost": spread([s["train_cost"] for s in summaries])[0],
            "seconds": spread([s["seconds"] for s in summaries])[0],
            "seeds": len(summaries),
        })
    return sorted(points, key=lambda p: -p["share"][0])


def panels_of(given, methods, beside):
    """NAME=METHOD,METHOD of the command line; without any, one panel of all."""
    panels = []
    for text in given or ["all methods=" + ",".join(m for m in methods if m not in beside)]:
        name, _, listed = text.partition("=")
        members = [m for m in listed.split(",") if m]
        if not members:
            raise Wrong(f"'{text}': expected NAME=METHOD,METHOD, as in \"scores=l1,taylor\"")
        panels.append((name, members))
    for method in [m for _, members in panels for m in members] + list(beside):
        if method not in methods:
            raise Wrong(f"no run that ended is one of '{method}'; there are {', '.join(sorted(methods))}")
    return panels


def table_of(methods, panels, beside):
    """Markdown: a row for each method, a column for each size."""
    groups = [("beside", list(beside))] + panels if beside else panels
    listed = [m for _, members in groups for m in members]
    sizes = max(len(methods[m]) for m in listed)
    rows = ["| method | " + " | ".join(["share of MACs: accuracy"] * sizes) + " | train cost |",
            "|---" * (sizes + 2) + "|"]
    for method in dict.fromkeys(listed):
        cells = []
        for p in methods[method]:
            mean, deviation = p["metric"]
            share, varies = p["share"]
            cell = f"{share:.3f}"[1 if share < 1 else 0:]
            if varies is not None and varies >= 0.0005:
                cell += f" ± {varies:.3f}".replace(" 0.", " .")
            cell += f": {mean:.2f}" + ("" if deviation is None else f" ± {deviation:.2f}")
            cells.append(cell)
        cells += [""] * (sizes - len(cells))
        costs = ", ".join(f"{p['cost']:.2f}" for p in methods[method])
        rows.append(f"| {method} | " + " | ".join(cells) + f" | {costs} |")
    return "\n".join(rows) + "\n"


def compare(folders, given, beside, metric, out):
    """Metric against the share of MACs: a line for each method, over seeds, in panels; compare.md has the numbers."""
    import matplotlib
    import matplotlib.pyplot as plt
    matplotlib.rcParams["svg.fonttype"] = "none"  # many labels: letters as outlines would be most of the file
    runs = runs_in(folders)
    beside = [m for m in beside.split(",") if m]
    whole = max(s["base"]["macs"] for labels in runs.values() for found in labels.values() for s, _ in found)
    panels = panels_of(given, runs, beside)
    methods = {m: points_of(labels, whole, metric) for m, labels in runs.items()}
    leading = next(iter(next(iter(runs.values())).values()))[0][0].get("metric") or {"name": "accuracy", "unit": "%"}

    def draw(panel, method, **style):
        points = methods[method]
        panel.plot([p["share"][0] for p in points], [p["metric"][0] for p in points], linewidth=1.2, label=method,
                   **style)
        for p in points:
            (x, dx), (y, dy) = p["share"], p["metric"]
            if dy is not None:
                panel.errorbar(x, y, yerr=dy, xerr=dx, fmt="none", elinewidth=0.8, ecolor=style["color"])

    columns = min(2, len(panels))
    lines = (len(panels) + columns - 1) // columns
    figure, axes = plt.subplots(lines, columns, figsize=(5.4 * columns, 3.9 * lines), squeeze=False, sharex=True,
                                sharey=True)
    for i, panel in enumerate(axes.flat):
        if i >= len(panels):
            panel.axis("off")
            continue
        name, members = panels[i]
        greys = ["black", "dimgrey", "darkgrey"]
        for k, method in enumerate(beside):
            draw(panel, method, color=greys[k % len(greys)], marker="x", linestyle=":")
        for k, method in enumerate(m for m in members if m not in beside):
            draw(panel, method, color=plt.get_cmap("tab10")(k % 10), marker="osD^v"[k // 10 % 5], markersize=4)
        panel.set_title(name, fontsize="medium")
        panel.grid(alpha=0.3)
        panel.legend(fontsize="x-small", loc="lower right")
        panel.tick_params(labelbottom=i + columns >= len(panels))
        if i + columns >= len(panels):
            panel.set_xlabel("share of the whole network's multiply-accumulates")
        if i % columns == 0:
            panel.set_ylabel("test " + leading["name"] + (f", {leading['unit']}" if leading["unit"] else ""))
    save(figure, out, "compare")
    (out / "compare.md").write_text(table_of(methods, panels, beside))
    print(out / "compare.md")
