"""The tables of README.md, of docs/ and of the models' cards, from what the benchmarks measured.

    python tools/tables.py

Each stands between `<!-- table NAME -->` and `<!-- end -->`. Nothing else of a page is touched.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from okdhp_edge.artifacts.model_store import SHIPPED_DETECTOR, SHIPPED_FLOAT_MODELS
from okdhp_edge.system.files import write_text

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
MODELS = ("lite", "full")
"""Trained here."""
_PEERS = {
    "MoveNet Lightning INT8": "MoveNet Lightning INT8",
    "MoveNet Thunder f32, 256x256": "MoveNet Thunder f32",
    "PP-TinyPose f32, 96x128": "PP-TinyPose f32, 96x128",
    "PP-TinyPose f32, 192x256": "PP-TinyPose f32, 192x256",
    "lite INT8, openvino": "lite INT8, OpenVINO",
    "lite INT8, onnxruntime": "lite INT8, ONNX Runtime",
    "full INT8, openvino": "full INT8, OpenVINO",
    "full INT8, onnxruntime": "full INT8, ONNX Runtime",
    "large FP32, openvino": "large f32, OpenVINO",
    "large FP32, onnxruntime": "large f32, ONNX Runtime",
}

_FRONT = (
    ("MoveNet Lightning INT8", "MoveNet Lightning INT8", ""),
    ("MoveNet Thunder f32", "MoveNet Thunder f32, 256x256", ""),
    ("YOLOv8n-pose INT8", "", "YOLOv8n-pose INT8, 640x640"),
    ("**lite** INT8", "lite INT8, openvino", "lite INT8, person"),
    ("**full** INT8", "full INT8, openvino", "full INT8, person"),
    ("**large** f32", "large FP32, openvino", "large f32, person"),
)
"""A model's label, and its names in `peers.json` and in `end_to_end.json`."""


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((RESULTS / name).read_text(encoding="utf-8"))
    return content


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---" for _ in header], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def with_interval(value: float, low: float | None, high: float | None) -> str:
    return f"{value:.1f}" if low is None or high is None else f"{value:.1f} ({low:.1f}..{high:.1f})"


def peers() -> str:
    rows = {row["name"]: row for row in read("peers.json")["rows"]}
    return table(
        ("", "COCO AP", "AP50", "AP75", "mean OKS", "PCK@0.2, LSPET `test`",
         "joint visibility, AUROC", "person presence, AUROC", "p50 ms",
         "latency relative to Lightning"),
        [(
            label, with_interval(*row["coco"]["AP"]),
            *(f"{row['coco'][name]:.1f}" for name in ("AP50", "AP75")),
            f"{row['coco']['oks'][0]:.1f}", with_interval(*row["lspet"]["pck@0.2"]),
            f"{row['scores']['joint_auroc']:.2f}", f"{row['scores']['somebody_auroc']:.3f}",
            f"{row['latency_ms']['infer']['p50']:.2f}", f"{row['latency_over_the_peers']:.2f}",
        ) for label, row in ((label, rows[name]) for name, label in _PEERS.items())],
    )  # fmt: skip


def front() -> str:
    """The two tables in a row a model: labelled boxes of `peers.json`, whole images of
    `end_to_end.json`."""
    boxes = {row["name"]: row for row in read("peers.json")["rows"]}
    whole = {row["name"]: row for row in read("end_to_end.json")["rows"]}
    rival_ms = whole["YOLOv8n-pose INT8, 640x640"]["ms"]["three"]
    rows = []
    for label, name, found in _FRONT:
        in_boxes, in_image = boxes.get(name), whole.get(found)
        rows.append((
            label,
            f"{in_boxes['coco']['AP'][0]:.1f}" if in_boxes else "-",
            f"{in_boxes['lspet']['pck@0.2'][0]:.1f}" if in_boxes else "-",
            f"{in_boxes['latency_ms']['person']['p50']:.1f}" if in_boxes else "-",
            f"{in_image['ap']['AP']:.1f}" if in_image else "-",
            f"{in_image['ms']['three'] / rival_ms:.2f}" if in_image else "-",
        ))  # fmt: skip
    return table(
        ("", "COCO AP, labelled boxes", "PCK@0.2, LSPET `test`", "ms per person",
         "COCO AP, whole images", "time of an image of three people, YOLOv8n-pose = 1"),
        rows,
    )  # fmt: skip


def against_float() -> str:
    rows = [row for row in read("peers.json")["rows"] if row.get("over_float")]
    metrics = ("coco AP", "coco oks", "lspet pck@0.2")
    header = ("INT8 against float, in points", "COCO AP", "mean OKS, COCO", "PCK@0.2, LSPET `test`")
    return table(header, [
        (row["name"], *(f"{row['over_float'][key]:+.2f}" for key in metrics))
        for row in rows
    ])  # fmt: skip


def targets() -> str:
    rows = []
    for row in read("targets.json")["rows"]:
        start = (row["target"], row["model"])
        if "failed" in row:
            rows.append((*start, row["runtime"], "does not load", "-", "-"))
            continue
        runtime = f"{row['runtime']} {row['version'].split('-')[0]}"
        rows.append((
            *start, runtime, f"{row['median_px']:.2f}", f"{100 * row['far_share']:.1f} %",
            f"{row['over_float']:+.1f}",
        ))  # fmt: skip
    return table(("target", "model", "runtime", "joints' median distance from float, px",
                  "beyond 2 px", "PCK@0.2 over float"), rows)  # fmt: skip


def finetuning() -> str:
    content = read("finetuning.json")
    by: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for row in content["rows"]:
        by.setdefault((row["persons"], row["start"]), []).append(row)
    rows = []
    both = [persons for persons, start in by if start == "lite" and (persons, "imagenet") in by]
    for persons in sorted(both):
        ours, anew = by[persons, "lite"], by[persons, "imagenet"]
        mean = [sum(r["value"] for r in group) / len(group) for group in (ours, anew)]
        seconds = sum(r["seconds"] for r in ours) / len(ours)
        rows.append((str(persons), f"{mean[0]:.1f}", f"{mean[1]:.1f}", f"{mean[0] - mean[1]:+.1f}",
                     f"{seconds:.0f} s"))  # fmt: skip
    return table(("persons", "from `lite`", "from ImageNet", "difference", "took"), rows)


def fresh() -> str:
    """Trials that were not run are dashes."""

    def seconds(found: dict[str, Any], key: str) -> str:
        return f"{found[key]:.0f} s" if key in found else "-"

    def gigabytes(found: dict[str, Any], key: str) -> str:
        return f"{found[key]:.1f} GB" if key in found else "-"

    rows = []
    for found in read("fresh.json")["results"]:
        wheel = found.get("wheel", {})
        sizes = [f"{d} {wheel[d]['disk_gb']:.1f} GB" for d in wheel if d != "wheel_mb"]
        rows.append((
            found["python"],
            f"{seconds(found, 'install_demo_s')}, {gigabytes(found, 'demo_disk_gb')}",
            seconds(found, "demo_s"), seconds(found, "install_test_s"),
            seconds(found, "check_s"), ", ".join(sizes) or "-",
        ))  # fmt: skip
    return table(("Python", "demo's packages", "demo", "tests' packages", "`make check`",
                  "wheel alone"), rows)  # fmt: skip


def reliability() -> str:
    found = read("reliability.json")
    rows = [
        (
            "hostile files",
            found["hostile_files"]["command"],
            f"{found['hostile_files']['cases']:,} files, {found['hostile_files']['bad']} bad",
        )
    ]
    if extreme := found.get("extreme_files"):
        files = f"{extreme['cases']:,} files, {extreme['bad']} bad"
        rows.append(("extreme files", extreme["command"], files))
    kills = found["kills"]
    stages = {name: part for name, part in kills.items() if isinstance(part, dict)}
    damaged = sum(part.get("damaged", 0) for part in stages.values())
    rows.append(
        (
            "kills",
            kills["command"],
            (
                f"{sum(p['kills'] for p in stages.values())} kills, "
                f"{damaged} damaged; training bit-identical in "
                f"{kills['train']['bit_identical']} of {kills['train']['runs']}"
            ),
        )
    )
    faults = found["faults"]
    rows.append(
        (
            "faults",
            faults["command"],
            f"{faults['held']} of {faults['pairs']} pairs of command and fault",
        )
    )
    if web := found.get("web"):
        rows.append(
            (
                "load",
                web["command"],
                f"{100 * web['rate']:.0f} % of the rate, {web['memory_added_mib']:+.1f} MiB",
            )
        )
    if soak := found.get("soak"):
        rows.append(
            (
                "soak",
                soak["command"],
                (
                    f"{soak['memory_mib_added']:+.1f} MiB, "
                    f"{soak['descriptors_added']:+.0f} descriptors, "
                    f"{soak['threads_added']:+.0f} threads in {soak['seconds'] / 60:.0f} minutes"
                ),
            )
        )
    return table(("trial", "command", "result"),
                 [(name, f"`{command}`", text) for name, command, text in rows])  # fmt: skip


def accuracy(model: str) -> str:
    results = json.loads((ROOT / "models" / model / "results.json").read_text(encoding="utf-8"))
    return table(("file", "metric", "points"), [
        (f"{r['profile']} in {r['backend']}", f"{r['metric']} on {r['data']} `{r['split']}`",
         with_interval(r["value"], r.get("low"), r.get("high")))
        for r in results["results"]
    ])  # fmt: skip


def slices(model: str) -> str:
    found = read(f"slices-{model}-coco.json")["slices"]
    return table(("slice", "persons", "mean OKS"), [
        (name, str(row["persons"]), with_interval(*row["oks"])) for name, row in found.items()
    ])  # fmt: skip


def filled(page: str, tables: dict[str, str]) -> str:
    """The page with each of the tables between its marks, where it has them."""
    for name, text in tables.items():
        begin, end = f"<!-- table {name} -->", "<!-- end -->"
        if begin in page:
            head, _, rest = page.partition(begin)
            page = f"{head}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}"
    return page


START_ROWS = {
    "run_image_s": "`run` on one image, second time, whole process, s",
    "load_s": '`okdhp_edge.load("lite")` with its imports, s',
    "call_ms": "a call of the loaded model on an image with one person, ms",
    "pose_network_ms": "the pose network alone, ms",
    "call_over_networks_ms": "overhead of a call outside its two networks, ms",
    "batch_of_eight_in_singles": "a batch of eight crops, as a multiple of one inference",
    "limit_of_eight_in_singles": "its lower bound: eight inferences split over the cores",
    "run_video_mb": "`run` on a video, peak resident memory, MB",
    "help_s": "`--help`, s",
}


def start() -> str:
    """Before and after of `start.py`."""
    found = read("start.json")
    cases = [
        (cores, when) for cores in ("rows", "rows_on_one_core") for when in ("before", "after")
    ]
    rows = [(what, *(f"{found[cores][key][when]:g}" for cores, when in cases))
            for key, what in START_ROWS.items()]  # fmt: skip
    return table(("", "before", "now", "one core: before", "now"), rows)


def instructions() -> str:
    """Of `instructions.py`."""
    return table(
        ("model", "runtime", "a start", "detector", "pose network", "a call", "overhead"),
        [(row["model"], row["runtime"],
          *(f"{row[key]:,.1f}" for key in ("start", "detector", "pose", "call")),
          f"{row['around']:.1f} ({100 * row['around'] / row['call']:.0f} %)")
         for row in read("instructions.json")["rows"]],
    )  # fmt: skip


def end_to_end() -> str:
    """Whole images in, everybody's joints out."""
    rows = sorted(read("end_to_end.json")["rows"], key=lambda row: -row["ap"]["AP"])
    return table(
        ("whole-image pipeline", "COCO AP", "AP50", "AP75", "ms, one person", "three", "ten"),
        [(row["name"], *(f"{row['ap'][key]:.1f}" for key in ("AP", "AP50", "AP75")),
          *(f"{row['ms'][key]:.1f}" for key in ("one", "three", "ten"))) for row in rows],
    )  # fmt: skip


def detectors() -> str:
    """The detectors of `end_to_end.py`, alone."""
    rows = read("end_to_end.json")["detectors"]
    return table(
        ("detector", "ms", "recall, persons of 60 px or more", "false positives per image"),
        [(name, f"{row['ms']:.1f}", f"{row['found']:.2f}", f"{row['false_per_image']:.2f}")
         for name, row in rows.items()],
    )  # fmt: skip


def tracking() -> str:
    """Ids of people who cross, beside kept trackers."""
    return table(
        ("tracker", "IDF1", "MOTA", "ID switches", "FN", "FP", "ms per frame"),
        [(row["tracker"], f"{row['IDF1']:.1f}", f"{row['MOTA']:.1f}", str(row["id_switches"]),
          str(row["misses"]), str(row["false_positives"]), f"{row['ms_per_frame']:.1f}")
         for row in read("tracking.json")["rows"]],
    )  # fmt: skip


def batch() -> str:
    """The same clips by one worker and more: how many times as fast."""
    return _compare_executors("executors", ("", "seconds", "speedup", "peak memory, MiB"), power=-1)


def cluster() -> str:
    """The same clips by processes and by Ray: how many times as long."""
    return _compare_executors(
        "cluster",
        ("two workers, `full`", "seconds", "relative to processes", "peak memory, MiB"),
        power=1,
    )


def _compare_executors(part: str, headings: tuple[str, ...], power: int) -> str:
    """A part of batch.json, each row's seconds beside the first one's."""
    rows = read("batch.json")[part]
    first = next(iter(rows.values()))["seconds"]
    return table(
        headings,
        [(name, f"{row['seconds']:.1f}", f"{(row['seconds'] / first) ** power:.2f}",
          f"{row['peak_mib']:.0f}") for name, row in rows.items()],
    )  # fmt: skip


def archive() -> str:
    """What an archive of 10,000 hours at 30 frames per second costs, from one worker's CPU time."""
    frames, ms_per_hour = 10_000 * 3600 * 30, 3_600_000
    return table(
        ("video", "model", "persons a frame", "frames per second of a worker", "decoder's share",
         "CPU ms a frame", "core hours for 10,000 hours"),
        [(video["size"], model, f"{row['persons_per_frame']:.1f}", f"{row['fps']:.0f}",
          f"{100 * row['decoder_share']:.0f} %", f"{row['cpu_ms_per_frame']:.1f}",
          f"{frames * row['cpu_ms_per_frame'] / ms_per_hour:,.0f}")
         for video in read("batch.json")["full_size"].values()
         for model, row in video["models"].items()],
    )  # fmt: skip


def main() -> None:
    makers = {
        "front": front, "peers": peers, "against-float": against_float, "targets": targets,
        "fresh": fresh,
        "reliability": reliability, "start": start, "end-to-end": end_to_end,
        "detectors": detectors, "finetuning": finetuning, "tracking": tracking, "batch": batch,
        "cluster": cluster, "archive": archive, "instructions": instructions,
    }  # fmt: skip
    shared = {name: make() for name, make in makers.items()}
    pages = dict.fromkeys((ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))), shared)
    for model in MODELS:
        own = {"accuracy": accuracy(model), "slices": slices(model)}
        pages[ROOT / "models" / model / "README.md"] = shared | own
    for imported in (*SHIPPED_FLOAT_MODELS, SHIPPED_DETECTOR):
        own = {"accuracy": accuracy(imported)}
        pages[ROOT / "models" / imported / "README.md"] = shared | own
    for path, tables in pages.items():
        write_text(path, filled(path.read_text(encoding="utf-8"), tables))


if __name__ == "__main__":
    main()
