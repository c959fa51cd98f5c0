"""What all figures need: the readers of run folders, which are those of the Python package, and the files that pictures
become."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))

from espalier import Wrong, figures, load
from espalier.files import finished_runs, json_of, lines_of, metric_of, on_front, summary_of, tensors_of


def save(figure, out, name):
    out.mkdir(parents=True, exist_ok=True)
    for form in ("svg", "png"):
        figure.savefig(out / f"{name}.{form}", bbox_inches="tight", dpi=150)
    print(out / f"{name}.svg")
