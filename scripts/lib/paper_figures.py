"""All figures of the papers that the runs of a folder allow."""
from pathlib import Path

import front_figures
import growth_figures
import kept_figures
import kernel_figures
import search_figures
from run_files import Wrong, finished_runs, lines_of, save

QUOTED = Path(__file__).resolve().parents[2] / "recipes" / "paper"


def number(summary, name):
    """A number of a summary, measured or its own."""
    if name in summary:
        return summary[name]
    return summary.get("metrics", {}).get(name)


def loss_and_sparsity(sweeps, out):
    """Paper 002, figure 1: loss against sparsity, a panel for each data set, a line for each method."""
    import matplotlib.pyplot as plt
    figure, panels = plt.subplots(1, len(sweeps), figsize=(4.2 * len(sweeps), 3.6), squeeze=False)
    for panel, sweep in zip(panels[0], sweeps):
        lines = {"ShrinkNets": [], "group sparsity": []}
        for run in kernel_figures.runs_of([sweep]):
            grouped = any("controller" in key and value == "none" for key, value in run.values.items())
            point = number(run.summary, "sparsity"), number(run.summary, "loss")
            if None not in point:
                lines["group sparsity" if grouped else "ShrinkNets"].append(point)
        for (name, points), marker in zip(lines.items(), "os"):
            if points:
                panel.plot(*zip(*sorted(points)), marker=marker, label=name)
        panel.set_title(sweep.name.split("-")[2])
        panel.set_xlabel("sparsity")
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel("loss")
    panels[0][0].legend(fontsize="small")
    save(figure, out, "loss-and-sparsity")


def killing(sweeps, baseline, out):
    """Paper 002, figure 2: loss and cost against 1 - gamma, a row for each strength, a line for each way to kill."""
    import matplotlib.pyplot as plt
    figure, panels = plt.subplots(len(sweeps), 2, figsize=(9, 3.4 * len(sweeps)), squeeze=False)
    for row, sweep in zip(panels, sweeps):
        lines = {}
        for run in kernel_figures.runs_of([sweep]):
            here = {key.rsplit(".", 1)[-1]: value for key, value in run.values.items()}
            loss = number(run.summary, "loss")
            cost = lines_of(run.folder / "metrics.jsonl")[-1].get("neuron_steps")
            if loss is not None and cost is not None:
                by_gamma = lines.setdefault(here.get("kill", "sign_variance"), {})
                by_gamma.setdefault(1 - here.get("gamma", 0), []).append((loss, cost))
        for kill, by_gamma in lines.items():
            at = sorted(by_gamma)
            for i, panel in enumerate(row):
                panel.plot(at, [sum(p[i] for p in by_gamma[g]) / len(by_gamma[g]) for g in at], marker="o", label=kill)
        for panel, label in zip(row, ("loss", "living inputs, summed over the steps")):
            panel.set_xscale("log")
            panel.set_xlabel("1 - gamma")
            panel.set_ylabel(label)
            panel.set_title(sweep.name, fontsize="small")
            panel.grid(alpha=0.3)
        if baseline:
            losses = [number(s, "loss") for s, _ in finished_runs(baseline) if number(s, "loss") is not None]
            if losses:
                row[0].axhline(sum(losses) / len(losses), color="grey", linestyle="--", label="nothing is killed")
        row[0].legend(fontsize="small")
    save(figure, out, "killing")


def papers(folder, scale, out):
    """Every figure of the papers that the runs of a folder allow, as `espalier reproduce` makes them."""
    root = Path(folder)
    if not root.is_dir():
        raise Wrong(f"{root}: there is no such folder; give the one that the runs' folders lie in, as runs")
    end = f"-{scale}" if scale and scale != "paper" else ""

    def sweep(name):
        path = root / (name + end)
        if not (path / "sweep.json").exists():
            raise Wrong(f"{path}: there is no such sweep")
        return path

    def run(name):
        path = root / f"{name}{end}-seed0"
        if not (path / "summary.json").exists():
            raise Wrong(f"{path}: there is no such run that ended")
        return path

    def members(name):
        return [path for _, path in finished_runs(sweep(name))]

    def maybe(find, name):
        try:
            return find(name)
        except Wrong:
            return None

    def there(find, names):
        found = [path for path in (maybe(find, name) for name in names) if path]
        if not found:
            raise Wrong(f"{root}: there is none of {', '.join(name + end for name in names)}")
        return found

    data_sets = ("scm1d", "oes97", "gina", "gas-drift", "oes10", "atp1d")
    figures = {
        "000-f3": lambda to: front_figures.front(
            [f"AdeNeL={sweep('000-f3-budgets')}/*", f"from scratch={sweep('000-f3-scratch')}/*"],
            QUOTED / "000" / "f3-quoted.json", "params", None, to),
        "000-f4": lambda to: growth_figures.filters(run("000-f4-lenet5"), maybe(run, "000-f4-scratch"), None, to),
        "001-f1": lambda to: kernel_figures.widths([sweep("001-f1-imagenet7")], to),
        "001-f2": lambda to: kernel_figures.supports(5, "top_left", to),
        "001-f3": lambda to: kernel_figures.sizes([sweep("001-f3-imagenet7")], to),
        "001-f4": lambda to: kernel_figures.frontier([sweep("001-f4-cifar18x5")], None, False, to),
        "001-f5": lambda to: kernel_figures.frontier([sweep("001-f5-cifar19")], None, False, to),
        "001-f6": lambda to: kernel_figures.frontier(there(sweep, ("001-f4-cifar18x5", "001-f5-cifar19")),
                                                     QUOTED / "001" / "f6-quoted.json", True, to),
        "001-f7": lambda to: kernel_figures.kernels(members("001-f7-cifar18x5")[-1], 32, to),
        "001-f8": lambda to: kernel_figures.correlation([sweep("001-f8-cifar18x5")], to),
        "002-f1": lambda to: loss_and_sparsity(there(sweep, [f"002-f1-{name}" for name in data_sets]), to),
        "002-f2": lambda to: killing(there(sweep, ("002-f2-oes97", "002-f2-oes97-weak")),
                                     maybe(sweep, "002-f2-oes97-baseline"), to),
        "002-f3": lambda to: front_figures.front(there(sweep, ("002-f3-cifar10", "002-f3-cifar10-static")),
                                                 QUOTED / "002" / "f3-quoted.json", "authors", None, to),
        "002-f4": lambda to: front_figures.front(there(sweep, ("002-f4-covertype", "002-f4-covertype-static")),
                                                 QUOTED / "002" / "f4-quoted.json", "params", None, to),
        "003-f1": lambda to: search_figures.trajectories(
            there(sweep, ("003-f1-lambda", "003-f1-beta", "003-f1-start")), there(run, ("003-f1-darts",))[0], to),
        "003-f2": lambda to: search_figures.cells(there(run, ("003-t1-rarts", "003-t1-search"))[0], to),
        "003-f4": lambda to: kept_figures.kept(members("003-f4-kept"), to),
    }
    missing = []
    for name, draw in figures.items():
        try:
            draw(out / name)
        except Wrong as e:
            missing.append(f"{name} is passed over: {e}")
    print("\n".join(missing))
    if len(missing) == len(figures) - 1:  # figure 2 of paper 001 needs no run
        raise Wrong(f"{root}: no figure could be drawn" +
                    ("" if end else "; runs of another scale than the paper's need --scale smoke or --scale short"))
