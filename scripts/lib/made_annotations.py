"""Made-up files of COCO's formats, with everything that real ones have and most tests forget.

The annotations have crowds as runs, objects of several polygons, polygons that leave the image, cross themselves or
repeat a corner, ids of categories with gaps, images without an annotation, boxes of zero size, and areas on either side
of COCO's limits. The results have equal scores, categories without an object, and images with more than 100 detections.
"""
import math

# Of the eighty categories of COCO, whose ids have gaps; the last two occur in no annotation.
CATEGORIES = [1, 2, 3, 7, 11, 13, 25, 44, 90]


def runs_of(mask):
    """The lengths of runs, column by column, of a mask [height, width]."""
    import numpy as np
    flat = np.concatenate([[0], mask.flatten(order="F").astype(np.int8)])
    changes = np.flatnonzero(np.diff(flat))
    return np.diff(np.concatenate([[0], changes, [mask.size]])).tolist()


def polygon(rng, width, height):
    """A closed outline around a point of the image, with coordinates of two decimals as in COCO."""
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    radius = math.exp(rng.uniform(math.log(1.5), math.log(0.4 * max(width, height))))
    corners = rng.integers(3, 40)
    angles = rng.uniform(0, 2 * math.pi, corners)
    if rng.random() < 0.8:
        angles.sort()  # else it crosses itself
    radii = radius * rng.uniform(0.4, 1, corners)
    points = [c for a, r in zip(angles, radii) for c in (x + r * math.cos(a), y + r * math.sin(a))]
    if rng.random() < 0.1:
        points += points[:2]  # a corner twice
    if rng.random() < 0.8:  # as annotators leave it, within the image
        points = [min(max(c, 0), (width, height)[i % 2]) for i, c in enumerate(points)]
    if rng.random() < 0.2:
        points = [float(round(c)) for c in points]
    return [round(float(c), 2) for c in points]


def box_around(parts):
    xs, ys = [c for p in parts for c in p[::2]], [c for p in parts for c in p[1::2]]
    return [round(min(xs), 2), round(min(ys), 2), round(max(xs) - min(xs), 2), round(max(ys) - min(ys), 2)]


def annotations(rng, images=60):
    """A file of instances, as a dictionary."""
    import numpy as np
    from pycocotools import mask as masks
    ids = rng.permutation(np.arange(1, 20 * images))[:images]
    made = {"info": {"year": 2017, "contributors": [{"name": "nobody"}]}, "licenses": [{"id": 1, "name": "none"}],
            "images": [{"id": int(i), "file_name": f"{i:012}.jpg", "height": int(rng.integers(60, 480)),
                        "width": int(rng.integers(60, 640)), "license": 1} for i in ids],
            "annotations": [],
            "categories": [{"id": c, "name": f"category {c}", "supercategory": "thing"} for c in CATEGORIES]}
    number = 0
    for image in made["images"]:
        if rng.random() < 0.15:
            continue  # an image without annotations
        height, width = image["height"], image["width"]
        for _ in range(int(rng.integers(1, 18))):
            number += int(rng.integers(1, 9))
            entry = {"id": number, "image_id": image["id"], "category_id": int(rng.choice(CATEGORIES[:-2])),
                     "iscrowd": 0}
            kind = rng.random()
            if kind < 0.12:  # a crowd, or an object as runs
                mask = np.zeros((height, width), np.uint8)
                for _ in range(int(rng.integers(1, 5))):
                    x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
                    mask[y:y + int(rng.integers(1, height)), x:x + int(rng.integers(1, width))] = 1
                mask[rng.random((height, width)) < 0.01] ^= 1
                entry["iscrowd"] = int(rng.random() < 0.8)
                counts = runs_of(mask)
                if rng.random() < 0.4:  # compressed
                    counts = masks.encode(np.asfortranarray(mask))["counts"].decode()
                entry["segmentation"] = {"size": [height, width], "counts": counts}
                ys, xs = np.nonzero(mask)
                entry["bbox"] = [float(xs.min()), float(ys.min()), float(np.ptp(xs) + 1), float(np.ptp(ys) + 1)]
                entry["area"] = int(mask.sum())
            else:
                parts = [polygon(rng, width, height) for _ in range(1 if rng.random() < 0.7 else rng.integers(2, 5))]
                if kind > 0.95:  # a box of zero size, of a line
                    x, y = float(rng.integers(0, width)), float(rng.integers(0, height))
                    parts = [[x, y, x, y + 5, x, y + 2]]
                entry["segmentation"] = parts
                entry["bbox"] = box_around(parts)
                entry["area"] = round(float(np.prod(entry["bbox"][2:])) * rng.uniform(0.3, 1), 4)
                if rng.random() < 0.1:
                    entry["area"] = float(rng.choice([32**2, 96**2, 0]))  # on a limit
            made["annotations"].append(entry)
    order = rng.permutation(len(made["annotations"]))
    made["annotations"] = [made["annotations"][i] for i in order]
    return made


def results(rng, made, mask_of):
    """Detections as files of results have them; mask_of(annotation) gives bytes [height, width]."""
    import numpy as np
    from pycocotools import mask as masks
    found = []
    sizes = {i["id"]: (i["height"], i["width"]) for i in made["images"]}

    def add(image, category, box, mask, score):
        rle = masks.encode(np.asfortranarray(mask))
        found.append({"image_id": image, "category_id": int(category), "bbox": [round(float(v), 3) for v in box],
                      "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                      "score": round(float(score), 2)})  # many are equal

    def random_detection(image, category):
        height, width = sizes[image]
        x, y, w, h = (rng.random(4) * [width, height, width / 2, height / 2])
        mask = np.zeros((height, width), np.uint8)
        mask[int(y):int(y + h) + 1, int(x):int(x + w) + 1] = 1
        add(image, category, [x, y, w, h], mask, rng.random() * 0.7)

    for annotation in made["annotations"]:
        mask, (x, y, w, h) = mask_of(annotation), annotation["bbox"]
        for _ in range(int(rng.choice([0, 1, 1, 1, 2, 4]))):
            scale = rng.choice([0, 0.02, 0.1, 0.3])
            dx, dy, dw, dh = rng.normal(0, scale, 4) * [w, h, w, h]
            moved = np.roll(mask, (round(float(dy)), round(float(dx))), (0, 1))
            category = annotation["category_id"] if rng.random() < 0.9 else rng.choice(CATEGORIES)
            add(annotation["image_id"], category, [x + dx, y + dy, max(w + dw, 0), max(h + dh, 0)], moved,
                rng.beta(5, 2))
    for image in list(sizes)[:: 3]:
        for _ in range(8):
            random_detection(image, rng.choice(CATEGORIES))
    for image in list(sizes)[:3]:  # more than 100 on an image, also in one category
        for _ in range(130):
            random_detection(image, CATEGORIES[0])
        for _ in range(60):
            random_detection(image, rng.choice(CATEGORIES))
    return [found[i] for i in rng.permutation(len(found))]
