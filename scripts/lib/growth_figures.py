"""Figures of networks that grow or shrink: widths, selected filters, time and memory over the epochs."""
from pathlib import Path

from run_files import Wrong, figures, lines_of, load, save, tensors_of


def growth(run, out):
    """Widths and selected shares of every layer, accuracy, parameters, time and MACs, over the epochs."""
    save(figures.growth(load(run)), out, "growth")


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
