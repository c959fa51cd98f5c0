"""Figures of a search of the dimensions of a transformer: what each layer keeps."""
import json
from pathlib import Path

from run_files import Wrong, save, summary_of


def kept_of(run):
    """What each layer keeps in the last removal of a run, in the order of the network."""
    summary = summary_of(run)
    found = [path for stage in summary["stages"]
             if (path := Path(run) / "artefacts" / f"{stage['name']}.kept.json").exists()]
    if not found:
        raise Wrong(f"{run}: no stage removed dimensions of a transformer; the controllers sidt and vtp do so with a "
                    "'ratio' above 0")
    shares = json.loads(found[-1].read_text())
    # Names are in the order of the alphabet: blocks.2 before blocks.10.
    return dict(sorted(shares.items(), key=lambda s: [(part.isdigit(), int(part) if part.isdigit() else 0, part)
                                                     for part in s[0].split(".")]))


def label_of(run):
    path = Path(run).resolve()
    return path.name if (path.parent / "sweep.json").exists() else json.loads(
        (path / "summary.json").read_text())["name"]


def kept(runs, out):
    """The share of dimensions that each attention and each MLP keeps, a bar for each run (paper 003, figure 4.2)."""
    import matplotlib.pyplot as plt
    shares = {run: kept_of(run) for run in runs}
    names = list(next(iter(shares.values())))
    for run, s in shares.items():
        if list(s) != names:
            raise Wrong(f"{run}: its layers are not those of {runs[0]}; give runs of one network")
    figure, panel = plt.subplots(figsize=(max(4, 0.35 * len(names) + 1), 4.5))
    width = 0.8 / len(shares)
    for i, (run, s) in enumerate(shares.items()):
        at = [x + (i - (len(shares) - 1) / 2) * width for x in range(len(names))]
        panel.bar(at, list(s.values()), width, label=label_of(run))
    panel.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
    panel.set_ylim(0, 1.05)
    panel.set_ylabel("share of dimensions that stay")
    panel.legend(fontsize="small", loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    panel.grid(alpha=0.3, axis="y")
    save(figure, out, "kept")
