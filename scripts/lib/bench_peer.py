"""One run of the peer: the exported network, trained by tuned eager PyTorch. Prints JSON as `espalier bench --json`."""
import argparse
import importlib.util
import json
import resource
import statistics
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
import torch  # noqa: E402


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    for name in ("batch", "steps", "warmup", "threads"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--losses", action="store_true", help="only the losses of the first 50 steps")
    o = parser.parse_args()
    torch.set_num_threads(o.threads)
    torch.backends.cudnn.benchmark = True
    spec = importlib.util.spec_from_file_location("model", o.folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    device = torch.device(o.device)
    model = module.load_model(o.folder / "model.safetensors").to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)
    data = {k: v.to(device) for k, v in module.load_safetensors(o.folder / "data.safetensors").items()}
    inputs, targets, order = data["inputs"], data["targets"], data["order"]
    scale, shift = (torch.tensor(v, device=device).reshape(1, -1, 1, 1) for v in (module.SCALE, module.SHIFT))
    per_order = len(order) // o.batch

    def step(i):
        index = order[i % per_order * o.batch:(i % per_order + 1) * o.batch]
        x = inputs[index].to(torch.float32, memory_format=torch.channels_last).mul_(scale).add_(shift)
        with torch.autocast(o.device, torch.bfloat16, enabled=o.precision == "bf16", cache_enabled=False):
            loss = torch.nn.functional.cross_entropy(model(x), targets[index])
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def wait():
        if device.type == "cuda":
            torch.cuda.synchronize()

    if o.losses:
        print(json.dumps({"losses": [step(i).item() for i in range(50)], "first_step_at": time.time()}))
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
