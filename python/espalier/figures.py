"""Figures of runs. Each function returns a matplotlib.figure.Figure, to be shown, changed, or saved by `savefig`."""
from .files import Wrong, leading_of, metric_of, on_front
from .runs import Run

COUNTS = {"params": "parameters, millions", "macs": "multiply-accumulates, millions"}


def with_unit(name, unit=None):
    """unit: where it is known; an accuracy is in percent."""
    if unit is None:
        unit = "%" if name == "accuracy" else ""
    return f"test {name}" + (f", {unit}" if unit else "")


def trained_metric(run):
    """The name of the leading metric, which every epoch measures while it trains; none where it cannot be."""
    return next((name.removeprefix("train_") for name in run.metrics if name.startswith("train_")), None)


def require_runs(runs):
    for run in runs:
        if not isinstance(run, Run):
            raise Wrong(f"{getattr(run, 'folder', run)}: this figure is of runs; give what `espalier.load` makes of "
                        "the folder of a run, or the `runs` of a sweep")


def begins_of_stages(run):
    """After how many epochs of the run each further stage began."""
    stages = run.metrics["stage"]
    return [epoch - 1 for epoch, before in zip(stages.index[1:], stages) if stages[epoch] != before]


def curves(*runs, metric=None):
    """The loss of training and a metric on the test part over the epochs, a line for each run. metric: by its name as
    in `accuracy` (default: the leading one, or else the loss)."""
    import matplotlib.pyplot as plt
    require_runs(runs)
    if not runs:
        raise Wrong("curves: give at least one run")
    name = metric or trained_metric(runs[0]) or "loss"
    column = "test_" + name
    figure, panels = plt.subplots(1, 2, figsize=(11, 4))
    for run in runs:
        if column not in run.metrics:
            known = [c.removeprefix("test_") for c in run.metrics if c.startswith("test_")]
            raise Wrong(f"{run.folder}: no metric '{name}' on the test part; it has {', '.join(known)}")
        panels[0].plot(run.metrics["loss"], label=run.name)
        # Not every epoch need be evaluated.
        panels[1].plot(run.metrics[column].dropna(), label=run.name)
    for panel, label in zip(panels, ("training loss", with_unit(name))):
        panel.set_xlabel("epoch")
        panel.set_ylabel(label)
        panel.grid(alpha=0.3)
    if len(runs) > 1:
        panels[1].legend(fontsize="small")
    else:
        mark_stages(runs[0], panels)
    return figure


def mark_stages(run, panels):
    for panel in panels:
        for begin in begins_of_stages(run):
            panel.axvline(begin, color="grey", linewidth=0.8, linestyle=":")


def draw_steps(panel, values, last, **style):
    """Each of the values holds from its place in the index to the next one's, and the last one to the end."""
    panel.step([*values.index, last], [*values, values.iloc[-1]], where="post", **style)


def growth(run):
    """How the structure of a run grew or shrank: its widths, the metric with the parameters, and the time of an epoch
    with the multiply-accumulates, over the epochs; where a controller measured the selected shares, these, too."""
    import matplotlib.pyplot as plt
    require_runs([run])
    metrics, widths = run.metrics, run.widths
    if widths.columns.empty:
        raise Wrong(f"{run.folder}: no edit has changed a width of this run (see its history.jsonl)")
    shares = [column for column in metrics if column.startswith("selected.")]
    count = 4 if shares else 3
    colours = plt.get_cmap("viridis")
    figure, panels = plt.subplots(count, 1, figsize=(8, 3 * count), sharex=True)
    last = max(metrics.index[-1], widths.index[-1])
    colour_of = {axis: colours(i / max(1, len(widths.columns) - 1)) for i, axis in enumerate(widths)}
    for axis, colour in colour_of.items():
        draw_steps(panels[0], widths[axis], last, color=colour, label=axis)
    panels[0].set_ylabel("width")
    for column in shares:
        colour = colour_of.get(column.removeprefix("selected."), "grey")
        panels[1].plot(metrics[column].dropna(), color=colour, marker=".", linewidth=0.8)
        panels[1].set_ylabel("share selected, $s^l$")
        panels[1].set_ylim(-0.02, 1.02)
    name = trained_metric(run) or "loss"
    for panel, column, label, size in (
            (panels[-2], "test_" + name, with_unit(name), "params"),
            (panels[-1], "seconds", "seconds of the epoch", "macs")):
        panel.plot(metrics[column].dropna(), color="black")
        panel.set_ylabel(label)
        beside = panel.twinx()
        draw_steps(beside, run.sizes[size] / 1e6, last, color="tab:orange")
        beside.set_ylabel(COUNTS[size], color="tab:orange")
        if panel is panels[-1]:
            beside.set_ylim(bottom=0)
    panels[-1].set_ylim(bottom=0)
    panels[-1].set_xlabel("epoch")
    mark_stages(run, panels)
    panels[0].legend(fontsize="x-small", ncols=max(1, len(widths.columns) // 14 + 1), loc="center left",
                     bbox_to_anchor=(1.01, 0.5))
    return figure


def front(groups, against="params", metric=None):
    """A metric against the size of networks. groups: {name: runs or a sweep}; of runs a line, of a sweep all its runs
    and those on the front. against: `params`, `macs`, or a function that gives the size of a run in millions. metric:
    by its name, or NAME_best (default: the leading one's best; of a sweep the leading one as its runs ended)."""
    import matplotlib.pyplot as plt
    size_of = against if callable(against) else lambda run: run.results[against] / 1e6
    figure, panel = plt.subplots(figsize=(6, 4.5))
    for name, group in groups.items():
        runs = [run for run in getattr(group, "runs", group) if run.status == "finished"]
        if not runs:
            raise Wrong(f"front: no run of '{name}' has finished")
        leading = leading_of(runs[0].summary)
        if any(leading_of(run.summary)["name"] != leading["name"] for run in runs):
            raise Wrong(f"front: the runs of '{name}' do not have the same leading metric")
        if not hasattr(group, "runs"):
            panel.plot(*zip(*sorted((size_of(run), metric_of(run.summary, metric)) for run in runs)), marker="o",
                       label=name)
            continue
        shown = metric or leading["name"]  # as the run ended: what the sweep's table has
        if shown.removesuffix("_best") != leading["name"]:
            raise Wrong(f"{group.folder}: whether a larger '{shown}' is better is known of the leading metric alone: "
                        f"{leading['name']} or {leading['name']}_best")
        points = [(size_of(run), metric_of(run.summary, shown)) for run in runs]
        points = [(size, m) for size, m in points if m is not None]  # null: not finite
        panel.plot([size for size, _ in points], [m for _, m in points], linestyle="", marker="o", alpha=0.4,
                   label=f"{name}, all runs")
        best = on_front(points, leading["larger_is_better"])
        panel.plot([size for size, _ in best], [m for _, m in best], marker="o", label=f"{name}, front")
    panel.set_xscale("log")
    panel.set_xlabel(COUNTS.get(against, "size, millions"))
    named = metric in (None, leading["name"], leading["name"] + "_best")
    panel.set_ylabel(with_unit(leading["name"], leading["unit"]) if named else with_unit(metric))
    panel.legend(fontsize="small")
    panel.grid(alpha=0.3)
    return figure
