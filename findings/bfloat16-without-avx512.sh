#!/usr/bin/env bash
# PyTorch 2.11.0, CPU without AVX-512 (most AMD processors before Zen 4, many Intel ones): in bfloat16 a linear layer
# and a convolution take several times as long as in float32, forward and backward. One would expect about the same
# time, since converting both factors to float32 first costs a few percent of the product, and bfloat16 is half of the
# memory. Nothing is said: autocast to bfloat16 makes the training of an ordinary network about ten times as slow.
#
# It matters to those who train with one recipe on machines of several kinds: with AVX-512 or AMX bfloat16 is the faster
# one. What helps is to convert to float32 before the product and to round the result: a product of bfloat16 numbers is
# exact in float32, and PyTorch adds in float32, too.
#
# Seen on an AMD EPYC with AVX2, one thread: linear layer 55 ms in float32 and 386 ms in bfloat16, the gradient of its
# input 54 and 1118 ms; convolution of 64 channels 4 and 30 ms, depthwise 1 and 37 ms.
set -euo pipefail
if grep -qw avx512f /proc/cpuinfo; then
  echo "this processor has AVX-512: there is nothing to see here"
  exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check torch==2.11.0 numpy==2.3.5
"$work/env/bin/python" - <<'PY'
import time

import torch

torch.set_num_threads(1)
float32, bfloat16 = torch.float32, torch.bfloat16


def milliseconds(call):
    """The smallest of 5 times of the processor."""
    times = []
    for _ in range(5):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return 1e3 * min(times)


def compare(name, make, call, least):
    factors = {t: [x.to(t) for x in make()] for t in (float32, bfloat16)}
    taken = {t: milliseconds(lambda t=t: call(*factors[t])) for t in (float32, bfloat16)}
    convert = milliseconds(lambda: [x.to(float32) for x in factors[bfloat16]])
    print(f"{name:24} float32 {taken[float32]:7.1f} ms, bfloat16 {taken[bfloat16]:7.1f} ms, "
          f"conversion {convert:.1f} ms")
    assert taken[bfloat16] > least * taken[float32], f"{name}: bfloat16 is no longer much slower than float32"
    assert convert < 0.5 * taken[float32], f"{name}: the conversion is not cheap"


def image(channels):
    return torch.randn(32, channels, 8, 8).contiguous(memory_format=torch.channels_last)


def filters(*sizes):
    return torch.randn(*sizes).contiguous(memory_format=torch.channels_last)


compare("linear layer", lambda: (torch.randn(1568, 384), torch.randn(1536, 384)), torch.nn.functional.linear, 2)
compare("gradient of its input", lambda: (torch.randn(1568, 1536), torch.randn(1536, 384)), torch.mm, 2)
compare("convolution", lambda: (image(64), filters(64, 64, 3, 3)),
        lambda x, w: torch.nn.functional.conv2d(x, w, padding=1), 2)
PY
echo "as described: torch 2.11.0"
