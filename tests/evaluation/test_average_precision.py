"""AP is the evaluator's own, and a results file of ours is one that it reads."""

import json

import numpy as np
import pytest

from okdhp_edge.data.coco_truth import read_coco_truth
from okdhp_edge.data.load import load, read_annotations
from okdhp_edge.errors import DataError
from okdhp_edge.evaluation.average_precision import (
    CROWD_METRIC_NAMES,
    METRIC_NAMES,
    average_precision,
    average_precision_score,
    find_images_without_persons,
    read_results,
    to_coco_results,
    write_results,
)
from okdhp_edge.evaluation.evaluate import score
from okdhp_edge.pose.skeleton import Skeleton
from tests.helpers.made_crowd import crowd_files
from tests.helpers.made_data import coco_file, picture

SETS = [
    "coco_mini/person_keypoints_train2017_mini.json",
    "formats/coco/person_keypoints_train2017_4img.json",
    "formats/ochuman/test_ochuman.json",
]


def _noisy(poses, seed=0, noise=0.05):
    """The labels, off by some share of the person, with scores that follow the error."""
    rng = np.random.default_rng(seed)
    xy = np.stack([s.xy for s in poses.samples])
    size = np.array([s.box[2:].max() for s in poses.samples])[:, None, None]
    off = rng.normal(0, noise, xy.shape) * size
    score = np.clip(1 - np.linalg.norm(off / size, axis=-1) * 4, 0.05, 1)
    return xy + off, score


@pytest.mark.parametrize("name", SETS)
def test_it_equals_the_evaluator_run_by_hand(real_data, tmp_path, name, capfd):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    poses = load(f"coco:{real_data / name}", "all")
    results = to_coco_results(poses, *_noisy(poses))
    ours = average_precision(poses, results)
    assert capfd.readouterr().out == ""  # stdout belongs to the command
    write_results(tmp_path / "r.json", results)
    truth = COCO(str(real_data / name))
    for annotation in truth.anns.values():
        annotation.setdefault("area", annotation["bbox"][2] * annotation["bbox"][3])
    evaluator = COCOeval(truth, truth.loadRes(str(tmp_path / "r.json")), "keypoints")
    evaluator.params.kpt_oks_sigmas = poses.skeleton.sigmas
    evaluator.params.imgIds = sorted({r["image_id"] for r in results})
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    theirs = dict(zip(METRIC_NAMES, evaluator.stats * 100, strict=True))
    assert ours == pytest.approx(theirs, abs=0)
    if "coco_mini" in name:
        assert 5 < ours["AP"] < 95


def test_the_labels_themselves_are_perfect(real_data):
    poses = load(f"coco:{real_data / SETS[0]}", "all")
    numbers = average_precision(poses, to_coco_results(poses, *_noisy(poses, noise=0)))
    assert numbers["AP"] == pytest.approx(100) and numbers["AR"] == pytest.approx(100)


def test_an_own_skeleton_and_a_file_without_areas_are_judged_too(tmp_path):
    poses = load(f"coco:{coco_file(tmp_path)}", "all")
    xy = np.stack([s.xy for s in poses.samples])
    numbers = average_precision(poses, to_coco_results(poses, xy, np.ones(xy.shape[:2])))
    assert numbers["AP"] > 0


@pytest.mark.parametrize("area", [0, None])
def test_an_area_of_nothing_is_that_of_the_box(tmp_path, area):
    file = coco_file(tmp_path)
    content = json.loads(file.read_text())
    for annotation in content["annotations"]:
        annotation["area"] = area
    file.write_text(json.dumps(content))
    poses = load(f"coco:{file}", "all")
    results = to_coco_results(poses, *_noisy(poses, noise=0.001))
    assert average_precision(poses, results)["AP"] == pytest.approx(100)


def test_a_persons_score_is_that_of_the_joints_that_are_seen(tmp_path):
    poses = load(f"coco:{coco_file(tmp_path)}", "all")
    xy = np.stack([s.xy for s in poses.samples])
    score = np.array([[0.9, 0.7, 0.1], [0.1, 0.1, 0.1]])
    found = to_coco_results(poses, xy, score, np.array([0.5, 1.0]))
    assert [r["score"] for r in found] == [pytest.approx(0.5 * (0.81 + 0.49) / 1.6), 0.0]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{}", "not a COCO results file"),
        ("[3]", "not a COCO results file"),
        ('[{"image_id": 7, "score": 1, "keypoints": [1, 2]}]', "joints, the data set has 3"),
        ('[{"image_id": 7, "keypoints": [1,1,1,1,1,1,1,1,1]}]', "no image_id or score"),
        (
            '[{"image_id": 99, "category_id": 1, "score": 1, "keypoints": [1,1,1,1,1,1,1,1,1]}]',
            "matches an image of",
        ),
        (
            '[{"image_id": 7, "category_id": 9, "score": 1, "keypoints": [1,1,1,1,1,1,1,1,1]}]',
            "category_id 9, the data set has 1",
        ),
        (
            '[{"image_id":7,"category_id":1,"score":1,"bbox":0,"keypoints":[1,1,1,1,1,1,1,1,1]}]',
            "no valid `bbox`",
        ),
    ],
)
def test_results_that_cannot_be_judged_are_one_line(tmp_path, content, says):
    poses = load(f"coco:{coco_file(tmp_path)}", "all")
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(DataError, match=says) as caught:
        average_precision(poses, read_results(tmp_path / "r.json"))
    assert "\n" not in str(caught.value)


def _two_sided(folder, change=lambda content: None):
    """Two persons, found exactly."""
    file = coco_file(folder)
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    poses = load(f"coco:{file}", "all")
    xy = np.stack([s.xy for s in poses.samples])
    xy[1] += 500  # one of them is missed
    return average_precision(poses, to_coco_results(poses, xy, np.ones(xy.shape[:2])))


def _person_is_second(content):
    content["categories"][0] |= {"id": 9, "name": "person"}
    content["categories"].insert(0, {"id": 0, "name": "horse", "keypoints": ["muzzle"]})
    for annotation in content["annotations"]:
        annotation["category_id"] = 9
    content["annotations"].append(
        {"id": 3, "image_id": 7, "category_id": 0, "bbox": [1, 1, 9, 9], "keypoints": [3, 3, 2]}
    )


def _as_tools_write_it(content):
    first, second = content["annotations"]
    del first["id"], second["bbox"]
    first["keypoints"] = [str(v) for v in first["keypoints"]]
    second["keypoints"] = [second["keypoints"][i : i + 3] for i in (0, 3, 6)]
    content["annotations"].append(
        {"id": 3, "image_id": 7, "category_id": 1, "bbox": [60, 60, 5, 5]}
    )


@pytest.mark.parametrize("change", [_person_is_second, _as_tools_write_it])
def test_what_can_be_loaded_can_be_judged(tmp_path, change):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    found, expected = _two_sided(tmp_path / "a", change), _two_sided(tmp_path / "b")
    assert found["AP"] == pytest.approx(expected["AP"])


def test_a_part_of_a_split_of_a_folder_is_judged_by_that_splits_file(tmp_path):
    folder = tmp_path / "annotations"
    folder.mkdir()
    coco_file(folder).rename(folder / "keypoints_val.json")
    picture(tmp_path / "images" / "a.jpg")
    (folder / "keypoints_train.json").write_text((folder / "keypoints_val.json").read_text())
    poses = load(f"coco:{tmp_path}", "val[:1]")
    found = to_coco_results(poses, *_noisy(poses, noise=0))
    assert average_precision(poses, found)["AP"] > 0
    with pytest.raises(DataError, match="needs one COCO annotation file"):
        average_precision(load(f"coco:{tmp_path}", "train+val"), found)


def test_a_false_person_in_an_image_without_any_counts_in_a_whole_file_alone(tmp_path):
    file = coco_file(tmp_path)
    content = json.loads(file.read_text())
    content["images"].append({"id": 8, "file_name": "empty.jpg"})
    content["annotations"] = content["annotations"][:1]
    file.write_text(json.dumps(content))
    poses = load(f"coco:{file}", "all")
    right = to_coco_results(poses, *_noisy(poses, noise=0))
    wrong = {**right[0], "image_id": 8, "score": 2.0}
    assert average_precision(poses, right)["AP"] == pytest.approx(100)
    assert average_precision(poses, [*right, wrong])["AP"] < 99
    part = load(f"coco:{file}", "all[:1]")
    assert average_precision(part, [*right, wrong])["AP"] == pytest.approx(100)
    assert set(find_images_without_persons(poses)) == {"empty.jpg"}


def test_other_sets_have_no_ap():
    with pytest.raises(DataError, match="needs one COCO annotation file"):
        average_precision(load("synthetic:20", "all"), [])


def test_the_command_judges_a_model_and_then_its_own_file(exported, tmp_path):
    from typer.testing import CliRunner

    from okdhp_edge.cli.main import app
    from okdhp_edge.pose.skeleton import LSP14
    from tests.helpers.made_data import picture

    picture(tmp_path / "images" / "1.jpg")
    rng = np.random.default_rng(0)
    data = {
        "images": [{"id": 5, "file_name": "1.jpg"}],
        "categories": [{"id": 1, "name": "person", "keypoints": list(LSP14.joints)}],
        "annotations": [{
            "id": 1, "image_id": 5, "category_id": 1, "bbox": [5, 5, 90, 80], "area": 4000,
            "keypoints": [int(v) for x, y in rng.integers(9, 80, (14, 2)) for v in (x, y, 2)],
        }],
    }  # fmt: skip
    (tmp_path / "x.json").write_text(json.dumps(data))
    run = CliRunner().invoke
    common = ["eval", "--data", f"coco:{tmp_path / 'x.json'}", "--split", "all"]
    out = tmp_path / "p.json"
    first = run(app, [*common, "--model", str(exported), "--backend", "onnxruntime", "--metric",
                      "ap", "--flip-test", "--predictions", str(out)])  # fmt: skip
    assert first.exit_code == 0, first.output
    told = json.loads(first.stdout.splitlines()[-1])
    assert set(told["ap"]) == set(METRIC_NAMES) and told["flip_test"] is True
    second = run(app, [*common, "--results", str(out)])
    assert json.loads(second.stdout.splitlines()[-1])["ap"] == told["ap"]
    third = run(app, [*common, "--results", str(out), "--record", str(tmp_path / "r.json")])
    assert third.exit_code == 1 and "--record cannot be used with --results" in third.stderr
    (tmp_path / "images" / "1.jpg").unlink()  # scoring reads no image
    fourth = run(app, [*common, "--results", str(out), "--backend", "openvino"])
    assert "--backend cannot be used with --results" in fourth.stderr
    again = run(app, [*common, "--results", str(out)])
    assert json.loads(again.stdout.splitlines()[-1])["ap"] == told["ap"]


def test_a_set_without_coco_annotations_is_refused_before_the_inference(exported, monkeypatch):
    from typer.testing import CliRunner

    from okdhp_edge.cli.main import app

    monkeypatch.setattr(
        "okdhp_edge.evaluation.evaluate.predict_with_scores", lambda *_, **__: 1 / 0
    )
    done = CliRunner().invoke(app, ["eval", "--data", "synthetic:8", "--split", "all", "--model",
                                    str(exported), "--metric", "ap"])  # fmt: skip
    assert done.exit_code == 1
    assert "needs one COCO annotation file" in done.stderr


# What xtcocotools 1.14.3 (the maintained copy of CrowdPose's evaluation) prints for the same files
# with `COCOeval(truth, results, "keypoints_crowd", sigmas, use_area=False)`.
CROWD = [0.49102573377638514, 0.8910891089108911, 0.524756445569369, 0.5821428571428572,
         0.8928571428571429, 0.6428571428571429, 0.4568, 0.5108, 0.5223]  # fmt: skip


def test_crowdposes_numbers_are_its_own_evaluations(tmp_path):
    annotations, results = crowd_files(tmp_path)
    poses = read_annotations(f"coco:{annotations}", "all")
    found = average_precision(poses, read_results(results))
    assert tuple(found) == CROWD_METRIC_NAMES
    np.testing.assert_allclose([round(v / 100, 4) for v in found.values()],
                               np.round(CROWD, 4), atol=1e-9)  # fmt: skip


def test_crowdposes_interval_is_of_the_number_beside_it(tmp_path):
    """Annotated areas are larger than what its protocol takes, and forgive more."""
    annotations, _ = crowd_files(tmp_path)
    content = json.loads(annotations.read_text())
    for annotation in content["annotations"]:
        annotation["area"] = 1e6
    annotations.write_text(json.dumps(content))
    poses = read_annotations(f"coco:{annotations}", "all")
    xy, scores = _noisy(poses)
    found = average_precision_score(poses, xy, scores)
    assert found.low <= found.value <= found.high


def test_real_crowdpose_files_are_judged_so(real_data):
    poses = load(f"coco:{real_data}/formats/crowdpose/test_crowdpose.json", "all")
    assert (
        tuple(average_precision(poses, to_coco_results(poses, *_noisy(poses))))
        == CROWD_METRIC_NAMES
    )


def test_ap_as_a_metric_ranks_like_the_evaluator_and_has_an_interval(real_data):
    poses = load(f"coco:{real_data / 'coco_mini'}", "all")
    truth = np.stack([s.xy for s in poses.samples])
    perfect = score(poses, truth, "ap")
    assert perfect.value == pytest.approx(100) == perfect.high
    side = np.array([s.box[2:].max() for s in poses.samples])[:, None, None]
    moved = truth + np.random.default_rng(0).normal(0, 0.05, truth.shape) * side
    worse = score(poses, moved, "ap")
    assert worse.low < worse.value < worse.high
    results = to_coco_results(poses, moved, np.ones(truth.shape[:2]))
    assert worse.value == pytest.approx(average_precision(poses, results)["AP"])


def test_ap_needs_a_coco_file():
    poses = load("synthetic:12", "all")
    with pytest.raises(DataError, match="needs one COCO annotation file"):
        score(poses, np.stack([s.xy for s in poses.samples]), "ap")


def test_joints_in_a_models_own_order_are_put_into_the_files(tmp_path):
    mine = Skeleton("mine", ("right_fin", "tip", "left_fin"))
    poses = load(f"coco:{coco_file(tmp_path)}", "all").with_skeleton(mine)
    truth = np.stack([s.xy for s in poses.samples])
    assert average_precision_score(poses, truth, np.ones((2, 3))).value == pytest.approx(100)


def test_a_pose_in_a_negative_box_is_a_false_one(tmp_path):
    file = coco_file(tmp_path)
    content = json.loads(file.read_text())
    negative = content["annotations"][0] | {"id": 99, "absent": [1] * 3, "num_keypoints": 0}
    negative["keypoints"] = [0] * len(negative["keypoints"])
    negative["absent"] = [1] * (len(negative["keypoints"]) // 3)
    content["annotations"].append(negative)
    file.write_text(json.dumps(content))
    assert 99 not in [a["id"] for a in read_coco_truth(file)["annotations"]]
    assert len(read_coco_truth(file)["annotations"]) == len(content["annotations"]) - 1


def test_spellings_of_an_images_facts_are_made_one(tmp_path):
    file = coco_file(tmp_path)
    content = json.loads(file.read_text())
    content["images"][0]["crowdIndex"] = "0.5"
    content["images"].append({"file_name": "no-id.jpg"})
    file.write_text(json.dumps(content))
    images = read_coco_truth(file)["images"]
    assert images[0]["crowdIndex"] == 0.5
    assert all("id" in image for image in images)
