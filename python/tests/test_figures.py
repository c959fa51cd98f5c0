import json
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
from conftest import EPOCHS

import espalier

SCRIPT = Path(__file__).parents[2] / "scripts" / "lib" / "figures.py"


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def points_of(line):
    return list(zip(*(values.tolist() for values in line.get_data())))


def summary(accuracy, params, **more):
    return {"name": "made", "status": "finished", "metrics": {"accuracy": accuracy},
            "metric": {"name": "accuracy", "unit": "%", "larger_is_better": True, "best": accuracy + 1},
            "base": {"params": 10, "macs": 10}, "final": {"params": params, "macs": params}, "train_cost": 1,
            "seconds": 1} | more


def made_run(folder, of):
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text("{}")
    (folder / "summary.json").write_text(json.dumps(of))
    return espalier.load(folder)


def test_curves_show_each_run(run, sweep):
    figure = espalier.figures.curves(run, *sweep.runs)
    losses, accuracies = figure.axes
    assert len(losses.lines) == len(accuracies.lines) == 3
    assert points_of(accuracies.lines[0]) == list(zip(range(1, EPOCHS + 1), run.metrics["test_accuracy"]))
    assert points_of(losses.lines[2]) == list(zip(range(1, EPOCHS + 1), sweep.runs[1].metrics["loss"]))
    assert accuracies.get_ylabel() == "test accuracy, %"
    assert [t.get_text() for t in accuracies.get_legend().get_texts()] == ["tiny-seed0", "seed=3", "seed=4"]


def test_curves_refuse_a_metric_that_is_not_there(run):
    with pytest.raises(espalier.Wrong, match="no metric 'r2' on the test part; it has .*accuracy"):
        espalier.figures.curves(run, metric="r2")


def test_growth_draws_widths_as_steps_to_the_end(run):
    widths = espalier.figures.growth(run).axes[0]
    fc1 = next(line for line in widths.lines if points_of(line)[0] == (0, 500))
    small = run.summary["final"]["params"]
    assert len(run.history) == 1
    assert [x for x, _ in points_of(fc1)] == [0, 3, EPOCHS]
    assert fc1.get_drawstyle() == "steps-post"
    assert points_of(fc1)[1][1] == points_of(fc1)[2][1] == run.tensors()["fc1.bias"].size < 500 < small


def test_growth_draws_sizes_when_they_change(run):
    *_, params, macs = espalier.figures.growth(run).axes
    base, final = run.summary["base"], run.summary["final"]
    for panel, size in ((params, "params"), (macs, "macs")):
        before, after = base[size] / 1e6, final[size] / 1e6
        assert points_of(panel.lines[0]) == [(0, before), (3, after), (EPOCHS, after)]


def test_figures_of_runs_refuse_a_sweep(sweep):
    for draw in (espalier.figures.growth, espalier.figures.curves):
        with pytest.raises(espalier.Wrong, match="seeds: this figure is of runs; give .* the `runs` of a sweep"):
            draw(sweep)


def test_growth_refuses_a_run_without_edits(made, tmp_path):
    for name in ("recipe.yaml", "metrics.jsonl"):
        (tmp_path / name).write_bytes((made / name).read_bytes())
    with pytest.raises(espalier.Wrong, match="no edit has changed a width of this run"):
        espalier.figures.growth(espalier.load(tmp_path))


def test_front_of_runs_is_a_line_by_size(tmp_path):
    runs = [made_run(tmp_path / str(i), summary(*of)) for i, of in enumerate([(90, 3e6), (80, 1e6), (70, 2e6)])]
    panel, = espalier.figures.front({"some": runs}).axes
    assert points_of(panel.lines[0]) == [(1, 81), (2, 71), (3, 91)]  # their best epochs
    panel, = espalier.figures.front({"some": runs}, against=lambda run: 7.0, metric="accuracy").axes
    assert points_of(panel.lines[0]) == [(7, 70), (7, 80), (7, 90)]


def test_front_of_a_sweep_leaves_out_what_another_run_beats(tmp_path):
    entries = []
    for i, of in enumerate([(90, 3e6), (80, 1e6), (70, 2e6), (60, 1e6), (None, 5e5)]):
        made_run(tmp_path / str(i), summary(of[0] or 0, of[1], metrics={"accuracy": of[0]}))
        entries.append({"folder": str(i), "values": {}, "status": "finished"})
    (tmp_path / "sweep.json").write_text(json.dumps({"runs": entries}))
    panel, = espalier.figures.front({"all": espalier.load(tmp_path)}, against="macs").axes
    everything, best = panel.lines
    assert sorted(points_of(everything)) == [(1, 60), (1, 80), (2, 70), (3, 90)]  # one is not finite
    assert points_of(best) == [(1, 80), (3, 90)]
    assert panel.get_xlabel() == "multiply-accumulates, millions"


def test_front_refuses_what_cannot_be_compared(tmp_path):
    one = made_run(tmp_path / "one", summary(90, 1e6))
    other = made_run(tmp_path / "other", summary(90, 1e6, metric={"name": "r2"}))
    with pytest.raises(espalier.Wrong, match="the runs of 'both' do not have the same leading metric"):
        espalier.figures.front({"both": [one, other]})
    with pytest.raises(espalier.Wrong, match="no run of 'none' has finished"):
        espalier.figures.front({"none": [made_run(tmp_path / "half", summary(90, 1e6, status="interrupted"))]})


@pytest.mark.parametrize("name, arguments", [("growth", ["RUN"]), ("shrinking", ["RUN"]), ("front", ["SWEEP"]),
                                             ("front", ["a=RUN", "b=SWEEP/*", "--against", "macs"])])
def test_the_script_draws_with_the_same_functions(name, arguments, run, sweep, tmp_path):
    given = [a.replace("RUN", str(run.folder)).replace("SWEEP", str(sweep.folder)) for a in arguments]
    done = subprocess.run([sys.executable, SCRIPT, name, *given, "--out", tmp_path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / f"{name}.svg").read_text().startswith("<?xml")
    assert (tmp_path / f"{name}.png").stat().st_size > 1000
