"""Machine information that belongs to every latency measurement."""

import os
import platform
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from okdhp_edge.errors import OutputError

# torch shares every tensor of a batch by a descriptor.
_MIN_DESCRIPTORS = 32


@cache
def read_cpu_flags() -> frozenset[str]:
    """Instruction set flags as the kernel names them; empty where it does not tell."""
    return frozenset(_read_cpuinfo().get("flags", _read_cpuinfo().get("Features", "")).split())


_ARM_MACHINES = ("aarch64", "arm64")
# The best first; what is named is what OpenVINO and ONNX Runtime choose their kernels by.
_INT8_UNIT_FLAGS = {
    "AMX": ("amx_int8",), "AVX512-VNNI": ("avx512_vnni",), "AVX-VNNI": ("avx_vnni",),
    "AVX512": ("avx512bw",), "AVX2": ("avx2",),
    "i8mm": ("i8mm",), "dotprod": ("asimddp",),
}  # fmt: skip
_NON_SATURATING_UNITS = ("AMX", "AVX512-VNNI", "AVX-VNNI", "i8mm", "dotprod", "NEON")


def detect_int8_units() -> str:
    """What this CPU multiplies bytes with: AMX, AVX512-VNNI, AVX-VNNI, AVX512, AVX2, SSE on x86;
    i8mm, dotprod, NEON on ARM; `unknown` where the system does not tell."""
    flags = read_cpu_flags()
    for name, needed in _INT8_UNIT_FLAGS.items():
        if flags.issuperset(needed):
            return name
    if platform.machine().lower() in _ARM_MACHINES:
        return "NEON"
    return "SSE" if flags else "unknown"


def saturates_in_int8() -> bool:
    """Whether pairs of u8 x s8 products are added in 16 bits, which they may leave: on x86 without
    VNNI, and where nobody knows."""
    return detect_int8_units() not in _NON_SATURATING_UNITS


@cache
def _read_cpuinfo(block: int = 0) -> dict[str, str]:
    """Fields of a block: there is one for each core."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    lines = text.strip().split("\n\n")[block].splitlines()
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _, value in pairs}


def count_usable_cores() -> int:
    """Cores this process may use: affinity and the container's quota, not the host's count."""
    if hasattr(os, "sched_getaffinity"):
        affinity = len(os.sched_getaffinity(0))
    else:
        affinity = os.cpu_count() or 1
    quota = _read_cgroup_quota()
    return max(1, min(affinity, int(quota) if quota else affinity))


def _read_cgroup_quota(
    mount: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")
) -> float | None:
    """Cores of the tightest quota of this process's control groups, of either version."""
    try:
        lines = membership.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    quotas = []
    for line in [*lines, "0::/"]:
        _, controllers, place = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = mount / "cpu" if controllers else mount
        group = top / place.lstrip("/")
        for folder in (group, *group.parents):
            quotas.append(_read_quota(folder))
            if folder == top:
                break
    return min((quota for quota in quotas if quota is not None), default=None)


def _read_quota(folder: Path) -> float | None:
    """Cores of one control group; None where it has no limit."""
    try:
        if (file := folder / "cpu.max").is_file():
            limit, period = file.read_text(encoding="utf-8").split()
        else:
            limit, period = ((folder / f"cpu.cfs_{what}_us").read_text(encoding="utf-8").strip()
                             for what in ("quota", "period"))  # fmt: skip
        cores = float(limit) / float(period)  # `max` is no number, and -1 no limit
    except (OSError, ValueError, ZeroDivisionError):
        return None
    return cores if cores > 0 else None


def check_descriptors(workers: int) -> None:
    """Refuse worker processes under a limit of open files in which they hang.

    Raises:
        OutputError: the limit is too low.
    """
    try:
        import resource
    except ImportError:
        return
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if workers and soft < _MIN_DESCRIPTORS * (1 + workers):
        raise OutputError(
            f"a limit of {soft} open files is too low for {workers} worker processes",
            "raise it with ulimit -n 1024, or use --workers 0",
        )


def describe_machine() -> dict[str, Any]:
    """CPU, the INT8 and BF16 units it has, cores, memory, system."""
    known = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
             "asimddp", "i8mm")  # fmt: skip
    return {
        "cpu": _read_cpu_name(),
        "flags": [flag for flag in known if flag in read_cpu_flags()],
        "cores": count_usable_cores(),
        "governor": _read_governor(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _read_cpu_name() -> str:
    """As the kernel names it; ARM's names the board, in a block of its own at the end."""
    board = _read_cpuinfo(-1).get("Model")
    return _read_cpuinfo().get("model name") or board or platform.processor() or platform.machine()


def _read_governor() -> str | None:
    path = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None


def read_sensors() -> dict[str, float | int]:
    """What this machine tells of its state now: `celsius` (the hottest zone), `mhz` (mean over
    cores), `throttled` (events since it started); what it does not tell is left out."""
    found: dict[str, float | int] = {}
    if zones := _read_numbers(Path("/sys/class/thermal"), "thermal_zone*/temp"):
        found["celsius"] = round(max(zones) / 1000, 1)
    cpus = Path("/sys/devices/system/cpu")
    if clocks := _read_numbers(cpus, "cpu[0-9]*/cpufreq/scaling_cur_freq"):
        found["mhz"] = round(sum(clocks) / len(clocks) / 1000)
    if events := _read_numbers(cpus, "cpu[0-9]*/thermal_throttle/core_throttle_count"):
        found["throttled"] = int(sum(events))
    return found


def _read_numbers(folder: Path, pattern: str) -> list[float]:
    """Of all files that can be read; sensors may vanish or refuse."""
    numbers = []
    with suppress(OSError):  # no descriptor left to list the folder
        for path in folder.glob(pattern):
            with suppress(OSError, ValueError):
                numbers.append(float(path.read_text(encoding="utf-8")))
    return numbers
