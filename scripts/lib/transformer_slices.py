"""Transformers whose dimensions went by the scores of SiDT, and slices of their tensors that are taken by hand."""
import json

from slice_tools import TOLERANCE, call, difference, module_of, tensors_of, trains_on

DATA = {"use": "synthetic", "size": 32, "channels": 3, "classes": 10, "count": 64, "batch": 16}
# Depths and heads of each stage; the last two are the side of a patch and of a window.
SWIN = {"dim": 24, "depths": [2, 2], "heads": [3, 6], "patch": 2, "window": 4}
VIT = {"dim": 24, "depth": 3, "heads": 3, "patch": 8}
NETWORKS = {"swin": {"use": "swin_t", **SWIN}, "vit": {"use": "vit_tiny", **VIT}}


def blocks_of(way):
    """The names of the blocks, each with its number of heads."""
    if way == "vit":
        return [(f"blocks.{b}", VIT["heads"]) for b in range(VIT["depth"])]
    return [(f"layers.{s}.blocks.{b}", heads) for s, heads in enumerate(SWIN["heads"])
            for b in range(SWIN["depths"][s])]


def score_names(way):
    """Of each layer the tensor with its scores."""
    core = "heads" if way == "vit" else "windows"
    return [f"{block}.{part}.value" for block, _ in blocks_of(way)
            for part in (f"attn.{core}.scores", "mlp.fc1.scores_of_units")]


def kept_of(t, names, share):
    """Of each layer the scores that stay: all but the smallest of all, of which each layer keeps one."""
    order = sorted((abs(v), layer, i) for layer, name in enumerate(names) for i, v in enumerate(t[name].tolist()))
    kept = {name: set(range(t[name].numel())) for name in names}
    to_go = int(share * len(order) + 1e-9)
    for _, layer, i in order:
        if to_go and len(kept[names[layer]]) > 1:
            kept[names[layer]].discard(i)
            to_go -= 1
    return {name: sorted(k) for name, k in kept.items()}


def sliced(way, t, kept):
    """The tensors of the pruned network, into which the scores are multiplied."""
    result = {name: tensor for name, tensor in t.items() if name not in score_names(way)}
    core = "heads" if way == "vit" else "windows"
    for block, heads in blocks_of(way):
        name = f"{block}.attn.{core}.scores.value"
        dims = t[name].numel()
        rows = [h * dims + i for h in range(heads) for i in kept[name]]
        factor = t[name][kept[name]].repeat(heads)
        for part in "qkv":
            layer = f"{block}.attn.{part}"
            result[f"{layer}.weight"] = t[f"{layer}.weight"][rows] * factor[:, None]
            result[f"{layer}.bias"] = t[f"{layer}.bias"][rows] * factor
        result[f"{block}.attn.proj.weight"] = t[f"{block}.attn.proj.weight"][:, rows]
        name = f"{block}.mlp.fc1.scores_of_units.value"
        rows, factor = kept[name], t[name][kept[name]]
        result[f"{block}.mlp.fc1.weight"] = t[f"{block}.mlp.fc1.weight"][rows] * factor[:, None]
        result[f"{block}.mlp.fc1.bias"] = t[f"{block}.mlp.fc1.bias"][rows] * factor
        result[f"{block}.mlp.fc2.weight"] = t[f"{block}.mlp.fc2.weight"][:, rows]
    return result


class Network:
    """A ViT or a Swin of given tensors, by PyTorch's functions. Counts the multiply-accumulates of one sample."""

    def __init__(self, way, t):
        self.way, self.t, self.macs = way, t, 0

    def linear(self, name, x):
        weight, bias = self.t[f"{name}.weight"], self.t.get(f"{name}.bias")
        self.macs += weight.numel() * x[0, ..., 0].numel()
        y = x @ weight.T
        return y if bias is None else y + bias

    def norm(self, name, x):
        import torch.nn.functional as F
        weight = self.t[f"{name}.weight"]
        return F.layer_norm(x, weight.shape, weight, self.t[f"{name}.bias"], 1e-6 if self.way == "vit" else 1e-5)

    def patches(self, x, side):
        import torch.nn.functional as F
        weight = self.t["patch_embed.proj.weight"]
        y = F.conv2d(x, weight.reshape(weight.size(0), 3, side, side), self.t["patch_embed.proj.bias"], stride=side)
        self.macs += weight.numel() * y.size(2) * y.size(3)
        return y.permute(0, 2, 3, 1)

    def attention(self, q, k, v, heads, scale, bias=0):
        """Of [windows, tokens, heads x dimension]."""
        import torch
        q, k, v = (x.unflatten(-1, (heads, -1)).transpose(-2, -3) for x in (q, k, v))
        self.macs += q[0].numel() * k.size(-2) * self.windows + v[0].numel() * k.size(-2) * self.windows
        return (torch.softmax(q @ k.transpose(-2, -1) * scale + bias, -1) @ v).transpose(-2, -3).flatten(-2)

    def block(self, name, x, attend):
        import torch.nn.functional as F
        y = self.norm(f"{name}.norm1", x)
        y = attend(name, *(self.linear(f"{name}.attn.{part}", y) for part in "qkv"))
        x = x + self.linear(f"{name}.attn.proj", y)
        y = F.gelu(self.linear(f"{name}.mlp.fc1", self.norm(f"{name}.norm2", x)))
        return x + self.linear(f"{name}.mlp.fc2", y)

    def vit(self, x):
        import torch
        x = self.patches(x, VIT["patch"]).flatten(1, 2)
        token = self.t["embed.class_token"].reshape(1, 1, -1).expand(x.size(0), 1, -1)
        x = torch.cat([token, x], 1) + self.t["embed.position"]
        self.windows = 1
        scale = (VIT["dim"] / VIT["heads"]) ** -0.5
        for name, heads in blocks_of("vit"):
            x = self.block(name, x, lambda _, q, k, v: self.attention(q, k, v, heads, scale))
        return self.linear("head", self.norm("norm", x)[:, :1])[:, 0]

    def windowed(self, x, m):
        b, h, w, c = x.shape
        return x.view(b, h // m, m, w // m, m, c).transpose(2, 3).reshape(-1, m * m, c)

    def window_attention(self, name, q, k, v, heads, shift, scale):
        import torch
        b, h, w, _ = q.shape
        m = SWIN["window"]
        self.windows = h * w // (m * m)
        # The bias of each pair of tokens by how far apart they are.
        y, x = torch.arange(m * m) // m, torch.arange(m * m) % m
        at = (y[:, None] - y[None] + m - 1) * (2 * m - 1) + x[:, None] - x[None] + m - 1
        bias = self.t[f"{name}.attn.windows.relative_position_bias"][at].permute(2, 0, 1)
        if shift:
            # Tokens that a cyclic shift brings together do not see each other.
            region = torch.zeros(1, h, w, 1)
            spans = (slice(0, -m), slice(-m, -shift), slice(-shift, None))
            for i, rows in enumerate(spans):
                for j, columns in enumerate(spans):
                    region[:, rows, columns] = 3 * i + j
            region = self.windowed(region, m)[..., 0]
            apart = (region[:, None] != region[:, :, None]).float() * -1e9
            bias = (bias + apart[:, None]).repeat(b, 1, 1, 1)
        q, k, v = (self.windowed(torch.roll(x, (-shift, -shift), (1, 2)), m) for x in (q, k, v))
        y = self.attention(q, k, v, heads, scale, bias)
        y = y.view(b, h // m, w // m, m, m, -1).transpose(2, 3).reshape(b, h, w, -1)
        return torch.roll(y, (shift, shift), (1, 2))

    def swin(self, x):
        import torch
        x = self.norm("patch_embed.norm", self.patches(x, SWIN["patch"]))
        scale = (SWIN["dim"] / SWIN["heads"][0]) ** -0.5  # the same in each stage
        for stage, heads in enumerate(SWIN["heads"]):
            for b in range(SWIN["depths"][stage]):
                shift = SWIN["window"] // 2 if b % 2 else 0
                x = self.block(f"layers.{stage}.blocks.{b}", x, lambda name, q, k, v: self.window_attention(
                    name, q, k, v, heads, shift, scale))
            if stage + 1 < len(SWIN["heads"]):
                x = torch.cat([x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)], -1)
                name = f"layers.{stage}.downsample"
                x = self.linear(f"{name}.reduction", self.norm(f"{name}.norm", x))
        return self.linear("head", self.norm("norm", x).mean((1, 2), keepdim=True)[:, 0])[:, 0]

    def __call__(self, x):
        self.macs = 0
        return self.vit(x) if self.way == "vit" else self.swin(x)


def check(way, shares, program, folder):
    import torch
    torch.manual_seed(0)
    torch.set_num_threads(1)
    x = torch.randn(8, 3, 32, 32)

    def run(name, network, stage):
        recipe = {"espalier": 1, "name": name, "threads": 1, "data": DATA, "network": network, "stages": [stage]}
        (folder / f"{name}.json").write_text(json.dumps(recipe))
        call(program, "run", "-q", folder / f"{name}.json", "--out", folder / name)
        return folder / name

    # Steps so large that scores differ by more than rounding.
    search = {"name": "search", "epochs": 4, "controller": {"use": "sidt", "ratio": 0},
              "optimizers": [{"use": "adamw", "lr": 0.002, "on": ["all", "!architecture"]},
                             {"use": "adam", "lr": 0.05, "on": "architecture"}],
              "regularizers": [{"use": "l1", "weight": 1e-3, "on": "architecture"}]}
    base = run("base", NETWORKS[way], search)
    t = tensors_of(base / "model.safetensors")
    names = score_names(way)
    passed = True
    for share in shares:
        kept = kept_of(t, names, share)
        tag = f"{share:g}"
        pruned = run(f"pruned-{tag}", {"from": "base"},
                     {"name": "prune", "epochs": 0, "controller": {"use": "sidt", "ratio": share}})
        ours = Network(way, sliced(way, t, kept))
        whole = module_of(base / "model.py")
        model = module_of(pruned / "model.py")
        with torch.no_grad():
            y = ours(x)
            by_python = difference(model(x), y)
            call(program, "export", pruned, "--to", "torchscript", "--out", folder / f"{tag}.pt")
            by_script = difference(torch.jit.load(str(folder / f"{tag}.pt")).eval()(x), y)
            full = difference(whole(x), y)
            for name, p in whole.named_parameters():
                if name in kept:
                    p[[i for i in range(p.numel()) if i not in kept[name]]] = 0
            zeroed = difference(whole(x), y)
        faults = []
        theirs = dict(model.named_parameters())
        if set(theirs) != set(ours.t):
            faults.append(f"other tensors: {', '.join(sorted(set(theirs) ^ set(ours.t)))[:200]}")
        for name in set(theirs) & set(ours.t):
            if theirs[name].shape != ours.t[name].shape:
                faults.append(f"{name} has another shape")
            elif difference(theirs[name].detach(), ours.t[name]) > TOLERANCE:
                faults.append(f"{name} has other values")
        params = sum(tensor.numel() for tensor in ours.t.values())
        final = json.loads((pruned / "summary.json").read_text())["final"]
        if params != final["params"]:
            faults.append(f"{params:,} parameters by hand, {final['params']:,} in summary.json")
        if ours.macs != final["macs"]:
            faults.append(f"{ours.macs:,} multiply-accumulates by hand, {final['macs']:,} in summary.json")
        for form, value in (("model.py", by_python), ("TorchScript", by_script), ("zeros as scores", zeroed)):
            if not value <= TOLERANCE:
                faults.append(f"the outputs of {form} differ by {value:.1e} of the largest")
        if not full > 100 * TOLERANCE:
            faults.append("the unpruned network has the same outputs, so the comparison says nothing")
        if not trains_on(model, x):
            faults.append("five steps in PyTorch do not lower the loss")
        # The program compares the file with the network before it gets a name.
        call(program, "export", pruned, "--to", "onnx", "--out", folder / f"{tag}.onnx")
        gone = sum(t[name].numel() - len(kept[name]) for name in names)
        count = sum(t[name].numel() for name in names)
        print(f"{way:10}{gone:,} of {count:,} scores go; {params:,} parameters, {ours.macs:,} multiply-accumulates; "
              f"outputs differ by {by_python:.1e} (model.py), {by_script:.1e} (TorchScript) and {zeroed:.1e} (zeros as "
              f"scores), from the unpruned ones by {full:.1e}: {'the same' if not faults else 'failed'}", flush=True)
        for fault in faults[:10]:
            print(f"  {fault}")
        passed = passed and not faults
    return passed
