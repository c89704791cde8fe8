"""The commands as a person types them: exit codes, one line of text, JSON at the end."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from okdhp_edge.cli.main import app
from okdhp_edge.quantize.search import accuracy_tuner
from tests.conftest import REPOSITORY
from tests.helpers.made_data import coco_file, picture
from tests.helpers.made_detector import constant_detector, yolox_rows
from tests.helpers.made_teacher import dot_teacher, dotted
from tests.helpers.tiny_models import DATA, DETECTOR_DATA, write_tiny_recipe

OPTIONS = {
    "train": {"recipe", "data", "start", "val_data", "out", "resume", "epochs", "seed", "device",
              "precision", "workers"},
    "export": {"checkpoint", "branch", "int8", "data", "calibration", "max_drop", "profile",
               "calibrator", "keep_float", "tune", "qat", "sm", "batch", "simplify", "pytorch",
               "box_padding", "out"},
    "run": {"source", "size", "fps", "policy", "stride", "max_fps", "max_frames", "people",
            "detector", "detect_every", "max_people", "smooth", "threshold", "model", "backend",
            "precision", "threads", "engine", "trust_engine", "save", "json_lines", "coco", "csv",
            "report", "window", "watchdog", "web", "web_token", "retime", "verbose", "write"},
    "report": {"files", "html"},
    "eval": {"data", "model", "backend", "precision", "split", "metric", "flip_test", "detector",
             "predictions", "results", "threads", "record"},
    "bench": {"model", "data", "split", "metric", "runs", "threads", "max_drop", "out"},
    "doctor": set(),
    "demo": {"out", "backend"},
    "batch": {"sources", "out", "model", "backend", "precision", "people", "detector", "smooth",
              "stride", "workers", "threads", "segment_seconds", "cluster", "json_progress"},
    "data": set(),
}  # fmt: skip


@pytest.fixture
def call(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def run(*words: object):
        return CliRunner().invoke(app, [str(w) for w in words])

    return run


@pytest.fixture
def model(quantized, tmp_path):
    """models/tiny in the working directory, with every artifact."""
    shutil.copytree(quantized.parent, tmp_path / "models" / "tiny")
    return tmp_path / "models" / "tiny"


def _json(result):
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.strip().splitlines()[-1])


def _one_line(result, code, *words):
    assert result.exit_code == code, result.output
    errors = [line for line in result.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert "Traceback" not in result.output
    for word in words:
        assert word in errors[0]


_REAL_VERIFY = accuracy_tuner.verify


def _worse_in_int8(folder, runtime, material):
    found = _REAL_VERIFY(folder, runtime, material)
    return found.model_copy(update={"value": material.float_metric - 2.0})


def test_option_names_are_frozen():
    found = {
        name: {p.name for p in command.params if p.name != "help"}
        for name, command in get_command(app).commands.items()
    }
    assert found == OPTIONS


def test_train_export_eval_run_and_bench_one_after_the_other(call, tmp_path):
    recipe = write_tiny_recipe(tmp_path)
    trained = _json(call("train", "--recipe", recipe, "--data", DATA, "--workers", 0))
    assert trained["checkpoint"] == "models/tiny/best.safetensors"
    exported = _json(call("export", "--branch", "best", "--int8", "--max-drop", 100))
    assert len(exported["artifacts"]) == 4
    judged = _json(call("eval", "--data", DATA, "--record", "r.json", "--backend", "onnxruntime",
                        "--precision", "int8"))  # fmt: skip
    assert judged["precision"] == "int8"
    assert judged["value"] == pytest.approx(
        exported["artifacts"]["models/tiny/int8/onnxruntime"], abs=1e-6
    )
    assert json.loads(Path("r.json").read_text())["results"][0]["value"] == judged["value"]
    ran = _json(call("run", "--source", "synthetic:12", "--save", "o.mp4", "--json", "p.jsonl"))
    assert ran["frames"] == 12
    assert ran["backend"]["backend"] in {"openvino", "onnxruntime"}  # whichever is faster
    assert Path("o.mp4").stat().st_size > 1000
    benched = _json(call("bench", "--data", DATA, "--runs", 10, "--out", "bench"))
    assert len(benched["rows"]) >= 5
    assert {p.name for p in Path("bench").iterdir()} == {"bench.json", "bench.md", "pareto.png"}


def test_run_writes_every_kind_of_output_for_each_of_several_sources(call, model):
    words = ["run", "--source", "synthetic:8", "--source", "synthetic:6", "--threads", 1,
             "--smooth", "--save", "o.mp4", "--json", "p.jsonl", "--coco", "c.json",
             "--csv", "p.csv", "--report", "r.html", "--stride", 2, "--model", model]  # fmt: skip
    ran = _json(call(*words))
    assert [r["frames"] for r in ran["sources"]] == [4, 3]
    kinds = (("o", ".mp4"), ("p", ".jsonl"), ("c", ".json"), ("p", ".csv"))
    names = {f"{stem}-{place}{end}" for place in (0, 1) for stem, end in kinds}
    assert names | {"r.html", "models"} == {p.name for p in Path().iterdir()}
    assert "const DATA" in Path("r.html").read_text()
    # Every second frame of 30 a second: half as many, or it would play too fast.
    assert cv2.VideoCapture("o-0.mp4").get(cv2.CAP_PROP_FPS) == pytest.approx(15, abs=0.1)


def test_reports_are_compared(call, model):
    for name in ("a", "b"):
        _json(call("run", "--source", "synthetic:12", "--threads", 1, "--model", model,
                   "--report", f"{name}.json"))  # fmt: skip
    found = _json(call("report", "a.json", "b.json", "--html", "ab.html"))
    assert found["reports"] == ["a", "b"]
    assert "Side by side" in Path("ab.html").read_text()


def test_run_finds_many_people_and_serves_a_page(call, model):
    detector = constant_detector(Path("d.onnx"), yolox_rows([(32, 32, 20, 30, 0.9, 0)]))
    ran = call("run", "--source", "synthetic:8", "--people", "many", "--detector", detector,
               "--web", "0", "--threads", 1, "--model", model)  # fmt: skip
    assert _json(ran)["frames"] == 8
    assert "watch at http://127.0.0.1:" in ran.stderr


def test_a_crowd_is_cut_to_the_nearest_and_it_is_said(call, model):
    rows = yolox_rows([(12, 20, 10, 20, 0.9, 0), (32, 32, 12, 30, 0.8, 0), (52, 20, 8, 16, 0.9, 0)])
    detector = constant_detector(Path("d.onnx"), rows)
    ran = call("run", "--source", "synthetic:8", "--detector", detector, "--people", "many",
               "--max-people", 2, "--threads", 1, "--model", model)  # fmt: skip
    assert "more than 2 people in a frame: the nearest were estimated" in ran.stderr
    assert "up to 1 left out" in ran.stderr
    report = _json(ran)
    assert report["left_out"] == 1
    assert report["detector"] == "d.onnx"


def test_the_commands_know_a_detector_as_they_know_a_pose_model(call, model, int8_detector):
    detector = int8_detector.parent
    found = _json(call("eval", "--model", detector, "--data", DETECTOR_DATA))
    assert found["metric"] == "box_ap" and found["value"] > 10
    measured = _json(call("bench", "--model", detector, "--data", DETECTOR_DATA, "--runs", 10,
                          "--threads", 1))  # fmt: skip
    assert {row["backend"] for row in measured["rows"]} >= {"onnxruntime", "openvino"}
    _one_line(call("eval", "--model", detector, "--data", DETECTOR_DATA, "--metric", "oks"), 1,
              "box_ap")  # fmt: skip
    _one_line(call("eval", "--model", detector, "--data", DETECTOR_DATA, "--flip-test"), 1,
              "--flip-test averages heatmaps")  # fmt: skip
    _one_line(call("run", "--model", detector, "--source", "synthetic:3"), 1, "not a pose model")
    _one_line(call("run", "--model", model, "--source", "synthetic:3", "--detector", model), 1,
              "not a person detector")  # fmt: skip


def test_ap_of_a_set_with_other_joints_is_that_of_the_joints_they_share(call, model, tmp_path):
    """The model's joints are decoded with its own constants, whatever the set's are."""
    file = tmp_path / "set.json"
    names = ["nose", "neck", "tail"]
    picture(tmp_path / "images" / "a.jpg")
    file.write_text(json.dumps({
        "images": [{"id": 1, "file_name": "images/a.jpg", "width": 120, "height": 90}],
        "categories": [{"id": 1, "name": "person", "keypoints": names, "skeleton": []}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "area": 2400,
                         "bbox": [10, 10, 40, 60], "num_keypoints": 3,
                         "keypoints": [20, 60, 2, 30, 20, 2, 30, 50, 2]}],
    }))  # fmt: skip
    done = call("eval", "--model", model, "--backend", "onnxruntime", "--precision", "fp32",
                "--data", f"coco:{file}@all", "--metric", "ap")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert "the model does not predict nose, tail: counted as missed" in done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["split"] == "all"


def test_a_web_page_without_its_packages_says_what_to_install(call, model, monkeypatch):
    monkeypatch.delitem(sys.modules, "okdhp_edge.run.web.server", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    _one_line(call("run", "--source", "synthetic:5", "--web", "0", "--save", "o.mp4",
                   "--threads", 1, "--model", model), 1, "pip install okdhp-edge[web]")  # fmt: skip
    assert not Path("o.mp4").exists()


def test_a_package_that_is_missing_is_one_line(call, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    Path("joints.mat").write_text("")
    ran = call("eval", "--data", "lspet:.", "--model", model)
    _one_line(ran, 1, "package 'scipy' is not installed", "pip install okdhp-edge[all]")


def test_joints_that_nobody_has_labelled_are_null(call, model):
    coco = json.loads(coco_file(Path()).read_text())
    names = ["left_hip", "right_hip", "nose"]
    coco["categories"][0]["keypoints"] = names
    Path("people.json").write_text(json.dumps(coco))
    found = call("eval", "--data", "coco:people.json", "--split", "all", "--model", model,
                 "--metric", "oks", "--record", "r.json")  # fmt: skip
    joints = _json(found)["per_joint"]
    assert None in joints.values() and any(v is not None for v in joints.values())
    assert "NaN" not in found.stdout + Path("r.json").read_text()


def test_results_of_two_splits_are_two(call, model):
    for split in ("val", "test"):
        call("eval", "--data", DATA, "--split", split, "--model", model, "--record", "r.json")
    results = json.loads(Path("r.json").read_text())["results"]
    assert [result["split"] for result in results] == ["test", "val"]


def test_run_on_tensorrt_without_a_gpu_exits_1_with_the_remedy(call, model):
    _one_line(call("run", "--source", "synthetic:5", "--backend", "tensorrt"), 1, "--backend")


def test_a_webcam_that_is_absent_exits_1_with_the_remedy(call, model):
    if list(Path("/dev").glob("video*")):
        pytest.skip("this machine has a camera")
    _one_line(call("run"), 1, "webcam 0 cannot be opened", "--source")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "--source", "gone.mp4"], "gone.mp4 does not exist"),
        (["run", "--source", "synthetic", "--backend", "tflite"], "unknown backend 'tflite'"),
        (["run", "--source", "synthetic", "--model", "nobody"], "no model 'nobody'"),
        (["run", "--source", "synthetic", "--backend", "onnxruntime", "--precision", "bf16"],
         "does not support bf16"),
        (["run", "--source", "synthetic", "--save", "gone/o.mp4"], "gone does not exist"),
        (["run", "--source", "synthetic", "--window"], "cannot open a window"),
        (["run", "--source", "synthetic", "--report", "r.txt"], "unsupported report format"),
        (["run", "--source", "synthetic", "--size", "big"], "invalid size 'big'"),
        (["run", "--source", "synthetic", "--size", "640x480"], "are requests to a webcam"),
        (["run", "--source", "synthetic", "--fps", "30"], "are requests to a webcam"),
        (["run", "--source", "synthetic", "--web", "here"], "invalid address 'here'"),
        (["run", "--source", "synthetic", "--people", "many"], "needs a person detector"),
        (["run", "--source", "synthetic", "--people", "many", "--detector", "gone.onnx"],
         "gone.onnx does not exist"),
        (["run", "--source", "gst:videotestsrc"], "--source stdin:640x480"),
        (["report", "gone.json"], "gone.json cannot be read"),
        (["eval", "--data", "voc:x"], "unknown data format"),
        (["eval", "--data", DATA, "--metric", "pckh@0.5"], "or another metric"),
        (["eval", "--data", DATA, "--metric", "pcx"], "unknown metric 'pcx'"),
        (["run", "--source", "synthetic", "--engine", "x.engine"], "cannot load engines"),
        (["export", "--branch", "7"], "no branch '7'"),
        (["export", "--qat", "3"], "INT8 options given without --int8"),
        (["export", "--max-drop", "0.5"], "INT8 options given without --int8"),
        (["export", "--no-tune"], "INT8 options given without --int8"),
        (["bench", "--metric", "oks"], "--metric needs a data set"),
        (["run", "--source", "synthetic", "--trust-engine"], "add --engine FILE"),
        (["train", "--recipe", "gone.toml"], "gone.toml does not exist"),
        (["data", "show", "--data", "lspet:gone"], "does not exist"),
    ],
)  # fmt: skip
def test_expected_errors_are_one_line_with_a_remedy(call, model, words, expected, monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    _one_line(call(*words), 1, expected)


def test_a_gate_that_is_not_met_exits_3_and_leaves_the_export(call, model, monkeypatch):
    shutil.rmtree(model / "int8")
    monkeypatch.setattr(accuracy_tuner, "verify", _worse_in_int8)
    _one_line(call("export", "--int8", "--max-drop", 0, "--no-tune"), 3, "points below float")
    assert (model / "fp32" / "card.json").is_file()
    assert not (model / "int8").exists()


@pytest.mark.parametrize("words", [["run", "--sauce", "x"], ["export", "--batch", "many"], ["fly"]])
def test_usage_errors_exit_2(call, words):
    assert call(*words).exit_code == 2


def test_nothing_trained_says_what_to_run(call):
    _one_line(call("export"), 1, "no trained model", "okdhp-edge train")


def test_data_check_lists_and_exits_1_on_what_cannot_be_trained_on(call, tmp_path):
    fine = _json(call("data", "check", "--data", f"coco:{coco_file(tmp_path)}"))
    assert fine["samples"] == 2
    broken = call("data", "check", "--data", f"coco:{coco_file(tmp_path, bbox=[1, 1, -4, 30])}")
    assert broken.exit_code == 1
    assert json.loads(broken.stdout.splitlines()[-1])["fatal"] == 1


def test_data_label_labels_what_a_teacher_sees(call, tmp_path):
    teacher = dot_teacher(tmp_path / "t.onnx")
    (tmp_path / "pictures").mkdir()
    for number, x in enumerate((20, 40)):
        dots = {"nose": (x, 20), "tail": (50, 60), "crest": (60, 30)}
        cv2.imwrite(str(tmp_path / "pictures" / f"{number}.png"), dotted(dots, (96, 96)))
        (tmp_path / "pictures" / f"{number}.txt").write_text("0 0.5 0.5 0.6 0.7\n")
    words = ["data", "label", tmp_path / "pictures", "--teacher", teacher, "--min-joints", 2]
    found = _json(call(*words, "--duplicates", -1, "--out", "l.json", "--sheet", "s.png"))
    assert (found["persons"], found["images"]) == (2, 2)
    assert Path("s.png").stat().st_size > 1000
    assert _json(call("data", "check", "--data", "coco:l.json"))["fatal"] == 0
    for change, says in (
        (["--teacher", tmp_path / "gone.onnx"], "does not exist"),
        (["--teacher", teacher, "--boxes", "gone.json"], "gone.json does not exist"),
        (["--teacher", teacher, "--detector", "gone.onnx", "--boxes", "none"], "gone.onnx"),
        (["--teacher", teacher, "--precision", "fp8"], "fp8"),
    ):
        _one_line(call("data", "label", tmp_path / "pictures", *change), 1, says)


def test_going_on_from_a_model_says_what_is_kept(call, model):
    shutil.copy(model / "fp32" / "card.json", "card.json")  # the working directory is not empty
    tuned = call("train", "--start", model, "--data", DATA, "--workers", 0, "--epochs", 1,
                 "--out", "mine")  # fmt: skip
    assert _json(tuned)["checkpoint"] == "mine/best.safetensors"
    assert "at most" in tuned.stderr and "all 14 joints" in tuned.stderr
    _one_line(call("train", "--start", model), 1, "--start without --recipe needs a data")
    _one_line(call("train", "--start", "nobody", "--data", DATA), 1, "no model 'nobody'")


def test_data_show_writes_a_picture(call):
    record = _json(call("data", "show", "--data", "synthetic:16", "--count", 4, "--out", "c.png"))
    assert record["samples"] == 4
    assert Path("c.png").stat().st_size > 10_000


def test_labels_are_doubted_by_a_model_and_a_recipe_takes_that_up(call, model, tmp_path):
    found = _json(call("data", "relabel", "--data", DATA, "--model", model,
                       "--backend", "onnxruntime", "--out", "c.json"))  # fmt: skip
    assert found["persons"] > 0
    recipe = write_tiny_recipe(tmp_path, 'corrections = "c.json"')
    _json(call("train", "--recipe", recipe, "--data", DATA, "--workers", 0, "--out", "fixed"))
    Path("c.json").write_text("{}")
    _one_line(call("train", "--recipe", recipe, "--data", DATA), 1, "not a corrections file")


def test_doctor_tells_of_every_runtime(call):
    found = {f["what"] for f in _json(call("doctor"))["findings"]}
    assert {"cpu", "openvino", "onnxruntime", "tensorrt", "pytorch", "cameras"} <= found


def test_help_imports_no_runtime():
    code = (
        "import sys\nfrom okdhp_edge.cli.main import app\nfrom typer.main import get_command\n"
        "heavy = {'torch', 'onnx', 'onnxruntime', 'openvino', 'nncf', 'tensorrt', 'tensorrt_rtx',"
        " 'cv2', 'scipy', 'matplotlib', 'lightning_fabric', 'safetensors'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_numpys_library_starts_no_threads_that_memory_may_not_hold():
    """OpenBLAS ends the process where it cannot start them; it is told when numpy is imported."""
    code = (
        "import os, sys, okdhp_edge.cli\n"
        "assert 'numpy' not in sys.modules\n"
        "sys.exit(os.environ['OPENBLAS_NUM_THREADS'] != '1')"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OPENBLAS_NUM_THREADS"}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, check=False, cwd=REPOSITORY)
    assert ran.returncode == 0
