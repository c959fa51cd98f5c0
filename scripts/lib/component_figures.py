"""Figures of differentiable sparsification: the coefficients of components that compete."""
import math
from pathlib import Path

from run_files import Wrong, save, summary_of, tensors_of

# Groups in a column of the picture.
MOST_ROWS = 40


def components(run, out):
    """Coefficients of components that compete, a row for each group: the darker the larger, crossed where zero."""
    import matplotlib.pyplot as plt
    import numpy as np
    summary_of(run)
    path = Path(run) / "records" / "coefficients.safetensors"
    if not path.exists():
        raise Wrong(f"{path}: there is no such file; the controller sparsify records the coefficients of blocks, "
                    "branches, connections and sums")
    groups = [(name.removesuffix(".competition"), values) for name, values in tensors_of(path).items()]
    # As a network has them: dense1.2 before dense1.10.
    groups.sort(key=lambda g: [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in
                               g[0].split(".")])
    columns = math.ceil(len(groups) / MOST_ROWS)
    rows = math.ceil(len(groups) / columns)
    widest = max(len(values) for _, values in groups)
    figure, panels = plt.subplots(1, columns, figsize=(columns * (2 + 0.3 * widest), 1 + 0.3 * rows), squeeze=False)
    for panel, first in zip(panels[0], range(0, len(groups), rows)):
        part = groups[first:first + rows]
        grid = np.full((len(part), widest), np.nan)
        for y, (_, values) in enumerate(part):
            grid[y, :len(values)] = values
            for x in np.flatnonzero(values == 0):
                panel.text(x, y, "×", ha="center", va="center", fontsize=9, color="tab:red")
        drawn = panel.imshow(grid, cmap="Blues", vmin=0, vmax=max(1e-9, np.nanmax(grid)), aspect="equal")
        panel.set_yticks(range(len(part)), [name for name, _ in part], fontsize=8)
        panel.set_xticks(range(widest))
        panel.set_xlabel("component")
        figure.colorbar(drawn, ax=panel, fraction=0.04, label="coefficient")
    save(figure, out, "components")
