"""What surrounds the networks on an ARM Cortex-A76, in instructions of an emulated one.

    python benchmarks/speed/instructions.py [--models lite full] [--runtimes onnxruntime]
        [--work .targets]

An emulator has no time, but it can count. For each runtime a Python of Debian for ARM (set up by
`benchmarks/accuracy/targets.py`) loads a model's INT8 file with one thread and repeats one thing:
the detector's network, the pose model's, or a call on an image with one person, which is both and
what lies around them. Two runs that differ in the number of repetitions give the instructions of
one; a run without any gives those of a start. Needs `qemu-user` (its static build takes no plugins)
and gcc. OpenVINO, which compiles the network in each run, takes minutes for one.
The result goes to `results/instructions.json`.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks" / "accuracy"))

import targets  # noqa: E402

from okdhp_edge.system.files import write_text  # noqa: E402
from okdhp_edge.system.hardware import describe_machine  # noqa: E402

RESULT = ROOT / "benchmarks" / "results" / "instructions.json"
IMAGE = ROOT / "docs" / "person.jpg"
FEW, MANY = 3, 13
CPU = "cortex-a76"

# Adds up the instructions of each translated block as it is executed. The declarations are those of
# QEMU's plugin interface, version 1.
_COUNTER = """
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

struct qemu_plugin_tb;
int qemu_plugin_version = 1;
void qemu_plugin_register_vcpu_tb_trans_cb(uint64_t, void (*)(uint64_t, struct qemu_plugin_tb *));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
void qemu_plugin_register_atexit_cb(uint64_t, void (*)(uint64_t, void *), void *);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);

static uint64_t count;

static void on_translation(uint64_t id, struct qemu_plugin_tb *block) {
    qemu_plugin_register_vcpu_tb_exec_inline(block, 0, &count, qemu_plugin_tb_n_insns(block));
}

static void on_exit(uint64_t id, void *unused) {
    fprintf(stderr, "\\ninstructions %llu\\n", (unsigned long long)count);
}

int qemu_plugin_install(uint64_t id, const void *info, int argc, char **argv) {
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translation);
    qemu_plugin_register_atexit_cb(id, on_exit, NULL);
    return 0;
}
"""

_GUEST = """
import sys
import cv2
import numpy as np
import okdhp_edge
what, name, runtime, count, path = sys.argv[1:]
model = okdhp_edge.load(name, backend=runtime, precision="int8", threads=1)
image = cv2.imread(path)
detector = model._find_people()
backend = detector._backend if what == "detector" else model._backend
spec = backend.card.input
crop = np.zeros((1, spec.height, spec.width, 3), np.uint8)
for _ in range(int(count)):
    model(image) if what == "call" else backend.infer_all(crop)
"""


class Emulator:
    """An ARM Python whose instructions are counted."""

    def __init__(self, work: Path, scratch: Path) -> None:
        targets.set_up(work)
        source, self._plugin = scratch / "count.c", scratch / "count.so"
        source.write_text(_COUNTER)
        subprocess.run(
            ["gcc", "-shared", "-fPIC", "-O2", "-o", str(self._plugin), str(source)], check=True
        )
        self._root = (work / "arm64").resolve()
        self._scratch = scratch

    def count(self, what: str, model: str, runtime: str, repetitions: int) -> int:
        """Instructions of the whole process."""
        command = ["qemu-aarch64", "-L", str(self._root), "-cpu", CPU, "-plugin",
                   str(self._plugin), str(self._root / "usr/bin/python3.11"), "-c", _GUEST, what,
                   model, runtime, str(repetitions), str(IMAGE)]  # fmt: skip
        paths = f"{self._root / 'site'}:{ROOT}"
        done = subprocess.run(
            command, capture_output=True, text=True, check=False,
            env=os.environ | {"PYTHONPATH": paths, "XDG_CACHE_HOME": str(self._scratch)},
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{what} of {model} in {runtime}: {done.stderr[-500:]}")
        found = re.findall(r"^instructions (\d+)$", done.stderr, re.MULTILINE)
        return int(found[-1])  # processes that it started end before it

    def measure(self, model: str, runtime: str) -> dict[str, float]:
        """Millions of instructions of a start, of either network and of a call."""
        start = self.count("call", model, runtime, 0)
        row = {"start": start / 1e6}
        for what in ("detector", "pose", "call"):
            few, many = (self.count(what, model, runtime, n) for n in (FEW, MANY))
            row[what] = (many - few) / (MANY - FEW) / 1e6
        row["around"] = row["call"] - row["detector"] - row["pose"]
        return {name: round(value, 2) for name, value in row.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["lite", "full"])
    parser.add_argument("--runtimes", nargs="+", default=["onnxruntime"])
    parser.add_argument("--work", type=Path, default=ROOT / ".targets")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        emulator = Emulator(options.work, Path(scratch))
        rows = []
        for model in options.models:
            for runtime in options.runtimes:
                row = {"model": model, "runtime": runtime, **emulator.measure(model, runtime)}
                rows.append(row)
                print(json.dumps(row), flush=True)
    content: dict[str, Any] = {
        "command": f"python benchmarks/speed/instructions.py --models {' '.join(options.models)} "
        f"--runtimes {' '.join(options.runtimes)}",
        "machine": describe_machine(), "cpu": CPU, "unit": "million instructions", "rows": rows,
    }  # fmt: skip
    write_text(RESULT, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
