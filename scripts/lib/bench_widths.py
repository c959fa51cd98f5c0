"""What the step of a network of odd widths, as pruning leaves them, takes over that of the next multiples of 16.

The two are timed in alternating pairs on made-up images. A wider network computes more, so a ratio of 1 says that the
odd one gains nothing, and one above 1 that it is slower although it is smaller."""
import argparse
import statistics
import sys
from pathlib import Path

from bench_steps import measure

# The override of a recipe of recipes/bench, and the odd widths.
NETWORKS = {
    "resnet20": ("network.widths", [13, 27, 51]),
    "vgg16": ("network.widths", [13, 18, 27, 51, 77, 77, 77, 113, 113, 113, 113, 113, 113]),
}


def rounded(widths):
    """The next multiples of 16."""
    return [-(-w // 16) * 16 for w in widths]


def main():
    parser = argparse.ArgumentParser(
        prog="scripts/bench widths", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  scripts/bench widths resnet20 --pairs 9 --precision bf16\n")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NETWORKS)} (default: all)")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of each (default 5)")
    parser.add_argument("--steps", type=int, default=20, help="steps timed in each run (default 20)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: all cores)")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--program", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--recipes", type=Path, required=True, help=argparse.SUPPRESS)
    o = parser.parse_args()
    for name in o.names:
        if name not in NETWORKS:
            parser.error(f"there are no odd widths of '{name}' (known: {', '.join(NETWORKS)})")
    more = ["--set", f"precision={o.precision}", "--set", f"threads={o.threads}",
            "--set", 'data={"use": "synthetic", "size": 32, "channels": 3, "count": 4096, "batch": 128}']
    for name in o.names or NETWORKS:
        key, odd = NETWORKS[name]
        ratios = []
        for pair in range(o.pairs):
            order = [odd, rounded(odd)] if pair % 2 == 0 else [rounded(odd), odd]
            times = [measure(o.program, o.recipes / f"{name}.yaml", f"{key}={widths}", o.steps, [], more)["step_ms"]
                     for widths in order]
            ratios.append(times[0] / times[1] if pair % 2 == 0 else times[1] / times[0])
        print(f"{name}, {o.precision}: widths {odd} over {rounded(odd)}: {statistics.median(ratios):.2f} "
              f"({min(ratios):.2f} to {max(ratios):.2f}), {o.pairs} pairs of {o.steps} steps", flush=True)


if __name__ == "__main__":
    sys.exit(main())
