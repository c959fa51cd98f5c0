"""What an optimizer's update pass costs over that of another, in alternating pairs of training steps on the CPU.

The passes are timed alone, within the step; the cost is (median pass - median pass of the first) / median step."""
import argparse
import statistics
from pathlib import Path

from bench_steps import measure


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench optimizers", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["resnet20", "vgg16"], metavar="NAME",
                        help="recipes/bench/NAME.yaml")
    parser.add_argument("--first", default="{use: sgd, lr: 0.01, momentum: 0.9}", metavar="OPTIMIZER")
    parser.add_argument("--second", default="{use: lbi, lr: 0.01, nu: 100}", metavar="OPTIMIZER")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--data", action="append", default=[], metavar="DIR")
    parser.add_argument("--program", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--recipes", type=Path, required=True, help=argparse.SUPPRESS)
    o = parser.parse_args()
    print(f"first:  {o.first}\nsecond: {o.second}\n")
    print(f"{'':14}{'first, ms':>12}{'second, ms':>12}{'step, ms':>12}{'cost':>9}   whole steps, second / first")
    for name in o.names:
        passes, steps = {o.first: [], o.second: []}, {o.first: [], o.second: []}
        for pair in range(o.pairs):
            for optimizer in (o.first, o.second) if pair % 2 == 0 else (o.second, o.first):
                override = f"stages.0.optimizer={optimizer}"
                result = measure(o.program, o.recipes / f"{name}.yaml", override, o.steps, o.data)
                passes[optimizer].append(result["phases_ms"]["update"])
                steps[optimizer].append(result["step_ms"])
        first, second = (statistics.median(passes[x]) for x in (o.first, o.second))
        step = statistics.median(steps[o.first])
        ratios = sorted(b / a for a, b in zip(steps[o.first], steps[o.second], strict=True))
        print(f"{name:14}{first:12.3f}{second:12.3f}{step:12.2f}{(second - first) / step:9.4f}   "
              f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})")


if __name__ == "__main__":
    main()
