"""Pictures of runs: see --help. Reads metrics.jsonl, summary.json, records/ and model.safetensors of run folders."""
import argparse
import sys
from pathlib import Path

import compare_figures
import component_figures
import front_figures
import growth_figures
import kept_figures
import kernel_figures
import paper_figures
import search_figures
from run_files import Wrong

EXAMPLES = """examples:
  scripts/figures papers runs --scale short       all figures that the runs of `espalier reproduce` allow
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


def main():
    parser = argparse.ArgumentParser(prog="scripts/figures",
                                     description="Draws what runs left in their folders, as SVG and PNG.",
                                     epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="FIGURE")
    out = argparse.ArgumentParser(add_help=False)
    out.add_argument("--out", type=Path, metavar="DIR", help="where the pictures go (default: RUN/figures, or figures)")
    p = commands.add_parser("growth", parents=[out], help=growth_figures.growth.__doc__)
    p.add_argument("run", metavar="RUN")
    p = commands.add_parser("filters", parents=[out], help=growth_figures.filters.__doc__)
    p.add_argument("run", metavar="RUN")
    p.add_argument("--beside", metavar="RUN", help="a run whose network was trained from scratch")
    p.add_argument("--weight", metavar="NAME", help="of the recorded ones (default: the first)")
    p = commands.add_parser("front", parents=[out], help=front_figures.front.__doc__)
    p.add_argument("groups", nargs="+", metavar="NAME=RUNS|SWEEP",
                   help="a name and a pattern of run folders, or the folder of a sweep")
    p.add_argument("--quoted", metavar="FILE",
                   help='JSON: {"name": [{"params": 5.4, "macs": 113, "accuracy": 92.1}]}, in millions')
    p.add_argument("--against", choices=["params", "macs", "authors"], default="params")
    p.add_argument("--metric", metavar="NAME",
                   help="a metric of the runs, or NAME_best (default: the leading one's best; of a sweep the leading "
                        "one as its runs ended)")
    p = commands.add_parser("shrinking", parents=[out], help=growth_figures.shrinking.__doc__)
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
    p = commands.add_parser("papers", parents=[out], help=paper_figures.papers.__doc__)
    p.add_argument("folder", metavar="RUNS", help="the folder that the runs' folders lie in, as of reproduce")
    p.add_argument("--scale", default="", metavar="NAME", help="of the runs: smoke, short (default: the papers')")
    given = parser.parse_args()
    import matplotlib
    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "espalier"
    where = given.out or (Path(given.run) / "figures" if "run" in given else Path("figures"))
    if given.command == "papers":
        return paper_figures.papers(given.folder, given.scale, given.out or Path(given.folder) / "figures")
    if given.command == "growth":
        growth_figures.growth(given.run, where)
    elif given.command == "filters":
        growth_figures.filters(given.run, given.beside, given.weight, where)
    elif given.command == "shrinking":
        growth_figures.shrinking(given.runs, where)
    elif given.command == "front":
        front_figures.front(given.groups, given.quoted, given.against, given.metric, where)
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
