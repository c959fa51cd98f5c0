"""Compares the code for detection with pycocotools and torchvision.

masks: polygons and runs of made-up annotations (made_annotations.py) become the masks of pycocotools, bit by bit, with
its areas, boxes, unions, intersections and compressed texts.

evaluation: COCO's twelve numbers of made-up results, of boxes and of masks, are those of pycocotools to 1e-6.

kernels: box coding, IoU, GIoU, non-maximum suppression, anchors, RoIAlign and the levels of regions are those of
torchvision on random inputs, values and gradients, in float64.
"""
import argparse
import contextlib
import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import made_annotations

SAME = 1e-6  # the twelve numbers are means of a few thousand precisions in float64, which two orders round differently


class Failures:
    """Prints a line for each comparison and remembers what failed."""

    def __init__(self):
        self.count = 0

    def expect(self, holds, what):
        self.count += not holds
        print(f"{'ok  ' if holds else 'FAIL'} {what}", flush=True)


def ask(program, *words, given=None):
    done = subprocess.run([program, *map(str, words)], input=given, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{program} {' '.join(map(str, words))}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def quietly(function, *arguments):
    with contextlib.redirect_stdout(io.StringIO()):
        return function(*arguments)


def check_masks(program, file, coco, failures):
    from pycocotools import mask as masks
    answer = ask(program, "masks", file)
    rles = {i: dict(coco.annToRLE(a)) for i, a in coco.anns.items()}
    for rle in rles.values():
        if isinstance(rle["counts"], str):
            rle["counts"] = rle["counts"].encode()
    # Its runs may be empty in between; the bits are what counts.
    bits = {i: masks.decode(rle) for i, rle in rles.items()}
    plain = {i: masks.encode(b) for i, b in bits.items()}
    wrong = {"runs": [], "text": [], "area": [], "box": [], "reading back": []}
    for entry in answer["masks"]:
        i = entry["id"]
        is_rle = isinstance(coco.anns[i]["segmentation"], dict)
        if not is_rle and made_annotations.runs_of(bits[i]) != entry["runs"]:
            wrong["runs"].append(i)
        if (entry["text"].encode() != (rles[i] if is_rle else plain[i])["counts"]):
            wrong["text"].append(i)
        if int(masks.area(rles[i])) != entry["area"]:
            wrong["area"].append(i)
        if masks.toBbox(plain[i]).tolist() != entry["box"]:
            wrong["box"].append(i)
        if not entry["read_back"]:
            wrong["reading back"].append(i)
    failures.expect(len(answer["masks"]) == len(coco.anns), f"all {len(coco.anns)} annotations are there")
    for what, ids in wrong.items():
        failures.expect(not ids, f"{what} of {len(rles)} masks" + (f"; others: annotations {ids[:5]}" if ids else ""))
    wrong = {"union": [], "intersection": [], "iou": [], "crowd_iou": []}
    for pair in answer["pairs"]:
        both = [plain[i] for i in pair["ids"]]
        for what, intersect in (("union", False), ("intersection", True)):
            merged = masks.decode(masks.merge(both, intersect=intersect))
            if masks.encode(merged)["counts"] != pair[what].encode():
                wrong[what].append(pair["ids"])
        for what, crowd in (("iou", 0), ("crowd_iou", 1)):
            if masks.iou([both[0]], [both[1]], [crowd])[0][0] != pair[what]:
                wrong[what].append(pair["ids"])
    for what, ids in wrong.items():
        failures.expect(not ids, f"{what} of {len(answer['pairs'])} pairs" + (f"; others: {ids[:5]}" if ids else ""))


def check_evaluation(program, file, folder, coco, results, failures, title):
    from pycocotools.cocoeval import COCOeval
    for shape, kind in (("box", "bbox"), ("mask", "segm")):
        # With both in one file, pycocotools would take the area of a box where masks are compared.
        keep = "bbox" if shape == "box" else "segmentation"
        given = [{k: v for k, v in r.items() if k in ("image_id", "category_id", "score", keep)} for r in results]
        path = folder / f"{shape}.json"
        path.write_text(json.dumps(given))
        ours = ask(program, "evaluate", file, path, shape)
        evaluation = COCOeval(coco, quietly(coco.loadRes, str(path)), kind)
        for step in (evaluation.evaluate, evaluation.accumulate, evaluation.summarize):
            quietly(step)
        theirs = dict(zip(("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100",
                           "ar_small", "ar_medium", "ar_large"), evaluation.stats))
        apart = max(abs(ours[name] - theirs[name]) for name in theirs)
        numbers = " ".join(f"{v:.4f}" for v in theirs.values())
        failures.expect(apart <= SAME, f"{title}, {shape}: differs by {apart:.1e} at most; {numbers}")


def check_coco(program, seeds, failures):
    import numpy
    from pycocotools.coco import COCO
    for seed in range(seeds):
        rng = numpy.random.default_rng(seed)
        made = made_annotations.annotations(rng)
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            file = folder / "instances.json"
            file.write_text(json.dumps(made))
            coco = quietly(COCO, str(file))
            if seed == 0:
                check_masks(program, file, coco, failures)
            results = made_annotations.results(rng, made, coco.annToMask)
            check_evaluation(program, file, folder, coco, results, failures,
                             f"seed {seed}: {len(made['annotations'])} objects, {len(results)} detections")


class Kernels:
    """Asks for many computations at once, and then compares each with torchvision's."""

    def __init__(self):
        self.requests, self.checks = [], []

    @staticmethod
    def packed(tensor):
        return {"sizes": list(tensor.shape), "type": str(tensor.dtype).removeprefix("torch."),
                "values": tensor.detach().flatten().tolist()}

    def add(self, title, name, inputs, value, gradient=None, learned=(), **options):
        """value: what torchvision gives for the inputs; gradient: of what it gives, for those of the inputs that are
        learned."""
        request = {"do": name, "inputs": [self.packed(x) for x in inputs], **options}
        gradients = []
        if gradient is not None:
            import torch
            request |= {"gradient": self.packed(gradient), "learned": list(learned)}
            gradients = torch.autograd.grad(value, [inputs[i] for i in learned], gradient)
        self.requests.append(request)
        self.checks.append((title, [value.detach(), *gradients]))

    def compare(self, program, failures):
        import torch
        answers = ask(program, "compute", given=json.dumps(self.requests))
        for (title, expected), answer in zip(self.checks, answers):
            found = [torch.tensor(x["values"]).reshape(x["sizes"]) if not x["values"] or isinstance(x["values"][0], int)
                     else torch.tensor(x["values"], dtype=torch.float64).reshape(x["sizes"])
                     for x in [answer["value"], *answer.get("gradients", [])]]
            if any(f.shape != e.shape for f, e in zip(found, expected)):
                failures.expect(False, f"{title}: {[list(f.shape) for f in found]}, not "
                                       f"{[list(e.shape) for e in expected]}")
                continue
            if not expected[0].is_floating_point():
                failures.expect(torch.equal(found[0], expected[0]), f"{title}: {expected[0].numel()} numbers")
                continue
            # Of the largest value: sums of a few hundred products in another order.
            limit = 1e-12 if expected[0].dtype == torch.float64 else 1e-5
            apart = max(((f - e.double()).abs().max() / e.abs().max().clamp_min(1e-30)).item()
                        for f, e in zip(found, expected))
            what = f"{expected[0].numel()} values" + (", gradients" if len(expected) > 1 else "")
            failures.expect(apart <= limit, f"{title}: {what} differ by {apart:.1e} of the largest at most")


def check_kernels(program, failures):
    import torch
    import torchvision
    from torchvision.models.detection import _utils, anchor_utils
    from torchvision.ops import boxes as tv_boxes
    from torchvision.ops import poolers
    kernels, generator = Kernels(), torch.Generator().manual_seed(0)

    def uniform(*sizes, low=0.0, high=1.0, dtype=torch.float64):
        return (torch.rand(*sizes, generator=generator, dtype=torch.float64) * (high - low) + low).to(dtype)

    def boxes(count, side=200.0, largest=80.0, dtype=torch.float64, smallest=1.0):
        corner = uniform(count, 2, high=side)
        return torch.cat([corner, corner + uniform(count, 2, low=smallest, high=largest)], 1).to(dtype)

    deviation = [0.1, 0.1, 0.2, 0.2]
    coder = _utils.BoxCoder([1 / d for d in deviation])
    coding = {"mean": [0, 0, 0, 0], "deviation": deviation}
    a, b = boxes(200), boxes(200)
    kernels.add("encoding boxes", "encode", [a, b], coder.encode_single(b, a), **coding)
    # Some ratios lie beyond the upper limit; torchvision has no lower one.
    for classes in (1, 3):
        deltas = uniform(200, 4 * classes, low=-4, high=4)
        deltas.view(-1, 4)[::10, 2:] = 30
        deltas.requires_grad_()
        decoded = coder.decode_single(deltas, a).reshape(200, 4 * classes)
        kernels.add(f"decoding boxes of {classes} classes", "decode", [a, deltas], decoded,
                    uniform(*decoded.shape), [1], **coding)
        if classes == 1:
            clipped = tv_boxes.clip_boxes_to_image(coder.decode_single(deltas, a), (180, 240))
            kernels.add("decoding within an image", "decode", [a, deltas], clipped, image=[180, 240], **coding)

    for title, name, function, pairs in (
            ("IoU of pairs", "pairwise_iou", tv_boxes.box_iou, True),
            ("generalised IoU of pairs", "pairwise_giou", tv_boxes.generalized_box_iou, True),
            ("IoU side by side", "aligned_iou", lambda x, y: tv_boxes.box_iou(x, y).diagonal(), False),
            ("generalised IoU side by side", "aligned_giou",
             lambda x, y: 1 - torchvision.ops.generalized_box_iou_loss(x, y, eps=0), False)):
        a, b = boxes(60).requires_grad_(), boxes(60 if not pairs else 40).requires_grad_()
        value = function(a, b)
        kernels.add(title, name, [a, b], value, uniform(*value.shape), [0, 1])

    for dtype in (torch.float32, torch.float64):
        for count, threshold in ((0, 0.5), (1, 0.5), (300, 0.3), (2500, 0.7)):
            a = boxes(count, dtype=dtype)
            scores = (uniform(count) * 100).round() / 100  # many are equal
            scores = scores.to(dtype)
            classes = torch.randint(0, 5, (count,), generator=generator)
            kernels.add(f"suppression of {count} boxes, {dtype}", "nms", [a, scores],
                        torchvision.ops.nms(a, scores, threshold), threshold=threshold)
            # Its own order of equal scores differs from call to call between classes; ours is that of the boxes.
            kept = tv_boxes._batched_nms_vanilla(a, scores, classes, threshold).sort()[0] if count else classes
            kept = kept[scores[kept].sort(descending=True, stable=True)[1]]
            kernels.add(f"suppression of {count} boxes by class, {dtype}", "nms_by_class", [a, scores, classes], kept,
                        threshold=threshold)

    # torchvision rounds the anchors around a place; mmdetection does not, and neither do we.
    for stride, height, width in ((4, 9, 7), (8, 5, 6), (16, 3, 4), (32, 2, 3), (64, 1, 2)):
        maker = anchor_utils.AnchorGenerator(((8 * stride,),), ((0.5, 1.0, 2.0),))
        ratios = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64).sqrt()
        half = torch.stack([-1 / ratios, -ratios, 1 / ratios, ratios], 1) * 8 * stride / 2
        assert torch.equal(half.float().round(), maker.cell_anchors[0])
        maker.cell_anchors = [half.float()]
        grid = maker.grid_anchors([[height, width]], [[torch.tensor(stride), torch.tensor(stride)]])[0]
        kernels.add(f"anchors of stride {stride}", "anchors", [], grid, height=height, width=width, stride=stride)

    a = boxes(2000, largest=900)
    kernels.add("levels of regions", "levels", [a], poolers.LevelMapper(2, 5)([a]), levels=4)

    for dtype in (torch.float32, torch.float64):
        for samples in (0, 2):
            for aligned in (True, False):
                features = uniform(2, 5, 23, 31, low=-1, dtype=dtype).requires_grad_()
                regions = boxes(40, side=120, largest=100, dtype=dtype, smallest=0.0)
                regions[:4] -= 30  # partly outside
                regions[4] = torch.tensor([10, 10, 10, 10])  # empty
                regions = torch.cat([torch.randint(0, 2, (40, 1), generator=generator).to(dtype), regions], 1)
                value = torchvision.ops.roi_align(features, regions, (7, 5), 0.25, samples, aligned)
                kernels.add(f"RoIAlign, {samples or 'adaptive'} points, aligned {aligned}, {dtype}", "roi_align",
                            [features, regions], value, uniform(*value.shape, dtype=dtype), [0], height=7, width=5,
                            scale=0.25, samples=samples, aligned=aligned)
    kernels.compare(program, failures)


def main():
    parser = argparse.ArgumentParser(prog="scripts/check-detection", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", help=argparse.SUPPRESS)
    parser.add_argument("--seeds", type=int, default=5, help="how many made-up data sets are evaluated (5)")
    parser.add_argument("--only", choices=["coco", "kernels"], help="one half of the comparisons")
    options = parser.parse_args()
    failures = Failures()
    if options.only != "kernels":
        check_coco(options.program, options.seeds, failures)
    if options.only != "coco":
        check_kernels(options.program, failures)
    if failures.count:
        sys.exit(f"{failures.count} comparisons failed")


if __name__ == "__main__":
    main()
