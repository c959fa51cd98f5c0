#!/usr/bin/env python3
"""Writes small files of every kind that Espalier reads, a folder for each fuzz target.

Needs PyTorch and the program.
"""
import argparse
import gzip
import io
import json
import os
import shutil
import struct
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path

import numpy
import torch
from torch import nn

RECIPE = """espalier: 1
name: small
seed: 3
data: {use: synthetic, size: 8, classes: 3, count: 40, batch: 20}
network: {use: lenet5, conv1: 4, conv2: 3, hidden: 5}
scales: {smoke: {data.count: 20, stages.learn.epochs: 1}}
stages:
  - name: learn
    epochs: 2
    optimizer: {use: sgd, lr: 0.01, momentum: 0.9}
    regularizers: [{use: group_lasso, weight: 0.01}]
    controller: {use: l1_prune, ratio: 0.5, on: all, when: end}
"""


class Corpora:
    def __init__(self, out):
        self.out = out

    def add(self, target, name, content):
        folder = self.out / target
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def from_a_run(corpora, program):
    """What a run leaves: its graph, its history, its checkpoints, its values."""
    with tempfile.TemporaryDirectory() as folder:
        recipe, run = Path(folder) / "r.yaml", Path(folder) / "run"
        recipe.write_text(RECIPE.replace("size: 8", "size: 16"))
        subprocess.run([program, "run", "-q", recipe, "--out", run], check=True,
                       env=os.environ | {"ASAN_OPTIONS": "detect_leaks=0"})
        corpora.add("recipe", "resolved", (run / "recipe.yaml").read_bytes())
        corpora.add("graph", "graph", json.dumps(json.loads((run / "graph.json").read_text())))
        corpora.add("history", "history", (run / "history.jsonl").read_bytes())
        for name in ("last", "previous"):
            corpora.add("checkpoint", name, (run / "checkpoints" / f"{name}.safetensors").read_bytes())


def safetensors(corpora):
    def write(name, tensors):
        header, body = {"__metadata__": {"format": "pt"}}, b""
        for key, (kind, shape, data) in tensors.items():
            header[key] = {"dtype": kind, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
            body += data
        text = json.dumps(header).encode()
        corpora.add("safetensors", name, struct.pack("<Q", len(text)) + text + body)

    write("two", {"fc.weight": ("F32", [2, 3], bytes(24)), "fc.bias": ("F16", [2], bytes(4))})
    write("types", {"a": ("F8_E4M3", [3], bytes(3)), "b": ("I8", [2, 0], b""),
                    "c": ("BOOL", [], b"1"), "d": ("F4", [2], b"1")})


def pytorch(corpora):
    flat = torch.arange(20.0)
    tagged = nn.Parameter(torch.ones(2))
    tagged.note = "x"
    forms = {
        "plain": {"fc.weight": torch.ones(2, 3), "fc.bias": torch.zeros(2, dtype=torch.bfloat16)},
        "checkpoint": {"epoch": 3, "lr": 0.1, "seed": 2 ** 70, "state_dict": nn.BatchNorm1d(2).state_dict(),
                       "names": ["a", ("b", 1)]},
        "views": {"a": flat[3:15].reshape(3, 4).t(), "b": flat[3], "c": torch._neg_view(flat[:2]), "d": tagged},
        "others": {"s": torch.eye(2).to_sparse(), "f": torch.ones(2).to(torch.float8_e5m2),
                   "r": torch.eye(2).to_sparse_csr()},
    }
    for name, form in forms.items():
        buffer = io.BytesIO()
        torch.save(form, buffer)
        corpora.add("zip", name, buffer.getvalue())
        with zipfile.ZipFile(buffer) as archive:
            corpora.add("pickle", name, archive.read(next(n for n in archive.namelist() if n.endswith("data.pkl"))))


def datasets(corpora):
    images = struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 3, 3) + bytes(range(18))
    labels = struct.pack(">BBBBI", 0, 0, 8, 1, 4) + bytes(4)
    for name, content in (("images", images), ("labels", labels)):
        corpora.add("idx", name, content)
        corpora.add("idx", name + ".gz", gzip.compress(content, mtime=0))
    records = b"".join(bytes([i]) + bytes(range(12)) for i in range(8))
    corpora.add("cifar", "records", records)
    corpora.add("cifar", "records.gz", gzip.compress(records, mtime=0))
    for mode, name in (("w:gz", "tar.gz"), ("w", "tar")):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=mode) as archive:
            for member in ("set/train.bin", "set/test.bin", "set/readme.txt"):
                entry = tarfile.TarInfo(member)
                entry.size = len(records)
                archive.addfile(entry, io.BytesIO(records))
        corpora.add("archive", name, buffer.getvalue())


def tables(corpora):
    corpora.add("csv", "quoted", 'name,n,"k"\n"a, b",1,x\r\n"say ""no""",2.5e3,\n"two\nlines",-3,NA\n')
    corpora.add("csv", "semicolons", "\ufeffa;b\n1;2\n\n3;?\n")
    corpora.add("csv", "tabs.gz", gzip.compress(b"a\tb\n1\t2\n", mtime=0))
    head = "% c\n@relation 'r: -C 1'\n@attribute k {no, 'a b'}\n@attribute \"x y\" real\n@attribute s string\n@data\n"
    corpora.add("arff", "dense", head + "no, 1.5, 'it\\'s'\n?, ?, t\n'a b',-2,u\n")
    corpora.add("arff", "sparse", head + "{0 'a b', 2 t}\n{}\n{1 3}\n")
    corpora.add("libsvm", "classes", "+1 1:0.5 3:-2 # c\n-1 2:1e1\n")
    corpora.add("libsvm", "labels", "1,3 1:1\n 2:2\n2\n")
    arrays = {"x": numpy.arange(6.0).reshape(2, 3), "y": numpy.array([0, 1]), "f": numpy.ones((2, 3), "f2", order="F")}
    for name, x in arrays.items():
        for version in ((1, 0), (2, 0), (3, 0)):
            buffer = io.BytesIO()
            numpy.lib.format.write_array(buffer, x, version=version)
            corpora.add("npy", f"{name}{version[0]}", buffer.getvalue())
    for save in (numpy.savez, numpy.savez_compressed):
        buffer = io.BytesIO()
        save(buffer, **arrays)
        corpora.add("npz", save.__name__, buffer.getvalue())


def instances(corpora):
    outline = [1, 1, 1, 6.5, 8.25, 6, 8, 1]
    objects = [{"segmentation": [outline, [3, 3, 5, 3, 4, 7]]},
               {"segmentation": {"size": [8, 12], "counts": [3, 9, 84]}, "iscrowd": 1},
               {"segmentation": {"size": [8, 12], "counts": "3g26"}}, {}]
    corpora.add("instances", "objects.json", json.dumps({
        "images": [{"id": 3, "file_name": "a.jpg", "height": 8, "width": 12}],
        "annotations": [{"id": i, "image_id": 3, "category_id": 5, "bbox": [1, 1, 7, 5], "area": 30.5, **o}
                        for i, o in enumerate(objects)],
        "categories": [{"id": 5, "name": "thing"}]}))


def plugins(corpora, program):
    """The smallest one, without what it says for debuggers."""
    library = min((Path(program).parent.parent / "plugins").glob("*.so"), key=lambda p: p.stat().st_size)
    with tempfile.TemporaryDirectory() as folder:
        small = Path(folder) / "small.so"
        if not shutil.which("strip") or subprocess.run(["strip", "-o", small, library]).returncode:
            small = library
        corpora.add("elf", "plugin", small.read_bytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", required=True)
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    corpora = Corpora(args.out)
    corpora.add("recipe", "small", RECIPE)
    from_a_run(corpora, args.program)
    safetensors(corpora)
    pytorch(corpora)
    datasets(corpora)
    tables(corpora)
    instances(corpora)
    plugins(corpora, args.program)


main()
