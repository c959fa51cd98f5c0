#!/usr/bin/env bash
# PyTorch 2.11.0, CPU: batch norm of a channels_last image with 31 channels takes three to four times as long as with
# 32, forward and backward. One would expect it to take a little less. What counts is whether the channels fill vectors
# of eight: 40 channels are as fast as they should be, 44 are not. In the contiguous format 31 channels do take less.
#
# It matters to those who prune or search widths: channels_last is the format to train convolutions in on a CPU, and
# what a removal leaves is seldom a multiple of eight. A network with half of its multiply-accumulates then takes longer
# than the whole one (measured: a VGG-16 of half width with 79 million multiply-accumulates 9 s for an epoch, after the
# first removal, with 62 million, 13 s).
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check torch==2.11.0 numpy==2.3.5
ATEN_CPU_CAPABILITY=avx2 "$work/env/bin/python" - <<'PY'
import time

import torch

torch.set_num_threads(1)


def milliseconds(channels, memory_format):
    """The smallest of 15 times of a forward and a backward pass, of the processor and not of the clock."""
    def image():
        return torch.randn(64, channels, 32, 32).contiguous(memory_format=memory_format)

    norm, x, gradient = torch.nn.BatchNorm2d(channels), image().requires_grad_(), image()
    times = []
    for _ in range(15):
        began = time.process_time()
        norm(x).backward(gradient)
        times.append(time.process_time() - began)
    return 1e3 * min(times)


taken = {}
for name, memory_format in (("channels_last", torch.channels_last), ("contiguous", torch.contiguous_format)):
    taken[name] = {c: milliseconds(c, memory_format) for c in (31, 32, 40, 44)}
    print(f"{name:14}" + ", ".join(f"{c} channels {ms:.1f} ms" for c, ms in taken[name].items()))

last, contiguous = taken["channels_last"], taken["contiguous"]
assert last[31] > 1.8 * last[32], "31 channels are not slower than 32 any more"
assert last[44] > 1.8 * last[40], "44 channels are not slower than 40 any more"
assert contiguous[31] < 1.3 * contiguous[32], "31 channels are slower in the contiguous format, too"
PY
echo "as described: torch 2.11.0"
