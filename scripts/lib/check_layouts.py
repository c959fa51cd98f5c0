"""Compares networks that begin with files of other libraries with the libraries' own networks.

timm, torchvision and transformers make networks with random values and save them as their users do. Espalier begins
with each file, without training: the logits of the network that it then exports as plain PyTorch must be the library's,
to 1e-4 of the largest. The layout is not said, so it is found by names and shapes. Then Espalier writes the file back,
and the library must load it strictly, with the same bytes in every tensor. Nothing is downloaded.

The authors' program of Swin is no package; its files are made of timm's by its published names.
"""
import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

TOLERANCE = 1e-4  # of the largest logit, in float32
CLASSES = 10


def hf(name, config, **options):
    import transformers
    return getattr(transformers, name)(getattr(transformers, config)(num_labels=CLASSES, **options))


def timm(name, **options):
    import timm
    return timm.create_model(name, num_classes=CLASSES, **options)


def tv(name, **options):
    import torchvision
    return getattr(torchvision.models, name)(num_classes=CLASSES, **options)


def basic(depths):
    return hf("ResNetForImageClassification", "ResNetConfig", depths=depths, hidden_sizes=[64, 128, 256, 512],
              layer_type="basic")


def small(dim):
    return {"hidden_size": dim, "num_attention_heads": dim // 64, "intermediate_size": 4 * dim}


def microsoft(state):
    """The names of microsoft/Swin-Transformer, with its buffers, of timm's."""
    import torch
    named = {}
    for name, tensor in state.items():
        name = re.sub(r"layers\.(\d)\.downsample", lambda m: f"layers.{int(m[1]) - 1}.downsample", name)
        named[name.replace("head.fc.", "head.")] = tensor
        if name.endswith("relative_position_bias_table"):
            stem = name.removesuffix("relative_position_bias_table")
            named[stem + "relative_position_index"] = torch.zeros(49, 49, dtype=torch.long)
    return {"model": named, "epoch": 300}


def old_densenet(state):
    """The names of the published files: norm.1 in place of norm1."""
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", name): t for name, t in state.items()}


def wrapped(state):
    return {"module._orig_mod." + name: t for name, t in state.items()}


# Name: backbone, options of Espalier's network, layout to be found, how the library makes the network, pixels, and what
# becomes of the state dict before it is saved.
CASES = {
    "timm swin_t": ("swin_t", {}, "timm", lambda: timm("swin_tiny_patch4_window7_224"), 224, None),
    "timm swin_t 256": ("swin_t", {}, "timm", lambda: timm("swin_tiny_patch4_window7_224", img_size=256), 256, None),
    "microsoft swin_t": ("swin_t", {}, "microsoft", lambda: timm("swin_tiny_patch4_window7_224"), 224, microsoft),
    "torchvision swin_t": ("swin_t", {}, "torchvision", lambda: tv("swin_t"), 224, None),
    "torchvision swin_t 256": ("swin_t", {}, "torchvision", lambda: tv("swin_t"), 256, None),
    "torchvision swin_t 128": ("swin_t", {}, "torchvision", lambda: tv("swin_t"), 128, None),
    "huggingface swin_t": ("swin_t", {}, "huggingface", lambda: hf("SwinForImageClassification", "SwinConfig"), 224,
                           "save_pretrained"),
    "huggingface swin_t 256": ("swin_t", {}, "huggingface", lambda: hf("SwinForImageClassification", "SwinConfig",
                               image_size=256), 256, "save_pretrained"),
    "huggingface-5 swin_t": ("swin_t", {}, "huggingface-5", lambda: hf("SwinForImageClassification", "SwinConfig"), 224,
                             None),
    "timm vit_tiny": ("vit_tiny", {}, "timm", lambda: timm("vit_tiny_patch16_224"), 224, None),
    "timm vit_small": ("vit_small", {}, "timm", lambda: timm("vit_small_patch16_224"), 224, None),
    "timm vit_base": ("vit_base", {}, "timm", lambda: timm("vit_base_patch16_224"), 224, None),
    "timm deit_tiny": ("deit_tiny", {}, "timm", lambda: timm("deit_tiny_patch16_224"), 224, None),
    "timm deit_tiny distilled": ("deit_tiny", {"distillation": True}, "timm",
                                 lambda: timm("deit_tiny_distilled_patch16_224"), 224, None),
    "timm deit_small distilled": ("deit_small", {"distillation": True}, "timm",
                                  lambda: timm("deit_small_distilled_patch16_224"), 224, None),
    "torchvision vit_b_16": ("vit_base", {}, "torchvision", lambda: tv("vit_b_16"), 224, None),
    "huggingface vit_tiny": ("vit_tiny", {}, "huggingface", lambda: hf("ViTForImageClassification", "ViTConfig",
                             **small(192)), 224, "save_pretrained"),
    "huggingface vit_base": ("vit_base", {}, "huggingface", lambda: hf("ViTForImageClassification", "ViTConfig"), 224,
                             "save_pretrained"),
    "huggingface-5 vit_tiny": ("vit_tiny", {}, "huggingface-5", lambda: hf("ViTForImageClassification", "ViTConfig",
                               **small(192)), 224, None),
    "huggingface deit_tiny": ("deit_tiny", {"distillation": True}, "huggingface-deit",
                              lambda: hf("DeiTForImageClassificationWithTeacher", "DeiTConfig", **small(192)), 224,
                              "save_pretrained"),
    "huggingface-5 deit_tiny": ("deit_tiny", {"distillation": True}, "huggingface-deit-5",
                                lambda: hf("DeiTForImageClassificationWithTeacher", "DeiTConfig", **small(192)), 224,
                                None),
    "timm resnet18": ("resnet18", {}, None, lambda: timm("resnet18"), 224, None),
    "timm resnet50": ("resnet50", {}, None, lambda: timm("resnet50"), 224, wrapped),
    "torchvision resnet18": ("resnet18", {}, None, lambda: tv("resnet18"), 224, None),
    "torchvision resnet34": ("resnet34", {}, None, lambda: tv("resnet34"), 224, None),
    "torchvision resnet50": ("resnet50", {}, None, lambda: tv("resnet50"), 224, None),
    "huggingface resnet18": ("resnet18", {}, "huggingface", lambda: basic([2, 2, 2, 2]), 224, "save_pretrained"),
    "huggingface resnet34": ("resnet34", {}, "huggingface", lambda: basic([3, 4, 6, 3]), 224, "save_pretrained"),
    "huggingface resnet50": ("resnet50", {}, "huggingface", lambda: hf("ResNetForImageClassification", "ResNetConfig"),
                             224, "save_pretrained"),
    "timm mobilenet_v2": ("mobilenet_v2", {}, "timm", lambda: timm("mobilenetv2_100"), 224, None),
    "torchvision mobilenet_v2": ("mobilenet_v2", {}, "torchvision", lambda: tv("mobilenet_v2"), 224, None),
    "huggingface mobilenet_v2": ("mobilenet_v2", {}, "huggingface", lambda: hf("MobileNetV2ForImageClassification",
                                 "MobileNetV2Config"), 224, "save_pretrained"),
    "timm densenet121": ("densenet121", {}, "torchvision", lambda: timm("densenet121"), 224, wrapped),
    "torchvision densenet121": ("densenet121", {}, "torchvision", lambda: tv("densenet121"), 224, None),
    "old torchvision densenet121": ("densenet121", {}, "torchvision", lambda: tv("densenet121"), 224, old_densenet),
}


class Failed(Exception):
    pass


def call(*command):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode != 0:
        said = done.stderr.strip() or done.stdout.strip()
        raise Failed(f"{' '.join(map(str, command))}\n{said[-3000:]}")
    return done.stdout + done.stderr


def shake(model):
    """No value stays one at which a fault would not show: norms and their statistics, biases, positions, tokens."""
    import torch
    generator = torch.Generator().manual_seed(0)
    for name, tensor in list(model.named_parameters()) + list(model.named_buffers()):
        if not tensor.is_floating_point() or name.endswith("attn_mask"):
            continue
        draw = torch.rand(tensor.shape, generator=generator)
        if tensor.dim() <= 1 and name.endswith(("weight", "running_var")):
            tensor.data.copy_(0.5 + draw)
        elif tensor.dim() <= 1 or "bias" in name or "embed" in name or "token" in name and tensor.dim() != 4:
            tensor.data.add_(0.2 * (draw - 0.5))


def logits_of(model, x):
    import torch
    with torch.no_grad():
        y = model(x)
    return y if isinstance(y, torch.Tensor) else y.logits


def module_of(file):
    spec = importlib.util.spec_from_file_location(f"model_{abs(hash(str(file)))}", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load_model().eval()


def check(name, case, program, folder):
    import torch
    import safetensors.torch
    torch.manual_seed(0)
    backbone, options, found, make, pixels, way = case
    model = make().eval()
    shake(model)
    state = {k: v.clone() for k, v in model.state_dict().items()}
    if way == "save_pretrained":
        model.save_pretrained(folder / "saved")
        file = folder / "saved"
    else:
        file = folder / "saved.pth"
        torch.save(way(state) if way else state, file)
    recipe = {"espalier": 1, "name": "layouts", "threads": 1,
              "data": {"use": "synthetic", "size": pixels, "channels": 3, "classes": CLASSES, "count": 10, "batch": 5},
              "network": {"use": backbone, "from": str(file), **options}, "stages": [{"name": "look", "epochs": 0}]}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    said = call(program, "run", folder / "recipe.json", "--out", folder / "run")
    if found and f"in the layout {found}\n" not in said:
        raise Failed(f"the layout {found} was not found:\n{said}")
    # The same network as plain PyTorch, on images of which Espalier has never heard.
    call(program, "export", folder / "run", "--to", "python", "--out", folder / "model.py")
    x = torch.randn(2, 3, pixels, pixels, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours = module_of(folder / "model.py")(x)
    theirs = logits_of(model, x)
    error = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    if not error <= TOLERANCE:
        raise Failed(f"the logits differ by {error:.1e} of the largest")
    # And back.
    layout = found or name.split()[0]
    back = folder / "back"
    back.mkdir()
    call(program, "export", folder / "run", "--to", "safetensors", "--layout", layout, "--out",
         back / "model.safetensors")
    if way == "save_pretrained":
        model.config.save_pretrained(back)
        again, info = type(model).from_pretrained(back, output_loading_info=True)
        wrong = {k: v for k, v in info.items() if v}
        if wrong:
            raise Failed(f"from_pretrained() says {wrong}")
    else:
        again = make()
        written = safetensors.torch.load_file(back / "model.safetensors")
        if way is microsoft:
            # What the authors' program holds, strictly: its buffers too.
            want = {k for k in microsoft(state)["model"]} | {
                f"layers.{i}.blocks.{j}.attn_mask" for i, n in enumerate([2, 2, 6, 2]) for j in range(1, n, 2) if i < 3}
            if want != set(written):
                raise Failed(f"names differ: {sorted(want ^ set(written))[:5]}")
            for k, v in microsoft(state)["model"].items():
                if v.is_floating_point() and not torch.equal(v, written[k]):
                    raise Failed(f"'{k}' is not what it was")
            return error
        again.load_state_dict(written, strict=True)
    for k, v in again.state_dict().items():
        if not (torch.equal(v, state[k]) and v.dtype == state[k].dtype):
            raise Failed(f"'{k}' is not what it was")
    return error


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--build", type=Path, default=Path("build/release"), help="the build folder")
    parser.add_argument("--only", default="", help="only the cases with this regular expression in their names")
    parser.add_argument("--list", action="store_true", help="show the cases")
    args = parser.parse_args()
    cases = {name: case for name, case in CASES.items() if re.search(args.only, name)}
    if args.list or not cases:
        print("\n".join(CASES))
        sys.exit(0 if args.list else f"check-layouts: no case has '{args.only}' in its name")
    os.environ["OMP_NUM_THREADS"] = "1"  # threads that wait for each other are slow beside other programs
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    warnings.filterwarnings("ignore")
    import torch
    import timm as timm_library
    import torchvision
    import transformers
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(1)
    print(f"timm {timm_library.__version__}, torchvision {torchvision.__version__}, "
          f"transformers {transformers.__version__}", flush=True)
    failed = 0
    for name, case in cases.items():
        with tempfile.TemporaryDirectory() as folder:
            try:
                error = check(name, case, args.build / "bin" / "espalier", Path(folder))
                print(f"{name:30} logits differ by {error:.1e}, written back with the same bytes", flush=True)
            except Failed as e:
                failed += 1
                print(f"{name:30} FAILED: {e}", flush=True)
    print(f"{len(cases) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
