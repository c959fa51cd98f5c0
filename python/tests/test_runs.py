import importlib.metadata
import importlib.util
import json
import re
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import EPOCHS, STEPS_OF_EPOCH, program

import espalier

CLASSES = 4


def parameters_of_lenet5(conv1, conv2, fc1):
    """By hand, for images of 16 x 16: kernels of 5 x 5, and a single pixel is left in front of fc1."""
    return 26 * conv1 + (25 * conv1 + 1) * conv2 + (conv2 + 1) * fc1 + (fc1 + 1) * CLASSES


def test_the_package_has_the_version_of_the_project():
    project = (Path(__file__).parents[2] / "CMakeLists.txt").read_text()
    assert importlib.metadata.version("espalier") == re.search(r"VERSION (\d+\.\d+\.\d+)", project)[1]


def test_metrics_have_a_row_for_each_epoch(run):
    assert list(run.metrics.index) == list(range(1, EPOCHS + 1))
    assert list(run.metrics["stage"]) == ["shrink"] * 3 + ["finetune"]
    assert list(run.metrics["step"]) == [STEPS_OF_EPOCH * n for n in range(1, EPOCHS + 1)]
    assert run.metrics["test_accuracy"].iloc[-1] == run.summary["metrics"]["accuracy"]
    assert run.metrics["params"].iloc[-1] == run.summary["final"]["params"]


def test_history_tells_what_an_edit_changed(run):
    first = run.history.iloc[0]
    assert first["stage"] == "shrink"
    assert first["run_epoch"] == 3  # `threshold` removes when its stage ends
    assert first["params_before"] == parameters_of_lenet5(20, 50, 500) == run.summary["base"]["params"]
    assert run.history["params"].iloc[-1] == run.summary["final"]["params"] < first["params_before"]
    assert run.history["macs"].iloc[-1] == run.summary["final"]["macs"]
    assert (run.history["removal_difference"] <= run.history["tolerance"]).all()
    assert "shrink" in first["edit"] and "500 → " in " ".join(run.history["edit"])


def test_widths_give_the_parameters(run):
    assert list(run.widths.iloc[0]) == [20, 50, 500]
    assert parameters_of_lenet5(*run.widths.iloc[-1]) == run.summary["final"]["params"]


def test_times_of_edits_count_epochs_of_the_run(written):
    def edit(stage, epoch, step, before, after):
        return json.dumps({"stage": stage, "epoch": epoch, "step": step, "edits": [{"edit": "grow", "axis": "a"}],
                           "axes": [{"name": "a", "before": before, "after": after}],
                           "before": {"params": before, "macs": 0}, "after": {"params": after, "macs": 0},
                           "difference": 0.5})
    folder = written({
        "recipe.yaml": "stages: [{name: one}, {name: none}, {name: two}]",
        # Ten steps in each epoch of the first stage, twenty in that of the third; the second has no epoch.
        "metrics.jsonl": "".join(json.dumps({"stage": stage, "epoch": epoch, "step": step, "width.b": 7.0,
                                             "width.c": float(step)}) + "\n" for
                                 stage, epoch, step in (("one", 1, 10), ("one", 2, 20), ("two", 1, 40))),
        "history.jsonl": "\n".join([edit("one", 0, 0, 1, 2), edit("one", 1, 5, 2, 3), edit("one", 2, 0, 3, 4),
                                    edit("none", 0, 0, 4, 5), edit("two", 0, 15, 5, 6)]) + "\n"})
    run = espalier.load(folder)
    assert list(run.history["run_epoch"]) == [0, 1.5, 2, 2, 2.75]
    assert list(run.widths["a"]) == [1, 2, 3, 4, 5, 6]
    assert list(run.widths["b"]) == [7] * 6  # watched, and never changed; c has another name in the history
    assert list(run.widths) == ["a", "b"]
    assert run.history["edit"][1] == "grow a 2 → 3"
    assert run.history["removal_difference"].isna().all()


def test_tensors_are_the_parameters(run):
    tensors = run.tensors()
    assert sum(array.size for array in tensors.values()) == run.summary["final"]["params"]
    assert tensors["conv1.weight"].shape == (run.widths.iloc[-1, 0], 1, 5, 5)


def test_network_computes_what_the_program_exports(run, tmp_path):
    network = run.network()
    assert sum(p.numel() for p in network.parameters()) == run.summary["final"]["params"]
    program("export", run.folder, "--to", "onnx", "--out", tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    images = np.random.default_rng(1).standard_normal((8, 1, 16, 16), dtype=np.float32)
    expected, = session.run(None, {session.get_inputs()[0].name: images})
    with torch.inference_mode():
        logits = network(torch.from_numpy(images)).numpy()
    assert np.abs(logits - expected).max() <= 1e-4 * np.abs(expected).max()
    assert expected.std() > 0.01
    assert list(run.model_py.CLASS_NAMES) == ["disc", "square", "triangle", "cross"]


def test_recipe_has_all_defaults_as_numbers(run):
    assert run.recipe["name"] == "tiny"
    assert run.recipe["stages"][1]["optimizers"][0]["lr"] == 1e-5
    assert run.recipe["data"]["count"] == 512


def test_yaml_is_read_as_the_program_reads_it(written):
    folder = written({"recipe.yaml": "{a: 1e-05, b: on, c: 2001-01-01, d: null, e: true, f: -3, g: .5, h: '1', i: ~}"})
    assert espalier.load(folder).recipe == {"a": 1e-5, "b": "on", "c": "2001-01-01", "d": None, "e": True, "f": -3,
                                            "g": 0.5, "h": "1", "i": None}


def test_summary_status_and_environment(run):
    assert run.status == run.summary["status"] == "finished"
    assert run.results["accuracy"] == run.summary["metrics"]["accuracy"]
    assert run.results["base_macs"] == run.summary["base"]["macs"]
    assert run.environment["device"] == "cpu"
    assert run.graph["nodes"]
    assert run.records == {}


def test_records_are_arrays_by_file(made, tmp_path):
    records = tmp_path / "run" / "records"
    shutil.copytree(made, tmp_path / "run")
    records.mkdir(exist_ok=True)
    shutil.copy(made / "model.safetensors", records / "round-1.safetensors")
    found = espalier.load(tmp_path / "run").records
    assert list(found) == ["round-1"]
    assert found["round-1"]["conv1.bias"].ndim == 1


def test_types_of_tensors(tmp_path):
    # 1.5 as bfloat16 is the upper half of its float32; and a float64.
    data = np.array([1.5], np.float32).tobytes()[2:] + np.array([0.1]).tobytes()
    header = json.dumps({"a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]},
                         "b": {"dtype": "F64", "shape": [], "data_offsets": [2, 10]}}).encode()
    (tmp_path / "recipe.yaml").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data)
    tensors = espalier.load(tmp_path).tensors()
    assert tensors["a"] == np.float32(1.5) and tensors["b"] == 0.1
    (tmp_path / "model.safetensors").write_bytes(header[:5])
    with pytest.raises(espalier.Wrong, match="model.safetensors: no safetensors file, or a damaged one"):
        espalier.load(tmp_path).tensors()


def test_sweep_has_values_and_results(sweep):
    assert list(sweep.table.index) == ["seed=3", "seed=4"]
    assert list(sweep.table["seed"]) == [3, 4]
    assert list(sweep.table["status"]) == ["finished"] * 2
    assert [run.values for run in sweep.runs] == [{"seed": 3}, {"seed": 4}]
    for run in sweep.runs:
        assert sweep.table.loc[run.name, "accuracy"] == run.summary["metrics"]["accuracy"]
        assert sweep.table.loc[run.name, "params"] == run.summary["final"]["params"]
        assert run.recipe["seed"] == run.values["seed"]


def test_runs_of_a_sweep_that_have_not_begun_are_in_the_table_alone(written):
    folder = written({"sweep.json": json.dumps({"runs": [{"folder": "a=1", "values": {"a": 1}, "status": "waiting"}]})})
    sweep = espalier.load(folder)
    assert sweep.runs == []
    assert sweep.table.loc["a=1"].to_dict() == {"status": "waiting", "a": 1}


def test_reproduction_finds_the_runs_beside_it(reproduction, tmp_path):
    made = espalier.load(reproduction)
    assert type(made) is espalier.Reproduction
    assert list(made.table.index) == ["seeds/seed=3", "seeds/seed=4"]
    assert [len(run.metrics) for run in made.runs] == [EPOCHS] * 2
    # Also where the folder has moved.
    shutil.copytree(reproduction.parent, tmp_path / "moved")
    moved = espalier.load(tmp_path / "moved" / reproduction.name)
    assert [run.folder.parent for run in moved.runs] == [tmp_path / "moved" / "seeds"] * 2


def test_a_line_that_is_being_written_is_left_out(made, tmp_path):
    for name in ("recipe.yaml", "metrics.jsonl"):
        shutil.copy(made / name, tmp_path)
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(b'{"stage": "finetune", "note": "\xc3')
    run = espalier.load(tmp_path)
    assert len(run.metrics) == EPOCHS
    assert run.status == "not finished"
    assert run.results == {}
    assert list(run.history.columns[:5]) == ["stage", "epoch", "step", "run_epoch", "edit"] and run.history.empty


def test_a_damaged_line_is_named(written):
    folder = written({"recipe.yaml": "{}", "metrics.jsonl": '{"step": 1}\n{"st\n{"step": 3}\n'})
    with pytest.raises(espalier.Wrong, match=r"metrics.jsonl:2: not a line of JSON"):
        espalier.load(folder).metrics


def test_paths_that_are_no_run_say_what_to_give(made, tmp_path):
    with pytest.raises(espalier.Wrong, match="nowhere: there is no such folder; give the folder of a run"):
        espalier.load(tmp_path / "nowhere")
    with pytest.raises(espalier.Wrong, match="summary.json: this is a file; give the folder of a run"):
        espalier.load(made / "summary.json")
    with pytest.raises(espalier.Wrong, match="it holds no run .*give the folder of a run.*reproduction$"):
        espalier.load(tmp_path)
    with pytest.raises(espalier.Wrong, match="it holds no run .*such as .*tiny-seed0$"):
        espalier.load(made.parent)


def test_a_run_that_has_just_begun_says_what_is_missing(written):
    run = espalier.load(written({"recipe.yaml": "{name: new}"}))
    with pytest.raises(espalier.Wrong, match="has not finished an epoch yet"):
        run.metrics
    for ask in (lambda: run.summary, lambda: run.graph, run.tensors):
        with pytest.raises(espalier.Wrong, match="a run writes it at its end.* not finished.*espalier resume"):
            ask()


def test_a_network_that_cannot_be_had_says_why(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "run")
    (tmp_path / "run" / "model.py").unlink()
    with pytest.raises(espalier.Wrong, match="model.py: .* no Python form; `espalier export .* --to python` names it"):
        espalier.load(tmp_path / "run").network()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(espalier.Wrong, match="PyTorch, which is not installed: pip install torch"):
        espalier.load(made).network()
