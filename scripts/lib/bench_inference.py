"""Times the forward pass in evaluation of Espalier and of the same network in PyTorch, in alternating pairs.

PyTorch is tuned: channels_last, inference mode, and with --compile compiled. Inputs are made up and lie in memory."""
import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import ALLOCATOR, HERE, run


def ours_ms(command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"bench inference: {done.stderr.strip() or done.stdout.strip()}")
    return json.loads(done.stdout)["inference"][0]["ms"]


def main():
    parser = argparse.ArgumentParser(
        prog="scripts/bench inference", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  scripts/bench inference resnet20 vgg16 --compile default --pairs 9\n")
    parser.add_argument("names", nargs="*", metavar="NAME", help="recipes/bench/NAME.yaml (default: resnet20 vgg16)")
    parser.add_argument("--batch", type=int, default=1000, help="images of a batch (default 1000)")
    parser.add_argument("--pairs", type=int, default=5, help="pairs (default 5)")
    parser.add_argument("--passes", type=int, default=5, help="passes timed in each run (default 5)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: all cores)")
    parser.add_argument("--precision", choices=("float32", "bf16"), default="float32")
    parser.add_argument("--compile", action="append", default=[], choices=("default", "max-autotune"),
                        help="also against torch.compile in this mode; may be repeated")
    parser.add_argument("--program", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--recipes", type=Path, required=True, help=argparse.SUPPRESS)
    o = parser.parse_args()
    for name in o.names or ("resnet20", "vgg16"):
        recipe = o.recipes / f"{name}.yaml"
        flags = ["--set", f"precision={o.precision}", "--set", f"threads={o.threads}"]
        made = ["--set", 'data={"use": "synthetic", "size": 32, "channels": 3, "count": 4096, "batch": 128}']
        with tempfile.TemporaryDirectory(prefix="espalier-bench-") as folder:
            bench = [o.program, "bench", recipe, "--json", *flags, *made]
            first = run([*bench, "--steps", "1", "--warmup", "0", "--export", folder])
            ours = [*bench, "--inference", str(o.batch), "--steps", str(o.passes)]
            theirs = [sys.executable, HERE / "bench_peer.py", folder, "--batch", str(o.batch), "--steps", str(o.passes),
                      "--warmup", "2", "--precision", o.precision, "--threads", str(first["environment"]["threads"]),
                      "--inference"]
            peers = {"python": theirs, **{f"python, {m}": [*theirs, "--compile", m] for m in o.compile}}
            ratios = {peer: [] for peer in peers}
            times = []
            for pair in range(o.pairs):
                for peer, command in peers.items():
                    if pair % 2 == 0:
                        mine, other = ours_ms(ours), run(command, ALLOCATOR)["step_ms"]
                    else:
                        other, mine = run(command, ALLOCATOR)["step_ms"], ours_ms(ours)
                    ratios[peer].append(other / mine)
                    times.append(mine)
        text = "; ".join(f"{statistics.median(r):.2f} ({min(r):.2f} to {max(r):.2f}) times as fast as {peer}"
                         for peer, r in ratios.items())
        print(f"{name}, batch {o.batch}, {o.precision}: {statistics.median(times):.1f} ms, {text}; {o.pairs} pairs",
              flush=True)


if __name__ == "__main__":
    main()
