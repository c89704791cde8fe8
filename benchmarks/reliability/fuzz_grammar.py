"""Well-formed and extreme files through the real command line; counts into `reliability.json`.

    make fuzz
    python benchmarks/reliability/fuzz_grammar.py [--cases 2000] [--seed 0] [--only coco]
        [--corpus FILE]

The grammars are those of `tests/faults/grammar.py`. `--corpus` appends what failed, a line each;
the tests run the lines of `tests/faults/corpus.jsonl` again.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from counts import RESULT, record

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.faults.grammar_trial import Finding, as_corpus, explore, make_folders

_TRAIN = """
import sys
from pathlib import Path
from okdhp_edge.export.export_branch import ExportOptions, export_branch
from okdhp_edge.train.loop import train
from okdhp_edge.train.setup import TrainingOptions
from tests.helpers.tiny_models import DATA, tiny_recipe
out = Path(sys.argv[1])
trained = train(tiny_recipe(), DATA, TrainingOptions(out=out, device="cpu", workers=0))
export_branch(trained, ExportOptions(out=out))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="")
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--out", type=Path, default=RESULT, help="JSON to add the counts to.")
    options = parser.parse_args()
    bad: list[Finding] = []

    def keep(finding: Finding) -> None:
        bad.append(finding)
        print(f"--- {finding.grammar}: {finding.ended.fault}\n{finding.content[:300]!r}\n"
              f"{finding.ended.stderr[-700:]}", flush=True)  # fmt: skip
        if options.corpus:
            with options.corpus.open("a", encoding="utf-8") as file:
                file.write(as_corpus(finding) + "\n")

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "m" / "tiny"
        _train_in_child(model)
        folders = make_folders(folder, model / "fp32", model / "best.safetensors")
        scratch = folder / "scratch"
        scratch.mkdir()
        counts = explore(folders, scratch, options.cases, options.seed, keep, only=options.only)
    counted = {
        "command": f"python benchmarks/reliability/fuzz_grammar.py --cases {options.cases} "
        f"--seed {options.seed}",
        "cases": sum(counts.values()), "bad": len(bad),
        "by_grammar": {
            grammar: {o: n for (g, o), n in sorted(counts.items()) if g == grammar}
            for grammar in sorted({g for g, _ in counts})
        },
    }  # fmt: skip
    print(json.dumps(counted, indent=1))
    if not options.only:
        record("extreme_files", counted, options.out)
    sys.exit(bool(bad))


def _train_in_child(out: Path) -> None:
    """This process forks, and must not have started a runtime's threads."""
    import subprocess

    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", _TRAIN, str(out)], cwd=root, check=True,
                   capture_output=True)  # fmt: skip


if __name__ == "__main__":
    main()
