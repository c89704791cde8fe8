"""Step 1 of the everyday-people training set: pictures out of public git repositories.

    git clone --bare https://github.com/Mehranai/stanford40_pose clones/Mehranai+stanford40_pose
    ...                                        (`--list` prints one such command a repository)
    python models/people/collect.py --clones clones --out people

Each source becomes a folder of `--out` with its pictures and, where it has them, the box files that
`okdhp-edge data label` reads. Nothing is decoded or changed. No source has human-made joints; what
each may be used for is in README.md beside this file.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

PICTURES = (".jpg", ".jpeg", ".png")
CLIPS = (".mkv", ".mp4")
# Roboflow writes a source picture several times: NAME_jpg.rf.HASH.jpg.
_COPY = re.compile(r"[._]rf\.[0-9a-f]+(?=\.)")
# Names of the pictures of brianhuster/human-dataset that are worth keeping: Open Images and COCO
# train2017 identifiers and a few small sets. The rest are drones, one meeting room, and cut-outs.
_HUMAN_DATASET = re.compile(
    r"/([0-9a-f]{16}_|\d{12}_|[0-9a-f]{40}_|img_|img--|train_all_data|val_all_data|crossing"
    r"|\d+_\d+_png|\d+_jpg)"
)
_LEFT_OUT_ACTIONS = ("sleeping", "hugging", "dancing", "listening_to_music", "clapping")
# Pictures of `coco2014`, numbered in the order of COCO's ids, that are in `coco_mini`, found by
# comparing pictures. `data label --exclude` leaves out whatever else looks like them.
_COCO_MINI_NUMBERS = {
    15, 27, 34, 40, 65, 3127, 3836, 7157, 10342, 11655, 13342, 17813, 18807, 21521, 21855, 23076,
    23843, 26042, 32838, 37873,
}  # fmt: skip
_MEETING_ROOM, _MEETING_FRAMES = "_human_tracking_", 20
Choose = Callable[[list[str]], Iterable[str]]


def _everything(paths: list[str]) -> Iterable[str]:
    return paths


def _one_a_copy(paths: list[str]) -> Iterable[str]:
    """The first of each group of Roboflow's copies."""
    return {_COPY.sub("", Path(path).name): path for path in reversed(paths)}.values()


def _human_dataset(paths: list[str]) -> Iterable[str]:
    kept = [path for path in paths if _HUMAN_DATASET.search(path)]
    room = [path for path in paths if _MEETING_ROOM in path]
    step = max(1, len(room) // _MEETING_FRAMES)
    return [*_one_a_copy(kept), *room[::step][:_MEETING_FRAMES]]


def _masked_faces(paths: list[str]) -> Iterable[str]:
    return [path for path in paths if "maksssksksss" in path]


def _sports_of_people(paths: list[str]) -> Iterable[str]:
    """Without chess, whose pieces a detector takes for people."""
    return [p for p in paths if ".ipynb_checkpoints" not in p and "/chess/" not in p]


def _suitable_actions(paths: list[str]) -> Iterable[str]:
    """Without the classes in which undressed people and children were seen."""
    return [path for path in paths if path.split("/")[-2] not in _LEFT_OUT_ACTIONS]


def _not_in_coco_mini(paths: list[str]) -> Iterable[str]:
    return [path for path in paths if int(Path(path).stem) not in _COCO_MINI_NUMBERS]


class Source(NamedTuple):
    """A repository.

    Attributes:
        repository: OWNER/NAME.
        commit: the tree that is read.
        folders: prefixes of the pictures' paths.
        boxes: (folder name of the pictures, folder name of the box files, their suffix).
        choose: which of the pictures.
    """

    repository: str
    commit: str
    folders: tuple[str, ...]
    boxes: tuple[str, str, str] | None = None
    choose: Choose = _everything


SOURCES = {
    "stanford40": Source(
        "Mehranai/stanford40_pose", "7346ba4d", ("JPEGImages/",),
        ("JPEGImages", "XMLAnnotations", ".xml"),
    ),
    "gatherings": Source(
        "brianhuster/human-dataset", "9d1b33dd", ("train/images/", "valid/images/", "test/images/"),
        ("images", "labels", ".txt"), _human_dataset,
    ),
    "fddb": Source(
        "penolove/pyxml", "38022d596e847522fc8ae5e10eae6a2ab52d69ee", ("FDDB2007/JPEGImages/",)
    ),
    "tweets": Source("liyunfan1223/multimodal-sentiment-analysis", "bc56365", ("data/",)),
    "flickr": Source("quantumnaan/sic_translator", "d27da85", ("data/images/",)),
    "smokers": Source(
        "edgarhovhannisyan-7/Smokers-and-not_smokers-image-classification", "da0e867",
        ("Training/", "Validation/", "Testing/"),
    ),
    "offices": Source(
        "ahsanirfan961/Person-Tracker", "49473929cfd908d54becb8a0c8d9e9f7709f5aa1",
        ("Capston2-11/",), ("images", "labels", ".txt"), _one_a_copy,
    ),
    "fashion": Source("bearpaw/clothing-co-parsing", "fe34fb7", ("photos/",)),
    "masks": Source("marellanoc/MaskON", "b6c6b2d", ("archive/images/",), None, _masked_faces),
    "gestures": Source("intel-iot-devkit/sample-videos", "5797889", ("asl_gestures/",)),
    "clothes": Source("alexeygrigorev/clothing-dataset", "7ed86a9", ("images/",)),
    "sports": Source(
        "jurjsorinliviu/Sports-Type-Classifier", "563008b07243af862b2a9d2823ea018fb622d678",
        ("data/",), None, _sports_of_people,
    ),
    "actions": Source(
        "UmaimaKhan01/RESNET-and-VIT-performance-on-Human-Action-Recognition-", "557e76ad",
        ("data/train/", "data/test/"), None, _suitable_actions,
    ),
    "sites": Source(
        "ahamedkafeel22/helmet-safety-detection", "c73ce1ea773fb0b20c4a7bb06123399e2281394a",
        ("Hard-Hat-Workers-1/",),
    ),
    "sports100": Source(
        "Vigneshraj15/SportsActivityDetection", "624cd21", ("train/", "test/", "valid/"), None,
        _sports_of_people,
    ),
    "coco2014": Source(
        "syf0122/COMP5329_Assignment02", "7c1fe6ff6a8b1498e1cb85e2fa4c3870ffdfefbb",
        ("data/data/",), None, _not_in_coco_mini,
    ),
    "captions": Source("nsimsiri/Image-Captioning", "5a11937", ("data/resized2014/",)),
    "rooms": Source("lehtoneo/cross-platform-inference-data-api", "be34c32", ("ade20k/",)),
}  # fmt: skip


def collect(clones: Path, name: str, out: Path) -> int:
    """Write one source's files; returns the number of pictures or clips."""
    source = SOURCES[name]
    git = _git_folder(clones / source.repository.replace("/", "+"))
    tree = _tree(git, source.commit)
    suffixes = PICTURES + CLIPS
    paths = [p for p in tree if p.startswith(source.folders) and p.lower().endswith(suffixes)]
    # A source's folders may repeat a file's name.
    different = {tree[path]: path for path in source.choose(paths)}.values()
    names = {path: path.replace("/", "__").replace(" ", "_") for path in different}
    if not names:
        sys.exit(f"{source.repository} at {source.commit} has no pictures; fetch its whole history")
    wanted: dict[str, list[Path]] = {tree[path]: [out / name / f] for path, f in names.items()}
    for path, file in names.items() if source.boxes else ():
        boxes = _boxes_of(path, source)
        if boxes in tree:
            # Two pictures may have byte-equal boxes.
            place = out / name / Path(file).with_suffix(Path(boxes).suffix)
            wanted.setdefault(tree[boxes], []).append(place)
    (out / name).mkdir(parents=True, exist_ok=True)
    for blob, content in _contents(git, wanted):
        for place in wanted[blob]:
            place.write_bytes(content)
    return len(names)


def _boxes_of(picture: str, source: Source) -> str:
    assert source.boxes is not None
    pictures, boxes, suffix = source.boxes
    parts = [boxes if part == pictures else part for part in Path(picture).parts]
    return str(Path(*parts).with_suffix(suffix))


def _git_folder(clone: Path) -> Path:
    for folder in (clone / "repo" / ".git", clone / "repo", clone / ".git", clone):
        if (folder / "objects").is_dir():
            return folder
    sys.exit(f"{clone} is no git repository; see --list")


def _tree(git: Path, commit: str) -> dict[str, str]:
    """Path to blob, of one commit."""
    listing = _run(git, "ls-tree", "-r", "-z", commit).decode("utf-8", "replace")
    rows = (row.partition("\t") for row in listing.split("\0") if row)
    return {path: facts.split()[2] for facts, _, path in rows}


def _contents(git: Path, blobs: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """Blob and content, through one `git cat-file --batch`."""
    command = ["git", "--git-dir", str(git), "cat-file", "--batch"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        for blob in blobs:
            reader.stdin.write(f"{blob}\n".encode())
            reader.stdin.flush()
            header = reader.stdout.readline().split()
            if header[-1] == b"missing":
                sys.exit(f"{git} lacks {blob}; fetch its whole history")
            yield blob, reader.stdout.read(int(header[2]) + 1)[:-1]


def _run(git: Path, *arguments: str) -> bytes:
    command = ["git", "--git-dir", str(git), *arguments]
    return subprocess.run(command, check=True, capture_output=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clones", type=Path, help="folder of clones named OWNER+NAME")
    parser.add_argument("--out", type=Path, default=Path("people"))
    parser.add_argument("--only", nargs="*", choices=sorted(SOURCES), default=sorted(SOURCES))
    parser.add_argument("--list", action="store_true", help="print the clone commands and stop")
    options = parser.parse_args()
    if options.list or options.clones is None:
        for source in SOURCES.values():
            folder = source.repository.replace("/", "+")
            print(f"git clone --bare https://github.com/{source.repository} clones/{folder}")
        return
    for name in options.only:
        count = collect(options.clones, name, options.out)
        print(f"{name}: {count} files in {options.out / name}", flush=True)


if __name__ == "__main__":
    main()
