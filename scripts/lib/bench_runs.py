"""What the networks of finished runs cost beside that of the first one: parameters, multiply-accumulates, and the time
of the forward pass and of a training step.

The networks are timed in alternating pairs with the first one, on made-up inputs of the shape of its data. The ratios
are medians over the pairs, with the smallest and the largest in brackets. A sweep's folder stands for all its runs."""
import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench_steps import measure
from run_files import Wrong, finished_runs, json_of, summary_of


def runs_of(folders):
    for folder in map(Path, folders):
        if (folder / "sweep.json").exists():
            yield from (path for _, path in finished_runs(folder))
        else:
            yield folder


def recipe_of(run, o, folder):
    """A recipe that trains the network of a run with plain sgd on made-up images."""
    graph = json_of(run, "graph.json")
    sizes = {e["name"]: e["sizes"] for e in graph["edges"]}
    shape = next((sizes[name] for name in graph["inputs"] if len(sizes[name]) == 3), None)
    if shape is None or shape[1] != shape[2]:
        raise Wrong(f"{run}: only networks of square images are timed")
    channels, side, _ = shape
    classes = json_of(run, "data.json")[0]["classes"]
    recipe = {"espalier": 1, "name": "bench", "threads": o.threads,
              "data": {"use": "synthetic", "size": side, "channels": channels, "classes": classes,
                       "count": 8 * o.batch, "batch": o.batch},
              "network": {"from": str(run.resolve())},
              "stages": [{"name": "train", "epochs": 1, "optimizer": {"use": "sgd", "lr": 1e-6}}]}
    path = folder / f"{abs(hash(str(run)))}.yaml"
    path.write_text(json.dumps(recipe))
    return path


def forward_ms(program, run, o):
    command = [program, "bench", run, "--inference", str(o.batch), "--threads", str(o.threads), "--json"]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"bench: {done.stderr.strip() or done.stdout.strip()}")
    return json.loads(done.stdout)["inference"][0]["ms"]


def spread(ratios):
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def main():
    parser = argparse.ArgumentParser(
        prog="scripts/bench runs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  scripts/bench runs runs/prune-scores-base-seed0 runs/prune-scores --pairs 5\n")
    parser.add_argument("base", metavar="RUN", type=Path, help="folder of the run that the others are compared with")
    parser.add_argument("runs", nargs="+", metavar="RUN_OR_SWEEP", help="folders of finished runs or sweeps")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of each (default 5)")
    parser.add_argument("--steps", type=int, default=10, help="training steps timed in each run (default 10)")
    parser.add_argument("--batch", type=int, default=128, help="images of a batch (default 128)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default 1)")
    parser.add_argument("--program", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--recipes", type=Path, help=argparse.SUPPRESS)
    o = parser.parse_args()
    try:
        base = summary_of(o.base)["final"]
        runs = list(runs_of(o.runs))
        with tempfile.TemporaryDirectory(prefix="espalier-bench-") as folder:
            recipes = {run: recipe_of(run, o, Path(folder)) for run in [o.base, *runs]}

            def times(run):
                step = measure(o.program, recipes[run], f"threads={o.threads}", o.steps, [])["step_ms"]
                return forward_ms(o.program, run, o), step

            print(f"{'params':>12} {'MACs':>14} {'share':>6}  {'forward':20} {'training step':20}  run")
            print(f"{base['params']:12,} {base['macs']:14,} {1:6.3f}  {'1':20} {'1':20}  {o.base}", flush=True)
            for run in runs:
                summary = summary_of(run)["final"]
                ratios = []
                for pair in range(o.pairs):
                    first, second = (times(r) for r in ((o.base, run) if pair % 2 == 0 else (run, o.base)))
                    was, now = (first, second) if pair % 2 == 0 else (second, first)
                    ratios.append([n / w for n, w in zip(now, was, strict=True)])
                forward, step = (spread(list(r)) for r in zip(*ratios, strict=True))
                print(f"{summary['params']:12,} {summary['macs']:14,} {summary['macs'] / base['macs']:6.3f}  "
                      f"{forward:20} {step:20}  {run}", flush=True)
    except Wrong as e:
        sys.exit(f"bench runs: {e}")


if __name__ == "__main__":
    main()
