"""What the passes of regularizers cost over plain sgd, in alternating runs of training steps on the CPU.

The passes are timed alone, within the step: what is added to the gradients, and what the update takes longer where a
proximal step follows it. The cost is the median pass / the median step without regularizers."""
import argparse
import statistics
from pathlib import Path

from bench_steps import measure

USUAL = ["{use: kernel_number, weight: 0.0001}", "{use: kernel_size, weight: 0.0001}",
         "{use: kernel_number, weight: 0.0001, solver: proximal}",
         "{use: kernel_size, weight: 0.0001, solver: proximal}"]


def main():
    parser = argparse.ArgumentParser(prog="scripts/bench regularizers", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=["resnet20", "kernelnet18x5"], metavar="NAME",
                        help="recipes/bench/NAME.yaml")
    parser.add_argument("--regularizer", action="append", metavar="REGULARIZER",
                        help=f"as in a recipe, any number of times (default: {', '.join(USUAL)})")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--data", action="append", default=[], metavar="DIR")
    parser.add_argument("--program", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--recipes", type=Path, required=True, help=argparse.SUPPRESS)
    o = parser.parse_args()
    every = o.regularizer or USUAL
    print(f"{'':14}{'pass, ms':>10}{'step, ms':>10}{'cost':>9}   regularizer")
    for name in o.names:
        passes, steps = {r: [] for r in every}, []
        for _ in range(o.rounds):
            plain = measure(o.program, o.recipes / f"{name}.yaml", "stages.0.regularizers=[]", o.steps, o.data)
            steps.append(plain["step_ms"])
            for regularizer in every:
                override = f"stages.0.regularizers=[{regularizer}]"
                phases = measure(o.program, o.recipes / f"{name}.yaml", override, o.steps, o.data)["phases_ms"]
                after = phases["update"] - plain["phases_ms"]["update"] if "proximal" in regularizer else 0
                passes[regularizer].append(phases["regularizers"] + after)
        step = statistics.median(steps)
        for regularizer in every:
            one = statistics.median(passes[regularizer])
            print(f"{name:14}{one:10.3f}{step:10.2f}{one / step:9.4f}   {regularizer}")


if __name__ == "__main__":
    main()
