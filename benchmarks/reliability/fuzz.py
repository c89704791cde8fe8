"""Thousands of hostile files, each read in a child of its own; counts into `reliability.json`.

    make fuzz
    python benchmarks/reliability/fuzz.py [--cases 10000] [--seed 0] [--only "coco"]

The kinds of files and their readers are those of `tests/faults/targets.py`, the ways of breaking
them those of `mutations.py`. Every bad case is printed with its target and seed, by which
`tests.faults.runner.try_case` makes it again.
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

from counts import RESULT, record

sys.path.insert(0, str(Path(__file__).parents[2]))

from okdhp_edge.export.export_branch import ExportOptions, export_branch
from okdhp_edge.train.loop import train
from okdhp_edge.train.setup import TrainingOptions
from tests.faults.runner import BAD, try_many
from tests.faults.targets import make_valid
from tests.helpers.tiny_models import DATA, tiny_recipe


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--out", type=Path, default=RESULT, help="JSON to add the counts to.")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = TrainingOptions(out=folder / "m" / "tiny", device="cpu", workers=0)
        trained = train(tiny_recipe(), DATA, options)
        exported = export_branch(trained, ExportOptions(out=trained.parent))
        valid = make_valid(folder / "valid", exported, trained)
        scratch = folder / "scratch"
        scratch.mkdir()
        found = try_many(valid, scratch, asked.cases, asked.seed, only=asked.only, verbose=True)
    bad = [case for case in found if case.outcome in BAD]
    for case in bad[:60]:
        print(f"--- {case.target}, seed {case.seed}: {case.outcome}\n{case.said[-900:]}")
    counts = Counter((case.target, case.outcome) for case in found)
    kinds = sorted({target for target, _ in counts})
    counted = {
        "command": f"python benchmarks/reliability/fuzz.py --cases {asked.cases} "
        f"--seed {asked.seed}",
        "cases": len(found), "bad": len(bad),
        "by_target": {
            kind: {outcome: n for (target, outcome), n in sorted(counts.items()) if target == kind}
            for kind in kinds
        },
    }  # fmt: skip
    print(json.dumps(counted, indent=1))
    if not asked.only:
        record("hostile_files", counted, asked.out)
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
