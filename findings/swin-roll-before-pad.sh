#!/usr/bin/env bash
# timm's and torchvision's Swin with the same weights give the same logits at 224 pixels, and others at 256.
#
# At 256 pixels no map is a multiple of the window of 7. torchvision (as transformers and the authors' detection code)
# fills the map up with zeros and shifts it then, so that zeros go around to the other side. timm shifts first and fills
# up then. Nothing says so; weights of one program lose accuracy in the other at such sizes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check torch==2.11.0 torchvision==0.26.0 timm==1.0.31 \
  numpy==2.4.6
"$work/env/bin/python" - <<'END'
import re

import timm
import torch
import torchvision

torch.manual_seed(0)
theirs = torchvision.models.swin_t().eval()
for name, tensor in theirs.named_parameters():
    if tensor.dim() == 1:
        tensor.data.uniform_(0.5, 1.5)
names = {"features.0.0": "patch_embed.proj", "features.0.2": "patch_embed.norm", "head": "head.fc"}
state = {}
for name, tensor in theirs.state_dict().items():
    if name.endswith("relative_position_index"):
        continue
    for old, new in names.items():
        if name.startswith(old + "."):
            name = new + name[len(old):]
    stage = re.match(r"features\.(\d+)\.", name)
    if stage:
        n = int(stage[1])
        name = name[stage.end():].replace("mlp.0.", "mlp.fc1.").replace("mlp.3.", "mlp.fc2.")
        name = f"layers.{n // 2}.blocks.{name}" if n % 2 else f"layers.{n // 2}.downsample.{name}"
    state[name] = tensor
for pixels in (224, 256):
    ours = timm.create_model("swin_tiny_patch4_window7_224", img_size=pixels).eval()
    ours.load_state_dict(state, strict=True)
    x = torch.randn(2, 3, pixels, pixels)
    with torch.no_grad():
        a, b = ours(x), theirs(x)
    difference = ((a - b).abs().max() / b.abs().max()).item()
    print(f"{pixels} pixels: the logits differ by {difference:.1e} of the largest")
    assert (difference < 1e-4) == (pixels == 224)
END
echo "as described: torch 2.11.0, torchvision 0.26.0, timm 1.0.31"
