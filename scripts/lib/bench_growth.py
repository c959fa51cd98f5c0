"""The wall time of a run whose network grows or shrinks, over what its train cost promises.

A recipe is run as it is and, in alternating pairs, without its controllers, for as many epochs. Were a step's time as
its multiply-accumulates, the ratio of the two times would be that of the two train costs. What is printed is how much
larger it is: edits, evaluations, and layers that lose less time than arithmetic."""
import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


def output_of(command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"bench growth: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def summary_of(o, folder, overrides):
    command = [o.program, "run", "-q", o.recipe, "--out", folder, *(x for s in overrides for x in ("--set", s)),
               *(x for d in o.data for x in ("--data", d))]
    output_of(command)
    return json.loads((Path(folder) / "summary.json").read_text())


def main():
    parser = argparse.ArgumentParser(
        prog="scripts/bench growth", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n  scripts/bench growth recipes/quickstart.yaml\n"
               "  scripts/bench growth recipes/adenel-lenet5.yaml --pairs 3 --set seed=1\n")
    parser.add_argument("recipe", type=Path, metavar="RECIPE")
    parser.add_argument("--pairs", type=int, default=3, help="pairs (default 3)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="an override, of both runs")
    parser.add_argument("--data", action="append", default=[], metavar="DIR", help="a folder of data sets")
    parser.add_argument("--program", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--recipes", type=Path, help=argparse.SUPPRESS)
    o = parser.parse_args()
    plan = json.loads(output_of([o.program, "plan", o.recipe, "--json", *(x for s in o.set for x in ("--set", s))]))
    stages = [s["name"] for s in plan["stages"]]
    ratios, promised, taken = [], [], []
    with tempfile.TemporaryDirectory(prefix="espalier-bench-") as folder:
        for pair in range(o.pairs):
            found = {}
            for kind in ("changing", "fixed") if pair % 2 == 0 else ("fixed", "changing"):
                without = [f"stages.{s}.controller=none" for s in stages] if kind == "fixed" else []
                found[kind] = summary_of(o, f"{folder}/{pair}-{kind}", [*o.set, *without])
            changing, fixed = found["changing"], found["fixed"]
            epochs = [sum(s["epochs"] for s in f["stages"]) for f in (changing, fixed)]
            # A controller may end its stage early, so times and costs are those of an epoch.
            promised.append(changing["train_macs"] / epochs[0] / (fixed["train_macs"] / epochs[1]))
            taken.append(changing["seconds"] / epochs[0] / (fixed["seconds"] / epochs[1]))
            ratios.append(taken[-1] / promised[-1])
            print(f"pair {pair + 1}: {promised[-1]:.3f} of the multiply-accumulates, {taken[-1]:.3f} of the time",
                  file=sys.stderr, flush=True)
    print(f"{o.recipe}: time over train cost {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), "
          f"{o.pairs} pairs")


if __name__ == "__main__":
    main()
