"""The throughput of one run on several processes of one thread each, beside that of one process of as many threads.

Both train the same recipe for an epoch of some steps, in alternating pairs; the figures are the samples per second that
metrics.jsonl gives of the second epoch. The ratios are medians over the pairs, with the smallest and the largest in
brackets."""
import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def throughput(o, recipe, processes, threads, folder):
    """Samples per second of the second epoch."""
    command = [str(o.program), "run", "-q", str(recipe), "--threads", str(threads), "--out", str(folder),
               "--save-every", "1000000", "--set", f"data.limit={o.steps * o.batch}",
               "--set", f"data.batch={o.batch}", "--set", "stages.0.epochs=2", "--set", "stages.0.evaluate_every=2"]
    port = str(free_port())
    running = []
    for rank in range(processes):
        environment = {**os.environ, "ESPALIER_STORE": "none", "OMP_NUM_THREADS": str(threads)}
        if processes > 1:
            environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes),
                            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        running.append(subprocess.Popen(command, env=environment))
    if any([p.wait() for p in running]):
        sys.exit("bench parallel: a process failed")
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return json.loads(lines[1])["images_per_second"]


def main():
    parser = argparse.ArgumentParser(
        prog="scripts/bench parallel", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="example:\n  scripts/bench parallel lenet5 resnet20 --pairs 7\n")
    parser.add_argument("names", nargs="*", default=["lenet5", "resnet20"],
                        help="recipes of recipes/bench (default: lenet5 resnet20)")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of each (default 5)")
    parser.add_argument("--processes", type=int, default=2, help="processes of one run (default 2)")
    parser.add_argument("--steps", type=int, default=100, help="steps of an epoch (default 100)")
    parser.add_argument("--batch", type=int, default=128, help="samples of a step (default 128)")
    parser.add_argument("--program", type=Path, required=True, help=argparse.SUPPRESS)
    parser.add_argument("--recipes", type=Path, required=True, help=argparse.SUPPRESS)
    o = parser.parse_args()
    for name in o.names:
        ratios, one, several = [], [], []
        for pair in range(o.pairs):
            with tempfile.TemporaryDirectory(prefix="espalier-bench-") as folder:
                def measure(processes):
                    threads = 1 if processes > 1 else o.processes
                    out = Path(folder) / str(processes)
                    return throughput(o, o.recipes / f"{name}.yaml", processes, threads, out)

                order = [1, o.processes] if pair % 2 == 0 else [o.processes, 1]
                found = {processes: measure(processes) for processes in order}
            one.append(found[1])
            several.append(found[o.processes])
            ratios.append(found[o.processes] / found[1])
        print(f"{name}: {statistics.median(one):.0f} samples/s by 1 process of {o.processes} threads, "
              f"{statistics.median(several):.0f} by {o.processes} processes of 1 thread; ratio "
              f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})", flush=True)


if __name__ == "__main__":
    main()
