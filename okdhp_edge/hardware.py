"""Facts about the machine that a latency number means nothing without."""

import os
import platform
from functools import cache
from pathlib import Path
from typing import Any


@cache
def cpu_flags() -> frozenset[str]:
    """Instruction set flags as the kernel names them; empty where it does not tell."""
    return frozenset(_cpuinfo().get("flags", _cpuinfo().get("Features", "")).split())


@cache
def _cpuinfo() -> dict[str, str]:
    """Fields of the first core."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return {}
    lines = text.split("\n\n")[0].splitlines()
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _, value in pairs}


def usable_cores() -> int:
    """Cores this process may use: affinity and the container's quota, not the host's count."""
    if hasattr(os, "sched_getaffinity"):
        affinity = len(os.sched_getaffinity(0))
    else:
        affinity = os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(affinity, int(quota) if quota else affinity))


def _cgroup_quota() -> float | None:
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()
    except (OSError, ValueError):
        return None
    return None if limit == "max" else float(limit) / float(period)


def describe_machine() -> dict[str, Any]:
    """CPU, the INT8 and BF16 units it has, cores, memory, system."""
    known = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16",
             "asimddp", "i8mm")  # fmt: skip
    return {
        "cpu": _cpuinfo().get("model name", platform.processor() or platform.machine()),
        "flags": [flag for flag in known if flag in cpu_flags()],
        "cores": usable_cores(),
        "governor": _governor(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _governor() -> str | None:
    path = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
