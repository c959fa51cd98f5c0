#!/usr/bin/env bash
# PyTorch 2.11.0, CPU with AVX-512, float32: the weight gradient of a 1x1 convolution of a channels_last image takes
# longer with fewer filters. With 64 input channels, 32 x 32 pixels and a batch of 64, 8 filters take five to six times
# as long as 17 do (9 ms and 1.5 ms), and 1 filter as long as 8. One would expect the time to grow with the filters, in
# steps of a vector of 16. The product of matrices that the gradient is takes 1.5 ms for 8 filters (mm, of the same
# memory). The forward pass, the gradient of the image and kernels of 3x3 show nothing like it, nor do images of 14 x 14
# pixels. Processors without AVX-512 do not show it either.
#
# It matters to those who prune or crop kernels: what is left of a layer may be a few filters of 1x1, which then take
# longer than all that was removed.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check torch==2.11.0 numpy==2.3.5
"$work/env/bin/python" - <<'PY'
import sys
import time

import torch

if "avx512" not in open("/proc/cpuinfo").read():
    sys.exit("This processor has no AVX-512, without which there is nothing to see.")
torch.set_num_threads(1)


def milliseconds(run):
    """The smallest of 15 times, of the processor and not of the clock."""
    times = []
    for _ in range(15):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return 1e3 * min(times)


def images(channels):
    return torch.randn(64, channels, 32, 32).contiguous(memory_format=torch.channels_last)


def rows(image):
    return image.permute(0, 2, 3, 1).reshape(-1, image.size(1))


x = images(64)
convolution, product = {}, {}
for filters in (1, 8, 17):
    weight, gradient = torch.randn(filters, 64, 1, 1), images(filters)
    def by_convolution():
        return torch.ops.aten.convolution_backward(gradient, x, weight, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1,
                                                   [False, True, False])[1]

    def by_product():
        return rows(gradient).t().mm(rows(x))

    a, b = by_convolution().flatten(), by_product().flatten()
    assert torch.allclose(a, b, rtol=1e-3, atol=1e-2), "the gradients differ"
    convolution[filters], product[filters] = milliseconds(by_convolution), milliseconds(by_product)
    print(f"{filters:2} filters: convolution {convolution[filters]:.1f} ms, product {product[filters]:.1f} ms")

assert convolution[8] > 2.5 * convolution[17], "8 filters are no longer slow"
assert convolution[1] > 2.5 * convolution[17], "1 filter is no longer slow"
assert product[8] < 0.5 * convolution[8], "the product is no longer faster"
print("As described: fewer filters take longer.")
PY
