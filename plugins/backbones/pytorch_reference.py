# The networks in plain PyTorch, written from the papers and their authors' code. Reads weights by name and an input,
# prints logits (batch norm's running statistics) and the norm of each gradient of the loss (statistics of the batch).
import json
import sys

import torch
import torch.nn.functional as F


class Net:
    def __init__(self, weights, training):
        self.w = weights
        self.training = training

    def conv(self, n, x, **options):
        return F.conv2d(x, self.w[n + ".weight"], self.w.get(n + ".bias"), **options)

    def linear(self, n, x):
        return F.linear(x, self.w[n + ".weight"], self.w.get(n + ".bias"))

    def bn(self, n, x):
        mean, var = self.w[n + ".running_mean"].clone(), self.w[n + ".running_var"].clone()
        return F.batch_norm(x, mean, var, self.w.get(n + ".weight"), self.w.get(n + ".bias"), self.training)

    def ln(self, n, x, eps=1e-5):
        return F.layer_norm(x, x.shape[-1:], self.w[n + ".weight"], self.w[n + ".bias"], eps)


def resnet20(net, x, o):
    x = F.relu(net.bn("bn1", net.conv("conv1", x, padding=1)))
    for stage, width in enumerate(o["widths"]):
        for b in range(3):
            n = f"layer{stage + 1}.{b}."
            stride = 2 if stage > 0 and b == 0 else 1
            y = F.relu(net.bn(n + "bn1", net.conv(n + "conv1", x, stride=stride, padding=1)))
            y = net.bn(n + "bn2", net.conv(n + "conv2", y, padding=1))
            x = x[:, :, ::stride, ::stride]
            d = width - x.size(1)
            if d >= 0:
                x = F.pad(x, (0, 0, 0, 0, d // 2, d - d // 2))
            else:
                front = -d // 2
                x = x[:, front : front + width]
            x = F.relu(x + y)
    return net.linear("fc", x.mean((2, 3)))


def resnet50(net, x, o):
    x = F.max_pool2d(F.relu(net.bn("bn1", net.conv("conv1", x, stride=2, padding=3))), 3, 2, 1)
    for stage, blocks in enumerate([3, 4, 6, 3]):
        for b in range(blocks):
            n = f"layer{stage + 1}.{b}."
            stride = 2 if stage > 0 and b == 0 else 1
            y = F.relu(net.bn(n + "bn1", net.conv(n + "conv1", x)))
            y = F.relu(net.bn(n + "bn2", net.conv(n + "conv2", y, stride=stride, padding=1)))
            y = net.bn(n + "bn3", net.conv(n + "conv3", y))
            if b == 0:
                x = net.bn(n + "downsample.1", net.conv(n + "downsample.0", x, stride=stride))
            x = F.relu(x + y)
    return net.linear("fc", F.adaptive_avg_pool2d(x, 1).flatten(1))


def preresnet164(net, x, o):
    x = net.conv("conv1", x, padding=1)
    for stage in range(3):
        for b in range(18):
            n = f"layer{stage + 1}.{b}."
            stride = 2 if stage > 0 and b == 0 else 1
            y = net.conv(n + "conv1", F.relu(net.bn(n + "bn1", x)))
            y = net.conv(n + "conv2", F.relu(net.bn(n + "bn2", y)), stride=stride, padding=1)
            y = net.conv(n + "conv3", F.relu(net.bn(n + "bn3", y)))
            x = y + (net.conv(n + "downsample.0", x, stride=stride) if b == 0 else x)
    return net.linear("fc", F.relu(net.bn("bn", x)).mean((2, 3)))


def resnext29_8x64d(net, x, o):
    x = F.relu(net.bn("bn1", net.conv("conv1", x, padding=1)))
    for stage in range(3):
        for b in range(3):
            n = f"layer{stage + 1}.{b}."
            stride = 2 if stage > 0 and b == 0 else 1
            y = F.relu(net.bn(n + "bn1", net.conv(n + "conv1", x)))
            y = net.conv(n + "conv2", y, stride=stride, padding=1, groups=o["cardinality"])
            y = net.bn(n + "bn3", net.conv(n + "conv3", F.relu(net.bn(n + "bn2", y))))
            if b == 0:
                x = net.bn(n + "downsample.bn", net.conv(n + "downsample.conv", x, stride=stride))
            x = F.relu(x + y)
    return net.linear("fc", x.mean((2, 3)))


def densenet121(net, x, o):
    x = F.max_pool2d(F.relu(net.bn("norm0", net.conv("conv0", x, stride=2, padding=3))), 3, 2, 1)
    return dense_blocks(net, x, [6, 12, 24, 16])


def densenet_bc100(net, x, o):
    return dense_blocks(net, net.conv("conv0", x, padding=1), [16, 16, 16])


def dense_blocks(net, x, layers):
    for block in range(1, len(layers) + 1):
        for layer in range(layers[block - 1]):
            n = f"dense{block}.{layer}."
            y = net.conv(n + "conv1", F.relu(net.bn(n + "norm1", x)))
            y = net.conv(n + "conv2", F.relu(net.bn(n + "norm2", y)), padding=1)
            x = torch.cat([x, y], 1)
        if block < len(layers):
            n = f"transition{block}."
            x = F.avg_pool2d(net.conv(n + "conv", F.relu(net.bn(n + "norm", x))), 2)
    return net.linear("fc", F.relu(net.bn("norm", x)).mean((2, 3)))


def mobilenet_v2(net, x, o):
    x = F.relu6(net.bn("stem_bn", net.conv("stem", x, padding=1)))
    i = 0
    for t, blocks, s in [(1, 1, 1), (6, 2, 1), (6, 3, 2), (6, 4, 2), (6, 3, 1), (6, 3, 2), (6, 1, 1)]:
        for b in range(blocks):
            n = f"blocks.{i}."
            stride = s if b == 0 else 1
            y = F.relu6(net.bn(n + "expand_bn", net.conv(n + "expand", x))) if t > 1 else x
            y = net.conv(n + "depthwise", y, stride=stride, padding=1, groups=y.size(1))
            y = net.bn(n + "project_bn", net.conv(n + "project", F.relu6(net.bn(n + "depthwise_bn", y))))
            x = x + y if x.shape == y.shape else y
            i += 1
    x = F.relu6(net.bn("head_bn", net.conv("head", x)))
    return net.linear("fc", x.mean((2, 3)))


def vit_tiny(net, x, o):
    x = net.conv("patch_embed.proj", x, stride=o["patch"]).flatten(2).transpose(1, 2)
    distilled = o.get("distillation", False)
    tokens = [net.w[f"embed.{n}_token"].expand(x.size(0), 1, -1) for n in ["class"] + ["distillation"] * distilled]
    x = torch.cat([*tokens, x], 1) + net.w["embed.position"]
    for i in range(o["depth"]):
        n = f"blocks.{i}."
        y = net.ln(n + "norm1", x, 1e-6)
        q, k, v = (net.linear(f"{n}attn.{m}", y).unflatten(2, (o["heads"], -1)).transpose(1, 2) for m in "qkv")
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + net.linear(n + "attn.proj", y)
        x = x + net.linear(n + "mlp.fc2", F.gelu(net.linear(n + "mlp.fc1", net.ln(n + "norm2", x, 1e-6))))
    x = net.ln("norm", x, 1e-6)
    head = net.linear("head", x[:, 0])
    return (head + net.linear("head_dist", x[:, 1])) / 2 if distilled else head


deit_tiny = vit_tiny


def partition(x, w):
    b, h, width, c = x.shape
    return x.view(b, h // w, w, width // w, w, c).permute(0, 1, 3, 2, 4, 5).reshape(-1, w * w, c)


def window_attention(net, n, x, heads, window, shift, shift_first):
    b, h, width, c = x.shape
    padding = (0, 0, 0, -width % window, 0, -h % window)
    roll = (-shift, -shift), (1, 2)
    x = F.pad(torch.roll(x, *roll), padding) if shift_first else torch.roll(F.pad(x, padding), *roll)
    ph, pw = x.shape[1:3]
    x = partition(x, window)
    q, k, v = (net.linear(n + m, x).unflatten(2, (heads, -1)).transpose(1, 2) for m in "qkv")
    a = q * q.size(-1) ** -0.5 @ k.transpose(-2, -1)
    at = torch.stack(torch.meshgrid(torch.arange(window), torch.arange(window), indexing="ij")).flatten(1)
    relative = at[:, :, None] - at[:, None, :] + window - 1
    rows = relative[0] * (2 * window - 1) + relative[1]
    a = a + net.w[n + "windows.relative_position_bias"][rows].permute(2, 0, 1)
    if shift > 0:
        region = torch.zeros(1, ph, pw, 1)
        slices = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
        for i, rs in enumerate(slices):
            for j, cs in enumerate(slices):
                region[:, rs, cs] = 3 * i + j
        region = partition(region, window).squeeze(-1)
        mask = torch.where(region[:, None] == region[:, :, None], 0.0, -100.0)
        a = (a.view(b, -1, heads, *a.shape[2:]) + mask[None, :, None]).view_as(a)
    y = (a.softmax(-1) @ v).transpose(1, 2).flatten(2)
    y = net.linear(n + "proj", y)
    y = y.view(b, ph // window, pw // window, window, window, c).permute(0, 1, 3, 2, 4, 5).reshape(b, ph, pw, c)
    back = (shift, shift), (1, 2)
    return torch.roll(y[:, :h, :width], *back) if shift_first else torch.roll(y, *back)[:, :h, :width]


def swin_t(net, x, o):
    x = net.conv("patch_embed.proj", x, stride=4).permute(0, 2, 3, 1)
    x = net.ln("patch_embed.norm", x)
    for stage, depth in enumerate(o["depths"]):
        for b in range(depth):
            n = f"layers.{stage}.blocks.{b}."
            shift = o["window"] // 2 if b % 2 == 1 and min(x.shape[1:3]) > o["window"] else 0
            y = window_attention(net, n + "attn.", net.ln(n + "norm1", x), o["heads"][stage], o["window"], shift,
                                 o.get("shift_first", False))
            x = x + y
            x = x + net.linear(n + "mlp.fc2", F.gelu(net.linear(n + "mlp.fc1", net.ln(n + "norm2", x))))
        if stage + 1 < len(o["depths"]):
            x = F.pad(x, (0, 0, 0, x.size(2) % 2, 0, x.size(1) % 2))
            x = torch.cat([x[:, 0::2, 0::2], x[:, 1::2, 0::2], x[:, 0::2, 1::2], x[:, 1::2, 1::2]], -1)
            n = f"layers.{stage}.downsample."
            x = net.linear(n + "reduction", net.ln(n + "norm", x))
    return net.linear("head", net.ln("norm", x).mean((1, 2)))


def darts(net, x, o):
    def separable(n, i, x, kernel, stride, dilation):
        y = net.conv(f"{n}depthwise{i}", F.relu(x), stride=stride, padding=dilation * (kernel // 2), dilation=dilation,
                     groups=x.size(1))
        return net.bn(f"{n}bn{i}", net.conv(f"{n}conv{i}", y))

    def factorized_reduce(n, x):
        x = F.relu(x)
        halves = [net.conv(n + "conv1", x, stride=2), net.conv(n + "conv2", x[:, :, 1:, 1:], stride=2)]
        return net.bn(n + "bn", torch.cat(halves, 1))

    def operation(op, n, x, stride):
        if op == "none":
            return x[:, :, ::stride, ::stride] * 0
        if op == "skip_connect":
            return x if stride == 1 else factorized_reduce(n, x)
        if op == "max_pool_3x3":
            return F.max_pool2d(x, 3, stride, 1)
        if op == "avg_pool_3x3":
            return F.avg_pool2d(x, 3, stride, 1, count_include_pad=False)
        kernel = int(op[-1])
        if op.startswith("dil"):
            return separable(n, "", x, kernel, stride, 2)
        return separable(n, 2, separable(n, 1, x, kernel, stride, 1), kernel, 1, 1)

    before = last = net.bn("stem.bn", net.conv("stem.conv", x, padding=1))
    reduced = False
    for i in range(3):
        n = f"cells.{i}."
        reduction = i in (1, 2)
        if reduced:
            s0 = factorized_reduce(n + "preprocess0.", before)
        else:
            s0 = net.bn(n + "preprocess0.bn", net.conv(n + "preprocess0.conv", F.relu(before)))
        s1 = net.bn(n + "preprocess1.bn", net.conv(n + "preprocess1.conv", F.relu(last)))
        states = [s0, s1]
        edges = [e.split("<-") for e in o["reduce" if reduction else "normal"]]
        for k in range(0, 8, 2):
            states.append(sum(operation(op, f"{n}ops.{k + j}.", states[int(at)], 2 if reduction and int(at) < 2 else 1)
                              for j, (op, at) in enumerate(edges[k : k + 2])))
        before, last, reduced = last, torch.cat(states[2:], 1), reduction
    return net.linear("fc", last.mean((2, 3)))


def nasbench201(net, x, o):
    def conv(n, x, stride=1):
        kernel = net.w[n + "conv.weight"].size(2)
        return net.bn(n + "bn", net.conv(n + "conv", F.relu(x), stride=stride, padding=kernel // 2))

    x = net.bn("stem.bn", net.conv("stem.conv", x, padding=1))
    for stage in range(3):
        if stage > 0:
            n = f"reductions.{stage - 1}."
            y = conv(n + "conv_b.", conv(n + "conv_a.", x, 2))
            x = y + net.conv(n + "downsample", F.avg_pool2d(x, 2))
        # |nor_conv_3x3~0|+|skip_connect~0|none~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|
        n = f"cells.{stage}.edges."
        one = conv(n + "1.0.", x)
        x = F.avg_pool2d(x, 3, 1, 1, count_include_pad=False) + conv(n + "3.1.", one)
    return net.linear("fc", F.relu(net.bn("bn", x)).mean((2, 3)))


def gcn(net, x, o):
    h, w = x.shape[2:]
    a = torch.eye(h * w)
    for i in range(h * w):
        for j in (i - w, i + w, i - 1 if i % w else -1, i + 1 if (i + 1) % w else -1):
            if 0 <= j < h * w:
                a[i, j] = 1
    a = a / (a.sum(0, keepdim=True) * a.sum(1, keepdim=True)).sqrt()
    x = x.flatten(2).transpose(1, 2)
    x = F.relu(a @ (x @ net.w["conv1.weight"].t()) + net.w["conv1.bias"])
    return (a @ (x @ net.w["conv2.weight"].t()) + net.w["conv2.bias"]).mean(1)


torch.set_default_dtype(torch.float64)
results = []
with open(sys.argv[1], "rb") as file:
    for case in json.loads(file.readline()):
        tensors = {}
        for name, shape in case["tensors"]:
            count = 1
            for n in shape:
                count *= n
            tensors[name] = torch.frombuffer(bytearray(file.read(8 * count)), dtype=torch.float64).view(shape)
        x, target = tensors.pop("x"), tensors.pop("target").long()
        trained = {k: v for k, v in tensors.items() if "running_" not in k}
        forward = globals()[case["use"]]
        with torch.no_grad():
            logits = forward(Net(tensors, False), x, case)
        for v in trained.values():
            v.requires_grad_()
        F.cross_entropy(forward(Net(tensors, True), x, case), target).backward()
        results.append({"logits": logits.flatten().tolist(),
                        "gradients": {k: v.grad.norm().item() for k, v in trained.items()}})
print(json.dumps(results))
