"""One run of the peer: the exported network, trained by tuned eager PyTorch. Prints JSON as `espalier bench --json`."""
import argparse
import importlib.util
import json
import resource
import statistics
import sys
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
import torch  # noqa: E402


def optimizer_of(stage, model):
    """The stage's optimizer, its fused form."""
    spec = dict(stage["optimizers"][0])
    kinds = {"sgd": (torch.optim.SGD, ("lr", "momentum", "weight_decay")),
             "adagrad": (torch.optim.Adagrad, ("lr", "weight_decay"))}
    kind, options = kinds[spec["use"]]
    return kind(model.parameters(), fused=True, **{k: spec[k] for k in options if k in spec})


def penalties_of(stage, model):
    """Functions whose sum is added to the loss."""
    selected = {"weights": lambda name, p: p.dim() > 1, "gates": lambda name, p: name.endswith(".coefficient.value")}
    terms = []
    for spec in stage["regularizers"]:
        for name, p in model.named_parameters():
            if any(selected[on](name, p) for on in spec["on"]):
                terms.append({"l1": lambda p=p, w=spec["weight"]: w * p.abs().sum(),
                              "l2": lambda p=p, w=spec["weight"]: w / 2 * p.square().sum()}[spec["use"]])
    return terms


def time_inference(o, module, model):
    """Prints the median time of a pass over inputs of the shape of the data."""
    inputs = module.load_safetensors(o.folder / "data.safetensors")["inputs"]
    x = torch.randn(o.batch, *inputs.shape[1:])
    if x.dim() == 4:
        x = x.contiguous(memory_format=torch.channels_last)
    forward = torch.compile(model, mode=o.compile, dynamic=False) if o.compile else model
    times = []
    with torch.inference_mode(), torch.autocast(o.device, torch.bfloat16, enabled=o.precision == "bf16"):
        for _ in range(o.warmup + o.steps):
            since = time.perf_counter()
            forward(x)
            times.append(time.perf_counter() - since)
    print(json.dumps({"step_ms": 1e3 * statistics.median(times[o.warmup:]), "first_step_at": time.time()}))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    for name in ("batch", "steps", "warmup", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--compile", choices=("default", "max-autotune"), help="by torch.compile in this mode")
    parser.add_argument("--inference", action="store_true", help="the forward pass in evaluation, of made-up inputs")
    parser.add_argument("--losses", type=int, metavar="STEPS", help="only the losses of so many first steps")
    o = parser.parse_args()
    torch.set_num_threads(o.threads)
    torch.backends.cudnn.benchmark = True
    spec = importlib.util.spec_from_file_location("model", o.folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["model"] = module  # where torch.compile looks for it
    spec.loader.exec_module(module)

    device = torch.device(o.device)
    model = module.load_model(o.folder / "model.safetensors").to(device).train()
    if o.inference:
        return time_inference(o, module, model.eval())
    stage = json.loads((o.folder / "stage.json").read_text())
    optimizer, penalties = optimizer_of(stage, model), penalties_of(stage, model)
    loss_of = torch.nn.functional.cross_entropy if hasattr(module, "CLASSES") else torch.nn.functional.mse_loss
    data = {k: v.to(device) for k, v in module.load_safetensors(o.folder / "data.safetensors").items()}
    inputs, targets, order = data["inputs"], data["targets"], data["order"]
    sizes = (1, -1, 1, 1) if inputs.dim() == 4 else (1, -1)
    scale, shift = (torch.tensor(v, device=device).reshape(sizes) for v in (module.SCALE, module.SHIFT))
    per_order = len(order) // o.batch
    full = None  # what is no bytes is normalised already
    if o.batch == len(inputs) and inputs.dim() == 2:  # every step has all rows: nothing to gather
        full = inputs if inputs.is_floating_point() else inputs.to(torch.float32) * scale + shift, targets

    def batch(i):
        if full:
            return full
        index = order[i % per_order * o.batch:(i % per_order + 1) * o.batch]
        form = torch.channels_last if inputs.dim() == 4 else torch.contiguous_format
        return inputs[index].to(torch.float32, memory_format=form).mul_(scale).add_(shift), targets[index]

    def loss_at(x, y):
        with torch.autocast(o.device, torch.bfloat16, enabled=o.precision == "bf16", cache_enabled=False):
            return loss_of(model(x), y)

    if o.compile:
        loss_at = torch.compile(loss_at, mode=o.compile, dynamic=False)

    def step(i):
        x, y = batch(i)
        loss = loss_at(x, y)
        total = loss
        for penalty in penalties:
            total = total + penalty()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        optimizer.step()
        return loss.detach()

    def wait():
        if device.type == "cuda":
            torch.cuda.synchronize()

    if o.losses:
        print(json.dumps({"losses": [step(i).item() for i in range(o.losses)], "first_step_at": time.time()}))
        return
    total, times = torch.zeros((), dtype=torch.float64, device=device), []
    for i in range(o.warmup + o.steps):
        if i == o.warmup:
            wait()
            began = time.perf_counter()
        since = time.perf_counter()
        total += step(i)
        if i == 0:
            wait()
            first_step_at = time.time()
        times.append(time.perf_counter() - since)
    wait()
    mean = (time.perf_counter() - began) / o.steps
    median = mean if device.type == "cuda" else statistics.median(times[o.warmup:])
    print(json.dumps({"step_ms": 1e3 * median, "images_per_second": o.batch / median,
                      "mean_images_per_second": o.batch / mean, "first_step_at": first_step_at,
                      "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    main()
