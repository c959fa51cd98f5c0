"""Compares pruning with Torch-Pruning: the same positions are taken away from the same network, and what is left must
have the same parameters, the same multiply-accumulates and the same outputs. Then both rank and prune a ResNet-50, in
alternating pairs.

A network is trained for a moment, pruned by `espalier prune`, and exported. Torch-Pruning gets the exported PyTorch
module of the unpruned network and takes away what the history of the run says. What it cannot handle is said with the
reason; it is no failure. A network that it prunes to the same counts and that computes something else is one.
"""
import argparse
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

CELL = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|"
# Network, side of the images, classes; and, where it is not the command's, the share of the multiply-accumulates that
# stays and the share of each width that does. Shortcuts of option A bring zeros in by a pad, and Torch-Pruning does not
# know which channels a pad makes; so resnet20 is compared in both forms. Transformers are compared with whole heads
# going and with all heads staying.
NETWORKS = {
    "resnet20": ({"use": "resnet20"}, 32, 10),
    "resnet20, shortcut B": ({"use": "resnet20", "shortcut": "B"}, 32, 10),
    "resnet18": ({"use": "resnet18"}, 224, 10),
    "vgg16": ({"use": "vgg16"}, 32, 10),
    "densenet40": ({"use": "densenet40"}, 32, 10),
    "resnext29": ({"use": "resnext29_8x64d", "base_width": 16}, 32, 10),
    "mobilenet_v2": ({"use": "mobilenet_v2"}, 224, 10),
    "swin_t": ({"use": "swin_t"}, 224, 10),
    "swin_t, heads stay": ({"use": "swin_t"}, 224, 10, 0.75, 0.7),
    "vit_tiny": ({"use": "vit_tiny"}, 224, 10),
    "vit_tiny, heads stay": ({"use": "vit_tiny"}, 224, 10, 0.75, 0.7),
    "nasbench201": ({"use": "nasbench201", "cells": 2, "cell": CELL}, 32, 10),
    "se_resnet20": ({"use": "se_resnet20"}, 32, 10),
    "se_resnet20, shortcut B": ({"use": "se_resnet20", "shortcut": "B"}, 32, 10),
}
TOLERANCE = 1e-5


def call(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"check-pruning: {' '.join(map(str, command))}\n{done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def exported(folder):
    """The exported module of a run, in evaluation mode, and its graph."""
    spec = importlib.util.spec_from_file_location("model_" + str(abs(hash(folder))), folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load_model().eval(), json.loads((folder / "graph.json").read_text())


def positions(graph, shape, axis, gone):
    """The positions of a dimension that belong to these positions of an axis."""
    sizes = {a["name"]: a["size"] for a in graph["axes"]}
    found, start = [], 0
    for factors in shape:
        places = [()]
        for f in factors:
            n = f if isinstance(f, int) else sizes[f]
            places = [(*p, i) for p in places for i in range(n)]
        found += [start + i for i, p in enumerate(places)
                  if any(f == axis and p[k] in gone for k, f in enumerate(factors))]
        start += len(places)
    return found


def counts(model, x):
    """Parameters, and multiply-accumulates of the convolutions and linear layers for one sample."""
    import torch
    macs = 0

    def hook(module, _, output):
        nonlocal macs
        weight = module.weight
        macs += output.numel() // output.size(0) * weight[0].numel() if isinstance(module, torch.nn.Conv2d) else (
            output.numel() // output.size(0) * weight.size(1))

    hooks = [m.register_forward_hook(hook) for m in model.modules()
             if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    with torch.no_grad():
        y = model(x)
    for h in hooks:
        h.remove()
    return sum(p.numel() for p in model.parameters()), macs, y


def shrinks(folder):
    for line in (folder / "history.jsonl").read_text().splitlines():
        entry = json.loads(line)
        for edit in entry.get("edits", [entry]):
            if edit.get("edit") == "shrink":
                yield edit["axis"], edit["keep"]


def prune_theirs(model, graph, edits, x):
    import torch
    import torch_pruning as tp
    dependencies = tp.DependencyGraph().build_dependency(model, example_inputs=x[:1])
    sizes = {a["name"]: a["size"] for a in graph["axes"]}
    if any(axis.endswith(".heads") for axis, _ in edits):
        raise RuntimeError("whole heads go, and their number stands in the module's code")
    for axis, keep in edits:
        gone = sorted(set(range(sizes[axis])) - set(keep))
        for p in graph["parameters"]:
            if p["kind"] != "weight" or p["input"][0] or not any(axis in s for s in p["shape"][0]):
                continue
            module = model.get_submodule(p["name"].rpartition(".")[0])
            if isinstance(module, (torch.nn.Conv2d, torch.nn.Linear)):
                break
        else:
            raise RuntimeError(f"no module of PyTorch makes the width '{axis}'")
        prune = tp.prune_conv_out_channels if isinstance(module, torch.nn.Conv2d) else tp.prune_linear_out_channels
        group = dependencies.get_pruning_group(module, prune, positions(graph, p["shape"][0], axis, set(gone)))
        if not dependencies.check_pruning_group(group):
            raise RuntimeError(f"it would take all of a layer away with '{axis}'")
        group.prune()


def compare(name, network, target, program, folder):
    import torch
    spec, side, classes, *own = network
    target, protect = own or (target, 0.05)
    data = {"use": "synthetic", "size": side, "channels": 3, "classes": classes, "count": 16, "batch": 8}
    recipe = {"espalier": 1, "name": "check", "threads": 1, "data": data, "network": spec,
              "stages": [{"name": "train", "epochs": 1, "optimizer": {"use": "sgd", "lr": 0.01}}]}
    file = folder / "recipe.yaml"
    file.write_text(json.dumps(recipe))
    call(program, "run", "-q", file, "--out", folder / "base")
    call(program, "prune", "-q", folder / "base", "--target", f"macs={target}", "--normalize", "mean", "--protect",
         protect, "--threads", "1", "--out", folder / "pruned")
    ours, after = exported(folder / "pruned")
    theirs, before = exported(folder / "base")
    torch.manual_seed(0)
    x = torch.randn(4, 3, side, side)
    params, macs, y = counts(ours, x)
    row = {"name": name, "before": before["macs"], "macs": after["macs"], "params": params}
    if params != after["parameter_count"]:
        return {**row, "failed": f"the exported module has {params} parameters, the graph {after['parameter_count']}"}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            prune_theirs(theirs, before, list(shrinks(folder / "pruned")), x)
            their_params, their_macs, z = counts(theirs, x)
    except Exception as e:  # whatever it stumbles over is its answer
        return {**row, "cannot": (str(e).strip().splitlines() or [type(e).__name__])[0]}
    if (their_params, their_macs) != (params, macs):
        names = {n: tuple(p.shape) for n, p in ours.named_parameters()}
        other = [f"{n} {tuple(p.shape)} for {names.get(n)}" for n, p in theirs.named_parameters()
                 if tuple(p.shape) != names.get(n)]
        return {**row, "cannot": f"it takes other positions away, too: {other[0] if other else 'the same shapes'}"}
    difference = ((y - z).abs().max() / y.abs().max()).item()
    row["difference"] = difference
    if difference > TOLERANCE:
        row["failed"] = "the outputs differ"
    return row


def time_theirs(threads, repeats):
    """Rankings and removals of a ResNet-50 by Torch-Pruning: milliseconds of tracing the network and of the step, by
    the clock and by the processor."""
    import torch
    import torch_pruning as tp
    torch.set_num_threads(threads)
    folder = Path(os.environ["CHECK_PRUNING_RESNET50"])
    x = torch.randn(1, 3, 224, 224)

    def now():
        return time.perf_counter(), time.process_time()

    times = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(repeats):
            model, _ = exported(folder)
            began = now()
            pruner = tp.pruner.MagnitudePruner(model, x, importance=tp.importance.MagnitudeImportance(p=2),
                                               global_pruning=True, pruning_ratio=0.3, max_pruning_ratio=0.9,
                                               ignored_layers=[model.get_submodule("fc")])
            traced = now()
            pruner.step()
            done = now()
            times.append({"ms": 1e3 * (done[0] - traced[0]), "cpu_ms": 1e3 * (done[1] - traced[1]),
                          "trace_ms": 1e3 * (traced[0] - began[0]), "trace_cpu_ms": 1e3 * (traced[1] - began[1])})
    print(json.dumps(times))


def speed(options, program, folder):
    recipe = {"espalier": 1, "name": "resnet50", "data": {"use": "synthetic", "size": 224, "channels": 3,
                                                          "classes": 10, "count": 16, "batch": 8},
              "network": {"use": "resnet50"}, "stages": [{"name": "none", "epochs": 0}]}
    (folder / "resnet50.yaml").write_text(json.dumps(recipe))
    call(program, "run", "-q", folder / "resnet50.yaml", "--out", folder / "resnet50")
    commands = {"ours": [options.build / "bin" / "structure_bench", options.build / "plugins", "prune",
                         str(options.threads)],
                "theirs": [sys.executable, __file__, "--time-theirs", str(options.threads)]}
    environment = {**os.environ, "CHECK_PRUNING_RESNET50": str(folder / "resnet50")}
    pairs = []
    for pair in range(options.pairs):
        results = {}
        for who in ("ours", "theirs") if pair % 2 == 0 else ("theirs", "ours"):
            done = subprocess.run([str(c) for c in commands[who]], capture_output=True, text=True, env=environment)
            if done.returncode != 0:
                sys.exit(f"check-pruning: {' '.join(map(str, commands[who]))}\n{done.stderr}")
            runs = json.loads(done.stdout)
            results[who] = {k: statistics.median(r[k] for r in runs) for k in runs[0]}
        pairs.append(results)

    def median(who, key):
        return statistics.median(p[who][key] for p in pairs)

    print(f"\nResNet-50, 224 pixels, score l2, global: ranking and removal, {options.threads} thread(s), medians of "
          f"{options.pairs} pairs\n{'':20}{'ms':>10}{'ms of CPU':>12}")
    for who, name in (("ours", "Espalier"), ("theirs", "Torch-Pruning")):
        print(f"{name:20}{median(who, 'ms'):>10.1f}{median(who, 'cpu_ms'):>12.1f}")
    print(f"{'and tracing':20}{median('theirs', 'trace_ms'):>10.1f}{median('theirs', 'trace_cpu_ms'):>12.1f}")
    print("Espalier, ms of CPU: " + ", ".join(f"{k} {median('ours', k + '_cpu_ms'):.1f}"
                                              for k in ("rank", "choose", "remove")))
    ratios = {key: [p["ours"][key] / p["theirs"][key] for p in pairs] for key in ("ms", "cpu_ms")}
    for key, name in (("ms", "time"), ("cpu_ms", "time of the CPU")):
        r = ratios[key]
        print(f"ours takes {statistics.median(r):.3f} ({min(r):.3f} to {max(r):.3f}) of the {name} of theirs, without "
              "its tracing")
    return min(statistics.median(r) for r in ratios.values()) <= 0.1


def main():
    parser = argparse.ArgumentParser(
        prog="scripts/check-pruning", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="The exit status is 1 if a network that both can handle differs, or if ours takes more than a tenth of "
               "the time.\nexamples:\n  scripts/check-pruning\n  scripts/check-pruning vgg16 resnet18 --no-speed\n")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NETWORKS)} (default: all)")
    parser.add_argument("--target", type=float, default=0.5, help="share of the MACs that stays (default 0.5)")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of the times (default 5)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of the times (default 1)")
    parser.add_argument("--no-speed", action="store_true", help="leaves the times out")
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--time-theirs", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.time_theirs:
        return time_theirs(options.time_theirs, 3)
    if unknown := [n for n in options.names if n not in NETWORKS and n != "speed"]:
        sys.exit(f"check-pruning: there is no network '{unknown[0]}'; known: {', '.join(NETWORKS)}, speed")
    program = options.build / "bin" / "espalier"
    passed = True
    with tempfile.TemporaryDirectory(prefix="espalier-check-pruning-") as folder:
        names = options.names or list(NETWORKS)
        if names != ["speed"]:
            print(f"{'network':26}{'MACs':>32}{'params':>13}  {'difference':>10}  Torch-Pruning")
        for name in names:
            if name == "speed":
                continue
            place = Path(folder) / name.replace(", ", "-").replace(" ", "-")
            place.mkdir()
            row = compare(name, NETWORKS[name], options.target, program, place)
            passed = passed and "failed" not in row
            verdict = row.get("failed") or ("cannot: " + row["cannot"] if "cannot" in row else "the same")
            difference = f"{row['difference']:.1e}" if "difference" in row else ""
            macs = f"{row['before']:,} → {row['macs']:,}"
            print(f"{name:26}{macs:>32}{row['params']:>13,}  {difference:>10}  {verdict[:110]}", flush=True)
        if not options.no_speed:
            passed = speed(options, program, Path(folder)) and passed
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
