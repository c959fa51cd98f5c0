"""Figures of paper 003: paths of searches, and the cells that they found."""
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


def cell_edges(texts):
    """(operation, from, to) of each edge and the names of the nodes, of a list of OPERATION<-INPUT as DARTS writes a
    cell, or of a cell of NAS-Bench-201."""
    if isinstance(texts, list):
        edges = []
        for i, text in enumerate(texts):
            operation, source = text.split("<-")
            edges.append((operation, int(source), i // 2 + 2))
        count = len(texts) // 2
        edges += [("", node + 2, count + 2) for node in range(count)]
        return edges, ["c(k-2)", "c(k-1)", *map(str, range(count)), "c(k)"]
    edges = []
    nodes = texts.split("+")
    for to, node in enumerate(nodes, 1):
        for part in node.strip("|").split("|"):
            operation, source = part.split("~")
            edges.append((operation, int(source), to))
    return edges, ["in", *map(str, range(1, len(nodes))), "out"]


def on_arc(start, end, bend, t):
    """The point at share t of the quadratic curve that Matplotlib draws as `arc3`, whose control point lies `bend`
    lengths beside the middle."""
    (x0, y0), (x1, y1) = start, end
    control = ((x0 + x1) / 2 + bend * (y1 - y0), (y0 + y1) / 2 - bend * (x1 - x0))
    return tuple((1 - t) ** 2 * a + 2 * t * (1 - t) * c + t ** 2 * b for a, c, b in zip(start, control, end))


def place_label(text, start, end, bend, taken):
    """Where on an arc a label covers no node and no other label, or else its middle. taken: boxes as (x, y, half width,
    half height), to which that of the label is added."""
    half = (0.028 * len(text) + 0.05, 0.1)

    def is_free(x, y):
        return all(abs(x - u) >= half[0] + a or abs(y - v) >= half[1] + b for u, v, a, b in taken)

    spots = [on_arc(start, end, bend, t) for t in (0.5, 0.58, 0.42, 0.66, 0.34, 0.74, 0.26)]
    spot = next((s for s in spots if is_free(*s)), spots[0])
    taken.append((*spot, *half))
    return spot


def draw_cell(panel, texts, title):
    """A cell with its nodes in a row and an arc for each operation; `none` is left out."""
    edges, names = cell_edges(texts)
    # The two inputs of a cell of DARTS stand one above the other.
    two = names[0] == "c(k-2)"
    places = [(0, 1.2), (0, -1.2)] + [(i, 0) for i in range(1, len(names) - 1)] if two else [
        (i, 0) for i in range(len(names))]
    taken = [(x, y, 0.2, 0.12) for x, y in places]
    # Short arcs first: they have the fewest places for a label.
    edges = sorted(edges, key=lambda edge: places[edge[2]][0] - places[edge[1]][0])
    for operation, source, to in edges:
        if operation == "none":
            continue
        start, end = places[source], places[to]
        # Arcs between nodes of the row go above and below in turn, the longer the higher; those to the output of a cell
        # of DARTS above.
        upwards = not operation or (source + to) % 2 == 0
        bend = 0 if start[1] or end[0] - start[0] == 1 else -0.35 if upwards else 0.35
        colour = "0.6" if not operation else "tab:red" if operation == "skip_connect" else "tab:blue"
        panel.annotate("", end, start, arrowprops={
            "arrowstyle": "->", "color": colour, "shrinkA": 16, "shrinkB": 16, "connectionstyle": f"arc3,rad={bend}"})
        if operation:
            panel.text(*place_label(operation, start, end, bend, taken), operation, fontsize=8, color=colour,
                       ha="center", va="center", bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5})
    for (x, y), name in zip(places, names):
        panel.text(x, y, name, ha="center", va="center", bbox={"boxstyle": "round", "facecolor": "0.92"})
    panel.set_xlim(-0.5, max(x for x, _ in places) + 0.5)
    panel.set_ylim(*((-1.5, 1.5) if two else (-0.9, 0.9)))
    panel.set_aspect("equal")  # arcs are bent in the lengths of the picture
    panel.set_title(title)
    panel.axis("off")


def cells(run, out):
    """The cells that a search found, with skip connections in red: the artefact `genotype` of a run."""
    import matplotlib.pyplot as plt
    found = sorted((Path(run) / "artefacts").glob("*.genotype.json"))
    if not found:
        raise Wrong(f"{Path(run) / 'artefacts'}: no stage of the run published a genotype; the controller derive does, "
                    "and the searches do at the end of their stage")
    try:
        genotype = json.loads(found[0].read_text())
        drawn = [(key, value) for key, value in genotype.items()
                 if isinstance(value, list) or isinstance(value, str) and value.startswith("|")]
        height = 6 if isinstance(drawn[0][1], list) else 5
        figure, panels = plt.subplots(len(drawn), 1, figsize=(11, height * len(drawn)), squeeze=False)
        for (key, value), panel in zip(drawn, panels[:, 0]):
            draw_cell(panel, value, key)
    except (ValueError, AttributeError, IndexError) as e:
        raise Wrong(f"{found[0]}: no genotype of cells ({e})") from None
    save(figure, out, "cells")
