"""Times training steps of Espalier and of the same network in eager PyTorch, in alternating pairs.

Both do the same: the same initial values, images and order, the data set in memory as bytes. PyTorch is tuned:
channels_last, the fused optimizer, no data loader. On the CPU it runs with the allocator's defaults ("python") and with
the settings that Espalier makes for itself ("python, allocator"), and with --compile also under torch.compile with
these settings. The losses of the first 50 steps (or --compared-steps) must agree as far as PyTorch agrees with itself
when it runs on another number of threads.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent if (HERE.parent / "share" / "espalier").exists() else None  # of a package
# What the program asks of glibc's allocator at its start.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30),
             "MALLOC_TOP_PAD_": str(64 << 20)}
STEPS = {"lenet5": 400, "lenet5-batch16": 1000, "mlp": 1000, "vgg16": 8, "resnet20": 30, "preresnet164": 6,
         "swin-t": 6, "shrinknets-oes97": 2000, "nasbench201-search": 20, "darts-search": 10}
# Side and channels of the images; of all other networks 28 x 28 with one channel.
SIZES = {"vgg16": (32, 3), "resnet20": (32, 3), "preresnet164": (32, 3), "swin-t": (224, 3),
         "nasbench201-search": (32, 3), "darts-search": (32, 3)}
# Rounding grows from step to step, in deep networks a thousandfold within fifty. So the losses may differ as PyTorch's
# own do between two numbers of threads, times a factor, and by this much in any case (relative).
ROUNDING, FACTOR = 1e-3, 4


def run(command, environment=None):
    began = time.time()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **(environment or {})})
    if done.returncode != 0:
        sys.exit(f"bench: {' '.join(map(str, command))}\n{done.stderr.strip() or done.stdout.strip()}")
    result = json.loads(done.stdout)
    result["start_to_first_step_s"] = result["first_step_at"] - began
    return result


def largest_difference(a, b):
    return max(abs(x - y) / max(abs(y), 1e-3) for x, y in zip(a, b, strict=True))


def spread(values):
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def compare(name, options):
    recipe = options.recipes / f"{name}.yaml"
    steps = options.steps or (STEPS.get(name, 200) if options.device == "cpu" else 500)
    warmup = max(min(3, steps), steps // 10)
    with tempfile.TemporaryDirectory(prefix="espalier-bench-") as folder:
        flags = ["--device", options.device]
        if options.threads:
            flags += ["--threads", str(options.threads)]
        if options.precision:
            flags += ["--set", f"precision={options.precision}"]
        if options.synthetic:
            size, channels = SIZES.get(name, (28, 1))
            made = {"use": "synthetic", "size": size, "channels": channels, "classes": 10, "count": 20000}
            if name == "shrinknets-oes97":
                made = {"use": "synthetic_table", "count": 334, "features": 263, "outputs": 16}
                flags += ["--set", f"data={json.dumps({**made, 'batch': 334, 'repeat': 500})}"]
                made = {}
            flags += [f for key, value in made.items() for f in ("--set", f"data.{key}={value}")]
        data = [f for d in options.data for f in ("--data", d)]
        bench = [options.program, "bench", recipe, "--json", *flags, *data]
        first = run([*bench, "--steps", str(options.compared_steps), "--warmup", "0", "--export", folder])
        ours = [*bench, "--steps", str(steps), "--warmup", str(warmup)]
        theirs = [sys.executable, HERE / "bench_peer.py", folder, "--batch", str(first["batch"]), "--steps", str(steps),
                  "--warmup", str(warmup), "--device", options.device, "--precision", first["precision"],
                  "--threads", str(first["environment"]["threads"])]
        compared = ["--losses", str(options.compared_steps)]
        losses = run([*theirs, *compared])["losses"]
        other = run([*theirs, *compared, "--threads", "1" if first["environment"]["threads"] > 1 else "2"])["losses"]
        difference, noise = largest_difference(first["losses"], losses), largest_difference(other, losses)
        contestants = {"espalier": (ours, None), "python": (theirs, None)}
        if options.device == "cpu":
            contestants["python, allocator"] = (theirs, ALLOCATOR)
        for mode in options.compile:
            contestants[f"python, {mode}"] = ([*theirs, "--compile", mode],
                                              ALLOCATOR if options.device == "cpu" else None)
        results = {c: [] for c in contestants}
        for pair in range(options.pairs):
            order = list(contestants)
            for contestant in order if pair % 2 == 0 else reversed(order):
                if sys.stderr.isatty():
                    print(f"\r\033[K{name}: {pair + 1}/{options.pairs} {contestant}", end="", file=sys.stderr,
                          flush=True)
                command, environment = contestants[contestant]
                results[contestant].append(run(command, environment))
        if sys.stderr.isatty():
            print("\r\033[K", end="", file=sys.stderr)
    report = {"name": name, "batch": first["batch"], "steps": steps, "pairs": options.pairs,
              "precision": first["precision"], "environment": first["environment"],
              "compared_steps": options.compared_steps, "loss_difference": difference, "python_difference": noise,
              "losses_agree": difference <= max(ROUNDING, FACTOR * noise), "contestants": {}, "ratios": {}}
    for c, runs in results.items():
        report["contestants"][c] = {k: spread([r[k] for r in runs]) for k in
                                    ("images_per_second", "step_ms", "peak_memory_mb", "start_to_first_step_s")}
    report["contestants"]["espalier"]["phases_ms"] = {
        p: statistics.median(r["phases_ms"][p] for r in results["espalier"]) for p in first["phases_ms"]}
    for c in list(contestants)[1:]:
        ratios = [a["images_per_second"] / b["images_per_second"] for a, b in zip(results["espalier"], results[c])]
        report["ratios"][c] = spread(ratios)
    return report


def show(report):
    print(f"\n{report['name']} (batch {report['batch']}, {report['environment']['device']}, {report['precision']}, "
          f"{report['environment']['threads']} threads, {report['pairs']} pairs of {report['steps']} steps)")
    print(f"  {'':20}{'images/s':>10}{'step ms':>10}{'peak MB':>10}{'first step s':>14}   "
          "espalier is so many times as fast")
    for c, figures in report["contestants"].items():
        median = {k: v["median"] for k, v in figures.items() if k != "phases_ms"}
        ratio = report["ratios"].get(c)
        text = f"{ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['most']:.2f})" if ratio else ""
        print(f"  {c:20}{median['images_per_second']:>10.0f}{median['step_ms']:>10.2f}{median['peak_memory_mb']:>10.0f}"
              f"{median['start_to_first_step_s']:>14.2f}   {text}")
    phases = ", ".join(f"{p} {ms:.3f}" for p, ms in report["contestants"]["espalier"]["phases_ms"].items())
    print(f"  espalier's step, ms: {phases}")
    word = "agree" if report["losses_agree"] else "DO NOT AGREE"
    print(f"  the losses of the first {report['compared_steps']} steps {word} (largest relative difference "
          f"{report['loss_difference']:.1e}; python's own on another number of threads "
          f"{report['python_difference']:.1e})")


def main():
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="examples:\n  scripts/bench\n  scripts/bench lenet5 --pairs 9 --out bench.json\n"
               "  scripts/bench vgg16 --precision bf16\n"
               "  scripts/bench structure             edits of large networks, and kernels of different sizes\n"
               "  scripts/bench optimizers            what the update pass of lbi costs over that of sgd\n"
               "  scripts/bench regularizers          what the passes of kernel_number and kernel_size cost\n"
               "  scripts/bench runs RUN SWEEP        the times of pruned networks beside that of another run\n"
               "  scripts/bench inference             the forward pass in evaluation\n"
               "  scripts/bench widths                networks of odd widths beside those of multiples of 16\n"
               "  scripts/bench growth RECIPE         the time of a run beside its train cost\n"
               "  scripts/bench resnet20 --compile default --compile max-autotune\n")
    parser.add_argument("names", nargs="*", metavar="NAME", help="recipes/bench/NAME.yaml (default: all)")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of each (default 5)")
    parser.add_argument("--steps", type=int, help="steps timed in each run (default: by recipe)")
    parser.add_argument("--compared-steps", type=int, default=50,
                        help="steps whose losses are compared before (default 50; fewer where one takes minutes)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--precision", choices=("float32", "bf16"), help="overrides the recipe's")
    parser.add_argument("--compile", action="append", default=[], choices=("default", "max-autotune"),
                        help="also against torch.compile in this mode; may be repeated")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    parser.add_argument("--data", action="append", default=[], metavar="DIR",
                        help="a folder of data sets; may be repeated")
    parser.add_argument("--synthetic", action="store_true",
                        help="made-up images of the same size instead of the data sets")
    parser.add_argument("--out", type=Path, metavar="FILE", help="writes the figures as JSON")
    parser.add_argument("--program", type=Path, default=ROOT and ROOT / "bin" / "espalier", help=argparse.SUPPRESS)
    parser.add_argument("--recipes", type=Path, help=argparse.SUPPRESS,
                        default=ROOT / "share/espalier/recipes/bench" if ROOT else HERE.parent.parent / "recipes/bench")
    options = parser.parse_args()
    known = sorted(p.stem for p in options.recipes.glob("*.yaml"))
    for name in options.names:
        if name not in known:
            parser.error(f"there is no {options.recipes / name}.yaml (known: {', '.join(known)})")
    reports = []
    for name in options.names or known:
        reports.append(compare(name, options))
        show(reports[-1])
        if options.out:
            options.out.write_text(json.dumps(reports, indent=1) + "\n")
    if not all(r["losses_agree"] for r in reports):
        sys.exit("bench: the losses do not agree: the two programs do not do the same")


if __name__ == "__main__":
    main()
