"""What programs that slice tensors by hand need: Espalier's files, and how networks compare."""
import importlib.util
import json
import struct
import subprocess
import sys

TOLERANCE = 1e-5  # of the largest logit


def call(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"check-slices: {' '.join(map(str, command))}\n{done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def tensors_of(file):
    """The tensors of a safetensors file, all of float32."""
    import torch
    raw = file.read_bytes()
    n = struct.unpack("<Q", raw[:8])[0]
    found = {}
    for name, t in json.loads(raw[8:8 + n]).items():
        if name == "__metadata__":
            continue
        assert t["dtype"] == "F32", (name, t["dtype"])
        begin, end = (8 + n + at for at in t["data_offsets"])
        found[name] = torch.frombuffer(bytearray(raw[begin:end]), dtype=torch.float32).reshape(t["shape"])
    return found


def module_of(file):
    spec = importlib.util.spec_from_file_location(f"model_{abs(hash(str(file)))}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load_model().eval()


def difference(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


def trains_on(model, x):
    """Whether some steps of SGD in PyTorch lower the loss of a batch."""
    import torch
    target = torch.arange(x.size(0)) % 10
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    model.train()
    losses = []
    for _ in range(5):
        loss = torch.nn.functional.cross_entropy(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    return losses[-1] < losses[0]
