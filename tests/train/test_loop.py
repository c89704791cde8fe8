"""Training as a whole: resume, processes, records, faults."""

import csv
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from okdhp_edge.data.load import load
from okdhp_edge.errors import DataError, ModelError, OkdhpError, OutputError, RecipeError
from okdhp_edge.network.build import build_network
from okdhp_edge.recipe.checkpoint import read_info
from okdhp_edge.train import loop
from okdhp_edge.train.loop import train
from okdhp_edge.train.methods import Method
from okdhp_edge.train.open_teacher import load_checkpoint
from okdhp_edge.train.setup import TrainingOptions, prepare
from okdhp_edge.train.validate import validate
from tests.helpers.made_data import coco_file, lspet_folder
from tests.helpers.tiny_models import DATA, tiny_recipe


def _options(folder: Path, **changes: object) -> TrainingOptions:
    return TrainingOptions(**{"out": folder, "device": "cpu", "workers": 0, **changes})


def test_a_run_learns_and_leaves_its_records(trained):
    facts = read_info(trained)
    assert set(facts.scores) == {"branch0", "branch1", "ensemble"}
    assert facts.best_score == max(facts.scores["branch0"], facts.scores["branch1"])
    rows = list(csv.DictReader((trained.parent / "metrics.csv").open()))
    assert [float(r["epoch"]) for r in rows] == [1, 2]
    assert float(rows[1]["loss/hard"]) < float(rows[0]["loss/hard"])
    assert {"loss/kd", "loss/ensemble", "images_per_s", "data_wait_share", "val/ensemble"} <= set(
        rows[0]
    )
    assert (trained.parent / "curves.png").stat().st_size > 5000
    assert list((trained.parent / "events").glob("events.out.tfevents.*"))


class _Killed(BaseException):
    pass


def _kill(stage: str, done: int, total: int, text: str) -> None:
    if stage == "epoch 2" and done == 3:
        raise _Killed


@pytest.mark.parametrize(
    "method",
    [
        {"method": "okdhp"},
        {"method": "okdhp", "ema_peer": 0.9},
        {"method": "okddip"},
    ],
    ids=lambda table: "-".join(str(v) for v in table.values()),
)
def test_resuming_after_a_kill_gives_bit_identical_weights(tmp_path, method):
    recipe = tiny_recipe(
        network={"kind": "hourglass", "width": 16, "shared_stacks": 0, "branches": [1, 1, 1]},
        augmentation={"views": 2},
        distillation={**method, "ramp_epochs": 1},
        optimizer={"epochs": 3, "batch_size": 16, "lr": 3e-3},
    )
    train(recipe, DATA, _options(tmp_path / "whole"))

    with pytest.raises(_Killed):
        train(recipe, DATA, _options(tmp_path / "cut", report=_kill))
    assert read_info(tmp_path / "cut" / "last.safetensors").epochs_done == 1
    train(recipe, DATA, _options(tmp_path / "cut", resume=True))
    whole, cut = (load_file(tmp_path / n / "last.safetensors") for n in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[k], cut[k]) for k in whole)
    assert any(k.startswith("optimizer.") for k in whole)
    learns_itself = method["method"] == "okddip" or "ema_peer" in method
    assert any(k.startswith("method.") for k in whole) == learns_itself
    assert len((tmp_path / "cut" / "metrics.csv").read_text().splitlines()) == 4


def _make_every_epoch_better(monkeypatch):
    """Which of two epochs of a tiny network is the better one differs from CPU to CPU."""
    scores = itertools.count(1.0)

    def validate_upwards(*args):
        found = validate(*args)
        score = next(scores)
        return found._replace(scores=dict.fromkeys(found.scores, score))

    monkeypatch.setattr("okdhp_edge.train.loop.validate", validate_upwards)


def test_an_average_of_the_weights_is_judged_kept_and_resumed(tmp_path, monkeypatch):
    _make_every_epoch_better(monkeypatch)
    optimizer = {"epochs": 2, "batch_size": 16, "lr": 3e-3, "average": 0.9}
    recipe = tiny_recipe(optimizer=optimizer)
    train(recipe, DATA, _options(tmp_path / "whole"))
    with pytest.raises(_Killed):
        train(recipe, DATA, _options(tmp_path / "cut", report=_kill))
    train(recipe, DATA, _options(tmp_path / "cut", resume=True))
    whole, cut = (load_file(tmp_path / n / "last.safetensors") for n in ("whole", "cut"))
    assert all(torch.equal(whole[k], cut[k]) for k in whole)
    best = load_file(tmp_path / "whole" / "best.safetensors")
    assert read_info(tmp_path / "whole" / "best.safetensors").epochs_done == 2
    assert not any(k.startswith("average.") for k in best)
    for name in (k for k in best if k.startswith("net.")):
        kept = "average.module." + name.removeprefix("net.")
        assert torch.equal(best[name], whole[kept])
    assert any(not torch.equal(best[k], whole[k]) for k in best)


def test_unlabelled_pictures_lengthen_the_epoch_and_teach(tmp_path, trained):
    table = {"method": "fpd", "teacher": {"path": str(trained)}, "unlabelled": "val"}
    optimizer = {"epochs": 1, "batch_size": 16}
    recipe = tiny_recipe(
        distillation=table, optimizer=optimizer, train_split="train[:32]", augmentation={}
    )
    seen = []
    train(recipe, DATA, _options(tmp_path / "m", report=lambda *told: seen.append(told)))
    steps = {total for stage, _, total, _ in seen if stage == "epoch 1"}
    assert steps == {(32 + 12) // 16}
    row = next(csv.DictReader((tmp_path / "m" / "metrics.csv").open()))
    assert float(row["loss/kd"]) > 0
    assert float(row["teaching/gradient_ratio"]) > 0


def test_another_recipe_cannot_resume(trained):
    with pytest.raises(OkdhpError, match="another recipe"):
        train(tiny_recipe(seed=5), DATA, _options(trained.parent, resume=True))


def test_unbalanced_branches_select_among_targets_only(tmp_path):
    network = {"kind": "hourglass", "width": 16, "shared_stacks": 1, "branches": [1, 2]}
    optimizer = {"epochs": 1, "batch_size": 16}
    best = train(tiny_recipe(network=network, optimizer=optimizer), DATA, _options(tmp_path / "m"))
    assert read_info(best).best_branch == 0


def test_a_loss_that_explodes_stops_the_run(tmp_path):
    recipe = tiny_recipe(
        heatmap={"hard_loss": "mse", "sigma": 1.0},
        optimizer={"epochs": 1, "batch_size": 16, "lr": 1e30, "name": "adam"},
    )
    with pytest.raises(OkdhpError, match="NaN or infinite"):
        train(recipe, DATA, _options(tmp_path / "m"))
    assert not (tmp_path / "m" / "best.safetensors").exists()


def test_bad_data_stops_before_anything_is_written(tmp_path):
    with pytest.raises(DataError):
        train(tiny_recipe(), "lspet:/nowhere", _options(tmp_path / "m"))
    with pytest.raises(DataError, match="unknown metric"):
        train(tiny_recipe(metric="pcc@0.2"), DATA, _options(tmp_path / "m"))
    assert not (tmp_path / "m").exists()


def test_a_place_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot write"):
        train(tiny_recipe(), DATA, _options(tmp_path / "file" / "m"))


def test_a_device_that_is_absent_is_an_error_not_the_cpu(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("this machine has the device")
    with pytest.raises(OkdhpError, match="device 'cuda' cannot be used"):
        train(tiny_recipe(), DATA, _options(tmp_path / "m", device="cuda"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        # Its FAU is idle, and it has weights of its own.
        {"distillation": {"method": "okddip", "ramp_epochs": 1},
         "network": tiny_recipe().network.model_dump() | {"branches": [1, 1, 1]}},
    ],
    ids=["okdhp", "okddip"],
)  # fmt: skip
def test_two_processes_train_the_model_of_one(tmp_path, changes):
    """torchrun with gloo on the CPU, same global batch: equal within float noise.

    By SGD: Adam divides by a gradient's own size, which makes noise of any size a full step. The
    bound is on the whole update, because batch norm over the hourglass's single innermost pixel
    magnifies noise: reordering the samples of a batch in one process moves as much.
    """
    script = tmp_path / "go.py"
    script.write_text(
        "import json\nimport sys\nfrom pathlib import Path\n"
        "from okdhp_edge.train.loop import train\n"
        "from okdhp_edge.train.setup import TrainingOptions\n"
        "from tests.helpers.tiny_models import tiny_recipe\n"
        "optimizer = {'epochs': 1, 'batch_size': 16, 'lr': 1e-3, 'name': 'sgd'}\n"
        "options = TrainingOptions(out=Path(sys.argv[1]), device='cpu', workers=0)\n"
        "recipe = tiny_recipe(optimizer=optimizer, **json.loads(sys.argv[2]))\n"
        "train(recipe, 'synthetic:48', options)\n"
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"}
    launch = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(port)]
    subprocess.run([sys.executable, str(script), str(tmp_path / "one"), json.dumps(changes)],
                   check=True, env=environment, timeout=200)  # fmt: skip
    subprocess.run([sys.executable, *launch, str(script), str(tmp_path / "two"),
                    json.dumps(changes)], check=True, env=environment, timeout=200)  # fmt: skip
    one, two = (load_net_weights(tmp_path / n / "best.safetensors") for n in ("one", "two"))
    torch.manual_seed(0)
    start = dict(build_network(tiny_recipe(**changes).network, 14).named_parameters())
    learned = torch.cat([(one[k] - start[k]).flatten() for k in start])
    differs = torch.cat([(one[k] - two[k]).flatten() for k in start])
    assert learned.norm() > 0.002
    assert differs.norm() < 0.1 * learned.norm()
    losses = [
        float(next(csv.DictReader((tmp_path / n / "metrics.csv").open()))["loss/hard"])
        for n in ("one", "two")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)


@pytest.mark.slow
def test_two_nodes_go_on_where_one_was_killed(tmp_path):
    """`torchrun --nnodes 2`, here with both nodes on one machine: bit for bit the same model."""
    script = tmp_path / "go.py"
    script.write_text(
        "import sys\nfrom pathlib import Path\n"
        "from okdhp_edge.train.loop import train\n"
        "from okdhp_edge.train.setup import TrainingOptions\n"
        "from tests.helpers.tiny_models import tiny_recipe\n"
        "options = TrainingOptions(out=Path(sys.argv[1]), device='cpu', workers=0,\n"
        "                          resume='--resume' in sys.argv)\n"
        "train(tiny_recipe(optimizer={'epochs': 6, 'batch_size': 8}), 'synthetic:64', options)\n"
    )
    _wait_for_nodes(_start_nodes(script, tmp_path / "whole"))
    nodes = _start_nodes(script, tmp_path / "cut")
    while not _count_epochs(tmp_path / "cut"):
        assert nodes[1].poll() is None
        time.sleep(0.02)
    for node in reversed(nodes):
        # torchrun's workers are in process groups of their own.
        for process in [*psutil.Process(node.pid).children(recursive=True), node]:
            process.kill()
        node.wait()
    assert 1 <= _count_epochs(tmp_path / "cut") < 6
    _wait_for_nodes(_start_nodes(script, tmp_path / "cut", "--resume"))
    whole, cut = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert _count_epochs(tmp_path / "cut") == 6


@pytest.mark.slow
def test_nodes_of_which_one_lacks_the_checkpoint_do_not_resume(tmp_path):
    script = tmp_path / "go.py"
    script.write_text(
        "import os, sys\nfrom pathlib import Path\n"
        "from okdhp_edge.errors import OkdhpError\n"
        "from okdhp_edge.train.loop import train\n"
        "from okdhp_edge.train.setup import TrainingOptions\n"
        "from tests.helpers.tiny_models import tiny_recipe\n"
        "out = Path(sys.argv[1]) / os.environ['RANK']\n"
        "options = TrainingOptions(out=out, device='cpu', workers=0,\n"
        "                          resume='--resume' in sys.argv)\n"
        "try:\n"
        "    train(tiny_recipe(optimizer={'epochs': 1}), 'synthetic:16', options)\n"
        "except OkdhpError as error:\n"
        "    (Path(sys.argv[1]) / f\"said-{os.environ['RANK']}\").write_text(error.cause)\n"
    )
    _wait_for_nodes(_start_nodes(script, tmp_path))
    assert (tmp_path / "0" / "last.safetensors").is_file() and not (tmp_path / "1").exists()
    _wait_for_nodes(_start_nodes(script, tmp_path, "--resume"))
    for rank in "01":
        assert "1 of 2 processes find" in (tmp_path / f"said-{rank}").read_text()


def _start_nodes(script: Path, out: Path, *options: str) -> list[subprocess.Popen[bytes]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node-rank", rank,
             "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", str(port),
             str(script), str(out), *options],
            env=environment,
        )
        for rank in ("0", "1")
    ]  # fmt: skip


def _wait_for_nodes(nodes: list[subprocess.Popen[bytes]]) -> None:
    for node in nodes:
        assert node.wait(timeout=300) == 0


def _count_epochs(folder: Path) -> int:
    file = folder / "metrics.csv"
    return len(list(csv.DictReader(file.open()))) if file.is_file() else 0


def load_net_weights(path: Path) -> dict[str, torch.Tensor]:
    return {k.removeprefix("net."): v for k, v in load_file(path).items() if k.startswith("net.")}


def test_other_data_cannot_resume(trained, tmp_path):
    folder = shutil.copytree(trained.parent, tmp_path / "m")
    source = f"lspet:{lspet_folder(tmp_path)}"
    (tmp_path / "splits" / "val.txt").write_text("im00001")
    with pytest.raises(OkdhpError, match=r"was trained on synthetic \(\d+ samples\), not on lspet"):
        train(tiny_recipe(), source, _options(folder, resume=True))


def test_other_joints_begin_anew_and_it_is_said(trained, tmp_path):
    file = coco_file(tmp_path)
    (tmp_path / "splits").mkdir()
    for split in ("train", "val"):
        (tmp_path / "splits" / f"{split}.txt").write_text("a.jpg")
    said = []
    best = train(
        tiny_recipe(start=str(trained)), f"coco:{file}", _options(tmp_path / "m", say=said.append)
    )
    assert read_info(best).skeleton.joints == ("tip", "left_fin", "right_fin")
    assert any("kept: none; reinitialized: tip, left_fin, right_fin" in line for line in said)


def test_validation_on_the_training_set_is_warned_of(tmp_path):
    folder = lspet_folder(tmp_path)
    (folder / "splits" / "val.txt").write_text("im00004")
    for trained_on, warned in (("im00001\nim00002", False), ("im00001\nim00004", True)):
        (folder / "splits" / "train.txt").write_text(trained_on)
        said = []
        options = _options(tmp_path / "m", say=said.append)
        prepare(tiny_recipe(), f"lspet:{folder}", options)
        assert any("1 of 1 validation samples are trained on" in line for line in said) is warned


def test_a_run_killed_before_int8_learns_is_taken_up_again(tmp_path):
    recipe = tiny_recipe(quantization={"profile": "generic", "branch": 0, "start_epoch": 1})
    with pytest.raises(_Killed):
        train(recipe, DATA, _options(tmp_path / "m", report=_kill))
    best = train(recipe, DATA, _options(tmp_path / "m", resume=True))
    assert read_info(best).scores["int8"] == read_info(best).best_score
    assert len(list(csv.DictReader((tmp_path / "m" / "metrics.csv").open()))) == 2
    late = recipe.changed(epochs=1)
    with pytest.raises(OkdhpError, match="after the last epoch"):
        train(late, DATA, _options(tmp_path / "late"))


def test_a_broken_picture_is_one_clear_error_from_a_worker_too(tmp_path):
    folder = lspet_folder(tmp_path, count=16)
    (tmp_path / "splits" / "val.txt").write_text("im00001")
    (folder / "images" / "im00009.jpg").write_bytes(b"\xff\xd8 cut short")
    with pytest.raises(DataError, match="im00009"):
        train(tiny_recipe(), f"lspet:{folder}", _options(tmp_path / "m", workers=1))


def test_half_weights_are_small_go_on_and_give_nearly_the_same(trained, tmp_path, monkeypatch):
    half = trained.with_name("weights.safetensors")
    # Norms and biases, which are much of so small a network, stay as they are.
    assert half.stat().st_size < 0.8 * trained.stat().st_size
    net, facts = load_checkpoint(half)
    whole, _ = load_checkpoint(trained)
    image = torch.randint(0, 255, (2, 64, 64, 3), dtype=torch.uint8)
    with torch.no_grad():
        a, b = (n(image).last(facts.best_branch) for n in (net, whole))
    assert torch.allclose(a, b, atol=0.02 * float(b.abs().max()))
    # By the model's name, from its folder of half weights alone.
    place = tmp_path / "models" / "shipped"
    place.mkdir(parents=True)
    (place / "weights.safetensors").write_bytes(half.read_bytes())
    monkeypatch.chdir(tmp_path)
    recipe = tiny_recipe(start="shipped", name="further")
    best = train(recipe, DATA, _options(tmp_path / "m"))
    assert read_info(best).recipe.start == "shipped"


def test_a_model_without_float_weights_is_no_start(tmp_path, monkeypatch):
    (tmp_path / "models" / "bare").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match="no float weights"):
        train(tiny_recipe(start="bare"), DATA, _options(tmp_path / "m"))


def test_a_set_of_its_own_is_judged_on(tmp_path):
    options = replace(_options(tmp_path / "m"), val_data="synthetic:40@all")
    run = prepare(tiny_recipe(), DATA, options)
    assert len(run.val) == 40 and run.val.split == "all"
    assert len(run.train) == len(load(DATA, "train"))


def test_what_it_was_judged_on_is_kept_and_a_resumed_run_is_judged_on_it(tmp_path):
    options = replace(_options(tmp_path / "m"), val_data="synthetic:24@all")
    best = train(tiny_recipe(optimizer={"epochs": 1, "batch_size": 16}), DATA, options)
    assert read_info(best).evaluation_data == "synthetic:24@all"
    with pytest.raises(OkdhpError, match="evaluated on synthetic:24@all, not on that of its data"):
        train(
            tiny_recipe(optimizer={"epochs": 1, "batch_size": 16}), DATA,
            replace(options, val_data=None, resume=True),
        )  # fmt: skip


def test_a_metric_without_labels_is_refused_before_the_first_epoch(tmp_path):
    with pytest.raises(RecipeError, match="can be evaluated by oks; set `metric` in the recipe"):
        train(
            tiny_recipe(metric="oks"), f"lspet:{lspet_folder(tmp_path)}@train", _options(tmp_path)
        )
    with pytest.raises(RecipeError, match="needs one COCO annotation file"):
        train(tiny_recipe(metric="ap"), DATA, _options(tmp_path / "m"))
    assert not (tmp_path / "m").exists()


def test_weights_of_an_earlier_run_are_not_the_result_of_this_one(tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    for name in ("last.safetensors", "best.safetensors", "weights.safetensors"):
        (folder / name).write_text("of another run")
    best = train(tiny_recipe(optimizer={"epochs": 1, "batch_size": 16}), DATA, _options(folder))
    assert read_info(best).epochs_done == read_info(folder / "last.safetensors").epochs_done == 1


def test_a_full_disk_is_told_once_and_not_by_the_event_writers_thread(tmp_path, monkeypatch):
    from okdhp_edge.train.metrics_logger import MetricsLogger

    told = []
    monkeypatch.setattr(threading, "excepthook", told.append)
    before = threading.excepthook
    metrics_logger = MetricsLogger(tmp_path, 0)

    class _AsyncWriterThread(threading.Thread):
        def run(self):
            raise OSError(28, "No space left on device")

    class Other(_AsyncWriterThread):
        pass

    for kind, count in ((_AsyncWriterThread, 0), (Other, 1)):
        thread = kind()
        thread.start()
        thread.join()
        assert len(told) == count
    metrics_logger.close()
    assert threading.excepthook is before


def test_mixed_precision_leaves_the_labels_as_exact_as_they_are(tmp_path, monkeypatch):
    """bf16 holds coordinates of 16 to 32 heatmap pixels to an eighth."""
    seen = []
    plain = Method.hard

    def hard(self, heatmaps, batch, weight, sigma):
        seen.append((heatmaps.dtype, batch.xy.dtype, weight.dtype))
        return plain(self, heatmaps, batch, weight, sigma)

    monkeypatch.setattr(Method, "hard", hard)
    recipe = tiny_recipe(optimizer={"epochs": 1, "batch_size": 16})
    options = TrainingOptions(out=tmp_path, device="cpu", workers=0, precision="bf16-mixed")
    train(recipe, "synthetic:16", options)
    assert seen
    for heatmaps, xy, weight in seen:
        assert heatmaps == torch.bfloat16
        assert xy == weight == torch.float32


def test_a_run_stopped_in_its_first_epoch_leaves_the_earlier_one_whole(trained, tmp_path):
    """Who forgot --resume, stops, and resumes."""
    folder = shutil.copytree(trained.parent, tmp_path / "m")

    def kill(stage: str, done: int, total: int, text: str) -> None:
        if stage == "epoch 1":
            raise _Killed

    with pytest.raises(_Killed):
        train(tiny_recipe(), DATA, _options(folder, report=kill))
    best = train(tiny_recipe(), DATA, _options(folder, resume=True))
    assert best.read_bytes() == trained.read_bytes()


def test_the_split_of_the_data_is_kept_and_another_cannot_resume(tmp_path):
    recipe = tiny_recipe(optimizer={"epochs": 1, "batch_size": 16})
    best = train(recipe, "synthetic:40@train[:32]", _options(tmp_path / "m"))
    assert read_info(best).data == "synthetic:40@train[:32]"
    with pytest.raises(OkdhpError, match="was trained on"):
        train(recipe, "synthetic:40", _options(tmp_path / "m", resume=True))


def test_an_unknown_precision_is_not_the_devices_fault(tmp_path):
    with pytest.raises(OkdhpError, match="unknown precision 'fp16'"):
        train(tiny_recipe(), DATA, _options(tmp_path / "m", precision="fp16"))


def test_a_gradient_that_is_not_finite_is_one_line(tmp_path, monkeypatch):
    def explode(run, loss):
        loss.backward()
        next(p for p in run.net.parameters() if p.grad is not None).grad.fill_(float("inf"))

    monkeypatch.setattr("lightning_fabric.Fabric.backward",
                        lambda self, loss: explode(holder[0], loss))  # fmt: skip
    holder = []
    original = loop.prepare

    def keep(*words):
        holder.append(original(*words))
        return holder[0]

    monkeypatch.setattr(loop, "prepare", keep)
    recipe = tiny_recipe()
    recipe = recipe.model_copy(
        update={"optimizer": recipe.optimizer.model_copy(update={"clip_norm": 1.0})}
    )
    with pytest.raises(OkdhpError, match="the gradient became NaN or infinite"):
        train(recipe, DATA, _options(tmp_path / "m"))


def test_a_run_is_resumed_without_the_weights_it_began_with(trained, tmp_path):
    start = shutil.copy(trained, tmp_path / "start.safetensors")
    recipe, out = tiny_recipe(start=str(start)), tmp_path / "m"
    with pytest.raises(_Killed):
        train(recipe, DATA, _options(out, report=_kill))
    start.unlink()
    assert read_info(train(recipe, DATA, _options(out, resume=True))).epochs_done >= 1


def test_a_set_of_another_size_cannot_resume(trained, tmp_path):
    folder = shutil.copytree(trained.parent, tmp_path / "m")
    with pytest.raises(OkdhpError, match=r"samples\), not on synthetic"):
        train(tiny_recipe(), "synthetic:40", _options(folder, resume=True))


def test_validation_on_what_is_trained_on_is_said_whatever_its_name(tmp_path):
    file = coco_file(tmp_path)
    said = []
    prepare(tiny_recipe(), f"coco:{file}@all,coco:{file}@all",
            _options(tmp_path / "m", val_data=f"coco:{file}@all", say=said.append))  # fmt: skip
    assert any("are trained on too" in line for line in said)
