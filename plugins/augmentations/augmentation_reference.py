# The augmentations written from their papers and from the documented behaviour of torchvision and timm, with NumPy,
# PyTorch and the standard library. Reads tensors and draws, writes the images or numbers that come of them.
import colorsys
import json
import math
import sys

import numpy as np

LUMA = (0.2989, 0.587, 0.114)


def grey(image):
    """The grey of an image [channels, height, width]."""
    return image[0] if len(image) == 1 else sum(share * channel for share, channel in zip(LUMA, image))


def color_jitter(options, images):
    # Images where black is 0 and white is 1, in float64.
    result = []
    for image, draw in zip(images, options["draws"]):
        for name, factor in draw:
            if name == "brightness":
                image = np.clip(factor * image, 0, 1)
            elif name == "contrast":
                image = np.clip(factor * image + (1 - factor) * grey(image).mean(), 0, 1)
            elif len(image) == 1:
                continue
            elif name == "saturation":
                image = np.clip(factor * image + (1 - factor) * grey(image), 0, 1)
            elif name == "hue":
                pixels = [colorsys.rgb_to_hsv(*pixel) for pixel in image.reshape(3, -1).T]
                pixels = [colorsys.hsv_to_rgb((h + factor) % 1, s, v) for h, s, v in pixels]
                image = np.array(pixels).T.reshape(image.shape)
        result.append(image)
    return np.stack(result)


def random_erasing(options, numbers):
    # Numbers from [0, 1) take the place of the generator: for each image ten times area, ratio, top, left.
    height, width = options["height"], options["width"]
    boxes = []
    for image in numbers:
        box = (0, 0, 0, 0)
        for area, ratio, top, left in image:
            target = height * width * (options["scale"][0] + (options["scale"][1] - options["scale"][0]) * area)
            low, high = (math.log(r) for r in options["ratio"])
            aspect = math.exp(low + (high - low) * ratio)
            h, w = round(math.sqrt(target * aspect)), round(math.sqrt(target / aspect))
            if 0 < h < height and 0 < w < width:
                box = (math.floor(top * (height - h + 1)), math.floor(left * (width - w + 1)), h, w)
                break
        boxes.append(box)
    return np.array(boxes, dtype=np.float64)


def blend(image, other, factor):
    # In float32, each product and the sum rounded; then limited and cut to whole numbers.
    mixed = np.float32(factor) * image.astype(np.float32) + np.float32(1 - factor) * np.float32(other)
    return np.trunc(np.clip(mixed, 0, 255)).astype(np.uint8)


def byte_grey(image):
    if len(image) == 1:
        return image[0]
    channels = image.astype(np.float32)
    mixed = np.float32(LUMA[0]) * channels[0] + np.float32(LUMA[1]) * channels[1] + np.float32(LUMA[2]) * channels[2]
    return mixed.astype(np.uint8)


def sharpened(image, factor):
    if min(image.shape[1:]) <= 2:
        return image
    import torch  # takes longer than all others do
    import torch.nn.functional as F
    kernel = torch.ones(1, 1, 3, 3, dtype=torch.float64)
    kernel[0, 0, 1, 1] = 5
    inner = F.conv2d(torch.from_numpy(image).double()[:, None], kernel / 13)[:, 0].round().numpy()
    blurred = image.copy()
    blurred[:, 1:-1, 1:-1] = inner
    return blend(image, blurred, factor)


def stretched(image):
    result = image.copy()
    for c, channel in enumerate(image.astype(np.float32)):
        low, high = channel.min(), channel.max()
        if low < high:
            result[c] = np.clip((channel - low) * (1 / (high - low) * np.float32(255)), 0, 255).astype(np.uint8)
    return result


def equalized(image):
    result = image.copy()
    for c, channel in enumerate(image):
        counts = np.bincount(channel.ravel(), minlength=256)
        step = (channel.size - counts[channel.max()]) // 255
        if step > 0:
            smaller = np.concatenate([[0], np.cumsum(counts)[:-1]])
            result[c] = np.clip((smaller + step // 2) // step, 0, 255).astype(np.uint8)[channel]
    return result


def moved(image, matrix, mode):
    # matrix: from places of the result to places of the image, both in pixels from the centre.
    import torch
    import torch.nn.functional as F
    height, width = image.shape[1:]
    pixels = torch.tensor(matrix, dtype=torch.float64)
    size = torch.tensor([width / 2, height / 2], dtype=torch.float64)
    theta = pixels.clone()
    theta[:, :2] = pixels[:, :2] * size[None, :] / size[:, None]
    theta[:, 2] = pixels[:, 2] / size
    grid = F.affine_grid(theta[None], [1, 1, height, width], align_corners=False)
    source = torch.from_numpy(image).double()[None]
    return F.grid_sample(source, grid, mode=mode, align_corners=False)[0].round().numpy().astype(np.uint8)


def evenly_spaced(first, last, count, i):
    # As torch.linspace: from the nearer end, in float32, product and sum rounded at once.
    first, last = np.float32(first), np.float32(last)
    step = float((last - first) / np.float32(count - 1))
    exact = float(first) + step * i if i < count // 2 else float(last) - step * (count - 1 - i)
    return float(np.float32(exact))


def randaugment(options, images):
    names = ["Identity", "ShearX", "ShearY", "TranslateX", "TranslateY", "Rotate", "Brightness", "Color", "Contrast",
             "Sharpness", "Posterize", "Solarize", "AutoContrast", "Equalize"]
    bins, mode = options["bins"], options["interpolation"]
    height, width = images.shape[2:]
    table = {"ShearX": (0, 0.3), "ShearY": (0, 0.3), "TranslateX": (0, 150 / 331 * width),
             "TranslateY": (0, 150 / 331 * height), "Rotate": (0, 30), "Solarize": (255, 0)}
    strengths = {name: evenly_spaced(*table.get(name, (0, 0.9)), bins, options["magnitude"]) for name in names}
    bits = 8 - round(options["magnitude"] / ((bins - 1) / 4))
    result = []
    for image, draws in zip(images.astype(np.uint8), options["draws"]):
        for number, negative in draws:
            name = names[number]
            s = -strengths[name] if negative else strengths[name]
            if name == "ShearX":
                image = moved(image, [[1, s, s * height / 2], [0, 1, 0]], mode)
            elif name == "ShearY":
                image = moved(image, [[1, 0, 0], [s, 1, s * width / 2]], mode)
            elif name == "TranslateX":
                image = moved(image, [[1, 0, -int(s)], [0, 1, 0]], mode)
            elif name == "TranslateY":
                image = moved(image, [[1, 0, 0], [0, 1, -int(s)]], mode)
            elif name == "Rotate":
                cosine, sine = math.cos(math.radians(s)), math.sin(math.radians(s))
                image = moved(image, [[cosine, -sine, 0], [sine, cosine, 0]], mode)
            elif name == "Brightness":
                image = blend(image, 0, 1 + s)
            elif name == "Color":
                image = image if len(image) == 1 else blend(image, byte_grey(image), 1 + s)
            elif name == "Contrast":
                image = blend(image, byte_grey(image).astype(np.float64).mean(), 1 + s)
            elif name == "Sharpness":
                image = sharpened(image, 1 + s)
            elif name == "Posterize":
                image = image >> (8 - bits) << (8 - bits)
            elif name == "Solarize":
                image = np.where(image.astype(np.float64) >= s, 255 - image, image)
            elif name == "AutoContrast":
                image = stretched(image)
            elif name == "Equalize":
                image = equalized(image)
        result.append(image)
    return np.stack(result)


def probabilities(targets, classes):
    return targets if targets.ndim == 2 else np.eye(classes)[targets.astype(int)]


def mixed(own, share):
    return share * own + (1 - share) * own[::-1]


def mixup(options, images, targets):
    share = options["share"]
    labels = mixed(probabilities(targets, options["classes"]), share)
    return np.concatenate([mixed(images, share).ravel(), labels.ravel()])


def cutmix(options, images, targets):
    # y and x, from [0, 1), take the place of the generator.
    height, width = images.shape[2:]
    side = np.sqrt(1 - options["share"])
    h, w = int(height * side), int(width * side)
    y, x = int(options["y"] * height), int(options["x"] * width)
    rows = slice(*np.clip([y - h // 2, y + (h + 1) // 2], 0, height))
    columns = slice(*np.clip([x - w // 2, x + (w + 1) // 2], 0, width))
    result = images.copy()
    result[:, :, rows, columns] = images[::-1, :, rows, columns]
    share = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (height * width)
    return np.concatenate([result.ravel(), mixed(probabilities(targets, options["classes"]), share).ravel()])


def main():
    with open(sys.argv[1], "rb") as file:
        header = json.loads(file.readline())
        tensors = [np.fromfile(file, dtype=np.float64, count=math.prod(shape)).reshape(shape)
                   for shape in header["shapes"]]
    result = globals()[header["function"]](header["options"], *tensors)
    result.astype(np.float64).tofile(sys.argv[2])


main()
