#!/usr/bin/env bash
# PyTorch 2.11.0: `interpolate(mode="bicubic", antialias=True)` differs from `antialias=False` where an image becomes
# larger. Antialiasing widens the kernel by the factor by which an image shrinks, so in an enlargement one would expect
# no difference, and `bilinear` has none. But the two forms of bicubic have other kernels: Keys's a is -0.75 without
# antialiasing and -0.5 with it. An impulse shows the kernel. Pillow 12.0.0's bicubic has a = -0.5, too, so the form
# with antialiasing is the one that equals it, in an enlargement as well.
#
# It matters to those who train with one form and export, or serve, with the other (ONNX's Resize has -0.75 unless
# `cubic_coeff_a` says otherwise): CIFAR images at 224 pixels are then other images.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check torch==2.11.0 numpy==2.3.5 pillow==12.0.0
"$work/env/bin/python" - <<'PY'
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

impulse = torch.zeros(1, 1, 1, 16, dtype=torch.float64)
impulse[..., 8] = 1


def enlarged(mode, antialias):
    return F.interpolate(impulse, size=(1, 32), mode=mode, align_corners=False, antialias=antialias).flatten()


def keys(a):
    """Keys's cubic kernel at the distances of 2x enlargement from the impulse."""
    t = ((torch.arange(32, dtype=torch.float64) + 0.5) / 2 - 8.5).abs()
    near = (a + 2) * t**3 - (a + 3) * t**2 + 1
    far = a * t**3 - 5 * a * t**2 + 8 * a * t - 4 * a
    return torch.where(t <= 1, near, torch.where(t < 2, far, torch.zeros_like(t)))


plain, smooth = enlarged("bicubic", False), enlarged("bicubic", True)
print("bicubic:  largest difference", (plain - smooth).abs().max().item())
print("bilinear: largest difference", (enlarged("bilinear", False) - enlarged("bilinear", True)).abs().max().item())
print("from Keys's kernel: without antialiasing, a = -0.75:", (plain - keys(-0.75)).abs().max().item())
print("                    with antialiasing,    a = -0.5: ", (smooth - keys(-0.5)).abs().max().item())
picture = Image.fromarray(impulse[0, 0].float().numpy()).resize((32, 1), Image.Resampling.BICUBIC)
pillow = torch.from_numpy(np.array(picture)).flatten().double()
print("from Pillow: without", (plain - pillow).abs().max().item(), "with", (smooth - pillow).abs().max().item())

assert (plain - smooth).abs().max() > 0.03
assert torch.equal(enlarged("bilinear", False), enlarged("bilinear", True))
assert (plain - keys(-0.75)).abs().max() < 1e-12
assert (smooth - keys(-0.5)).abs().max() < 1e-12
assert (smooth - pillow).abs().max() < 1e-6 < (plain - pillow).abs().max()
PY
echo "as described: torch 2.11.0, pillow 12.0.0"
