"""Compares globally pruned networks with slices of their tensors that are taken by hand.

gate, bn_scale: a PreResNet-164 is trained for a moment, once with coefficients behind all of its batch norms
(searched by RARTS) and once with the penalty of network slimming. Of all 12,112 channels a share goes, by one
threshold. This program knows the structure of the network from its paper and the rule from network slimming: of the
scores in ascending order the one at position floor(share * n) is the threshold, and what is strictly greater stays.
It reads the tensors of the unpruned network alone, slices them, and computes the network with PyTorch's functions.
The pruned network that Espalier leaves must have the same channels, the same number of parameters and of multiply-
accumulates, and the same outputs, as model.py and as TorchScript. It must then train on, in Espalier and in PyTorch,
and export.

swin, vit: a small transformer is trained for a moment with the scores of SiDT on its dimensions, and 20, 40, 60 and
80 % of them go. This program knows the networks from their papers, slices the tensors of the one with scores by the
same rule, and compares as above. The unpruned network with the scores that go set to zero must have these outputs, too.
"""
import argparse
import json
import math
import sys
import tempfile
from pathlib import Path

import transformer_slices
from slice_tools import TOLERANCE, call, difference, module_of, tensors_of, trains_on

BLOCKS = 18  # of each of the three stages: (164 - 2) / 9
DATA = {"use": "synthetic", "size": 32, "channels": 3, "classes": 10, "count": 64, "batch": 16}
SGD = {"use": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}
WAYS = {
    "gate": {
        "train": {"optimizers": [{**SGD, "on": ["all", "!architecture"]},
                                 {"use": "sgd", "lr": 0.1, "momentum": 0.9, "on": "architecture"}],
                  "regularizers": [{"use": "l1", "weight": 1e-4, "on": "architecture"}],
                  "controller": {"use": "rarts", "gates": "norms"}},
        "prune": {"score": "gate", "fold": True},
    },
    "bn_scale": {
        "train": {"optimizer": SGD, "regularizers": [{"use": "bn_scale", "weight": 1e-4}]},
        "prune": {"score": "bn_scale", "on": ["layer*.conv1", "layer*.conv2", "fc"]},
    },
}


def norms():
    """The batch norms in their order, whose channels are ranked."""
    blocks = [f"layer{stage}.{block}" for stage in (1, 2, 3) for block in range(BLOCKS)]
    return [f"{block}.bn{i}" for block in blocks for i in (1, 2, 3)] + ["bn"]


def kept_channels(scores, share):
    """Of each norm the channels that stay, ascending."""
    everything = sorted(s for values in scores.values() for s in values.tolist())
    threshold = everything[math.floor(share * len(everything))]
    return {name: [i for i, s in enumerate(values.tolist()) if s > threshold] for name, values in scores.items()}


class Sliced:
    """The network, of slices of the tensors of the unpruned one. A norm whose input is the residual stream keeps all of
    its channels, and what it gives is selected; those of a block's inside lose their channels with the convolutions."""

    def __init__(self, t, kept, gates):
        self.t, self.kept, self.parameters, self.macs = {}, kept, 0, 0

        def put(name, tensor):
            self.t[name] = tensor.contiguous()
            self.parameters += tensor.numel()

        def put_norm(name, channels):
            for key in ("weight", "bias"):
                put(f"{name}.{key}", t[f"{name}.{key}"][channels])
            for key in ("running_mean", "running_var"):  # no parameters
                self.t[f"{name}.{key}"] = t[f"{name}.{key}"][channels]

        def put_reader(name, outputs, reads):
            """A weight that reads what a norm gives; the coefficients become part of it."""
            weight = t[f"{name}.weight"][outputs][:, kept[reads]]
            if gates is not None:
                shape = (1, -1) + (1,) * (weight.dim() - 2)
                weight = weight * gates[reads][kept[reads]].reshape(shape)
            put(f"{name}.weight", weight)

        every = slice(None)
        put("conv1.weight", t["conv1.weight"])
        for stage in (1, 2, 3):
            for block in range(BLOCKS):
                name = f"layer{stage}.{block}"
                inner = [kept[f"{name}.bn2"], kept[f"{name}.bn3"]]
                put_norm(f"{name}.bn1", every)
                put_reader(f"{name}.conv1", inner[0], f"{name}.bn1")
                put_norm(f"{name}.bn2", inner[0])
                put_reader(f"{name}.conv2", inner[1], f"{name}.bn2")
                put_norm(f"{name}.bn3", inner[1])
                put_reader(f"{name}.conv3", every, f"{name}.bn3")
                if block == 0:
                    put(f"{name}.downsample.0.weight", t[f"{name}.downsample.0.weight"])
        put_norm("bn", every)
        put_reader("fc", every, "bn")
        put("fc.bias", t["fc.bias"])

    def norm(self, name, x):
        import torch.nn.functional as F
        t = self.t
        return F.batch_norm(x, t[f"{name}.running_mean"], t[f"{name}.running_var"], t[f"{name}.weight"],
                            t[f"{name}.bias"], eps=1e-5)

    def conv(self, name, x, stride=1, padding=0):
        import torch.nn.functional as F
        weight = self.t[f"{name}.weight"]
        y = F.conv2d(x, weight, stride=stride, padding=padding)
        self.macs += weight.numel() * y.size(2) * y.size(3)
        return y

    def __call__(self, x):
        """The logits; counts the multiply-accumulates of one sample."""
        import torch
        self.macs = 0
        x = self.conv("conv1", x, padding=1)
        for stage in (1, 2, 3):
            for block in range(BLOCKS):
                name = f"layer{stage}.{block}"
                stride = 2 if block == 0 and stage > 1 else 1
                y = torch.relu(self.norm(f"{name}.bn1", x)[:, self.kept[f"{name}.bn1"]])
                y = self.conv(f"{name}.conv1", y)
                y = self.conv(f"{name}.conv2", torch.relu(self.norm(f"{name}.bn2", y)), stride, 1)
                y = self.conv(f"{name}.conv3", torch.relu(self.norm(f"{name}.bn3", y)))
                x = y + (self.conv(f"{name}.downsample.0", x, stride) if block == 0 else x)
        x = torch.relu(self.norm("bn", x)[:, self.kept["bn"]]).mean((2, 3))
        self.macs += self.t["fc.weight"].numel()
        return x @ self.t["fc.weight"].T + self.t["fc.bias"]


def check(way, share, program, folder):
    import torch
    torch.manual_seed(0)
    torch.set_num_threads(1)
    spec = WAYS[way]

    def run(name, data, network, stage):
        recipe = {"espalier": 1, "name": name, "threads": 1, "data": data, "network": network, "stages": [stage]}
        (folder / f"{name}.json").write_text(json.dumps(recipe))
        call(program, "run", "-q", folder / f"{name}.json", "--out", folder / name)
        return folder / name

    halves = {**DATA, "validation": 0.5} if way == "gate" else DATA
    base = run("base", halves, {"use": "preresnet164", "select": True}, {"name": "train", "epochs": 2, **spec["train"]})
    prune = {"use": "prune", "target": {"quantile": share}, "protect": 0, **spec["prune"]}
    pruned = run("pruned", DATA, {"from": "base"}, {"name": "prune", "epochs": 0, "controller": prune})
    tuned = run("tuned", DATA, {"from": "pruned"}, {"name": "finetune", "epochs": 1, "optimizer": SGD})

    t = tensors_of(base / "model.safetensors")
    gates = None
    if way == "gate":
        gates = {name: t[f"{name}.gate.coefficient.value"] for name in norms()}
        scores = {name: gates[name].abs() for name in norms()}
    else:
        scores = {name: t[f"{name}.weight"].abs() for name in norms()}
    n = sum(s.numel() for s in scores.values())
    kept = kept_channels(scores, share)
    ours = Sliced(t, kept, gates)

    graph = json.loads((pruned / "graph.json").read_text())
    faults = []
    selected = {node["name"].replace("select", "bn1") if "." in node["name"] else "bn": node["options"]["index"]
                for node in graph["nodes"] if node["operation"] == "select"}
    for name, channels in selected.items():
        if channels != kept[name]:
            faults.append(f"what {name} gives is selected otherwise")
    x = torch.randn(8, 3, 32, 32)
    with torch.no_grad():
        y = ours(x)
        model = module_of(pruned / "model.py")
        by_python = difference(model(x), y)
        call(program, "export", pruned, "--to", "torchscript", "--out", folder / "pruned.pt")
        by_script = difference(torch.jit.load(str(folder / "pruned.pt")).eval()(x), y)
        full = difference(module_of(base / "model.py")(x), y)
    theirs = {name: p for name, p in model.named_parameters()}
    for name, p in theirs.items():
        if name not in ours.t or ours.t[name].shape != p.shape:
            faults.append(f"{name} has another shape")
        elif difference(p.detach(), ours.t[name]) > TOLERANCE:
            faults.append(f"{name} has other values")
    final = json.loads((pruned / "summary.json").read_text())["final"]
    counted = sum(p.numel() for p in theirs.values())
    if not ours.parameters == final["params"] == counted:
        faults.append(f"{ours.parameters:,} parameters by hand, {final['params']:,} in summary.json, {counted:,} in "
                      "model.py")
    if ours.macs != final["macs"]:
        faults.append(f"{ours.macs:,} multiply-accumulates by hand, {final['macs']:,} in summary.json")
    for form, value in (("model.py", by_python), ("TorchScript", by_script)):
        if not value <= TOLERANCE:
            faults.append(f"the outputs of {form} differ by {value:.1e} of the largest")
    if not full > 100 * TOLERANCE:
        faults.append("the unpruned network has the same outputs, so the comparison says nothing")
    if not trains_on(model, x):
        faults.append("five steps in PyTorch do not lower the loss")
    stage = json.loads((tuned / "summary.json").read_text())["stages"][0]
    if stage["after"]["params"] != ours.parameters:
        faults.append("the network that was trained on has another number of parameters")
    moved = difference(module_of(tuned / "model.py")(x).detach(), y)
    if not 1e-3 < moved < math.inf:
        faults.append(f"training on moved the outputs by {moved:.1e}")
    for form in ("onnx", "torchscript", "python", "safetensors"):
        call(program, "export", tuned, "--to", form, "--out", folder / f"tuned-{form}")
    gone = n - sum(map(len, kept.values()))
    print(f"{way:10}{gone:,} of {n:,} channels go; {ours.parameters:,} parameters, {ours.macs:,} multiply-accumulates; "
          f"outputs differ by {by_python:.1e} (model.py) and {by_script:.1e} (TorchScript), from the unpruned ones by "
          f"{full:.1e}: {'the same' if not faults else 'failed'}", flush=True)
    for fault in faults[:10]:
        print(f"  {fault}")
    return not faults


def main():
    known = [*WAYS, *transformer_slices.NETWORKS]
    parser = argparse.ArgumentParser(
        prog="scripts/check-slices", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="The exit status is 1 if anything differs.\nexamples:\n  scripts/check-slices\n"
               "  scripts/check-slices gate swin --share 0.6\n")
    parser.add_argument("ways", nargs="*", metavar="WAY", help=f"of {', '.join(known)} (default: all)")
    parser.add_argument("--share", type=float,
                        help="share of the channels or scores that goes (default 0.4; of transformers .2, .4, .6, .8)")
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := [w for w in options.ways if w not in known]:
        sys.exit(f"check-slices: there is no way '{unknown[0]}'; known: {', '.join(known)}")
    if options.share is not None and not 0 < options.share < 1:
        sys.exit("check-slices: --share is above 0 and below 1")
    program = options.build / "bin" / "espalier"
    passed = True
    with tempfile.TemporaryDirectory(prefix="espalier-check-slices-") as folder:
        for way in options.ways or known:
            place = Path(folder) / way
            place.mkdir()
            if way in WAYS:
                passed = check(way, options.share or 0.4, program, place) and passed
            else:
                shares = [options.share] if options.share else [0.2, 0.4, 0.6, 0.8]
                passed = transformer_slices.check(way, shares, program, place) and passed
    sys.exit(0 if passed else 1)


if __name__ == "__main__":
    main()
