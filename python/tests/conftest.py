"""What the program makes for the tests: a run whose network shrinks, a sweep of two seeds, and a reproduction."""
import os
import subprocess
from pathlib import Path

import matplotlib
import pytest

import espalier

matplotlib.use("agg")

# When the first stage ends, filters and units with a norm up to tau are removed.
RECIPE = """
espalier: 1
name: tiny
threads: 1
data: {use: synthetic, size: 16, channels: 1, count: 512, batch: 32}
network: {use: lenet5}
stages:
  - name: shrink
    epochs: 3
    optimizer: {use: sgd, lr: 0.05, momentum: 0.9}
    regularizers: [{use: kernel_number, weight: 0.02}]
    controller: {use: threshold, tau: 0.25}
  - name: finetune
    epochs: 1
    optimizer: {use: sgd, lr: 1e-5, momentum: 0.9}
"""
EPOCHS, STEPS_OF_EPOCH = 4, 512 // 32


def program(*arguments):
    command = [os.environ["ESPALIER_PROGRAM"], *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"ESPALIER_STORE": "none"})
    assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def made(folder):
    """The folder of the run. Tests that change a file take a copy."""
    (folder / "tiny.yaml").write_text(RECIPE)
    program("run", folder / "tiny.yaml", "--out", folder / "tiny-seed0")
    return folder / "tiny-seed0"


@pytest.fixture
def run(made):
    return espalier.load(made)


@pytest.fixture(scope="session")
def reproduction(folder):
    """The folder of a reproduction of a recipe with a matrix of two seeds. Its sweep is `seeds` beside it."""
    recipe = RECIPE.replace("name: tiny", "name: seeds") + "matrix: {seed: [3, 4]}\n"
    (folder / "seeds.yaml").write_text(recipe)
    program("reproduce", folder / "seeds.yaml", "--out", folder / "all")
    return next((folder / "all").glob("reproduce*"))


@pytest.fixture
def sweep(reproduction):
    return espalier.load(reproduction.parent / "seeds")


@pytest.fixture
def written(tmp_path):
    """Writes files into a new folder, which it returns: written({"metrics.jsonl": "..."})."""
    def write(files):
        for name, text in files.items():
            Path(tmp_path / name).write_text(text)
        return tmp_path
    return write
