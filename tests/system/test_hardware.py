from pathlib import Path

import pytest

from okdhp_edge.errors import OutputError
from okdhp_edge.system import hardware


def test_the_machine_is_described():
    facts = hardware.describe_machine()
    assert facts["cores"] >= 1
    assert facts["cpu"]


def test_a_containers_quota_counts_rather_than_the_hosts_cores(monkeypatch):
    monkeypatch.setattr(hardware, "_read_cgroup_quota", lambda: 1.5)
    assert hardware.count_usable_cores() == 1


@pytest.mark.parametrize(
    ("membership", "files", "cores"),
    [
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3.0),
        ("0::/elsewhere\n", {"cpu.max": "200000 100000\n"}, 2.0),
        ("4:cpu,cpuacct:/d/x\n1:memory:/\n", {"cpu/d/x/cpu.cfs_quota_us": "50000\n",
         "cpu/d/x/cpu.cfs_period_us": "100000\n"}, 0.5),
        ("4:cpu:/d\n", {"cpu/d/cpu.cfs_quota_us": "-1\n", "cpu/d/cpu.cfs_period_us": "1000\n"},
         None),
        ("", {}, None),
    ],
)  # fmt: skip
def test_quotas_of_both_versions_of_control_groups_are_found(tmp_path, membership, files, cores):
    (tmp_path / "membership").write_text(membership)
    for name, content in files.items():
        (tmp_path / "mount" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mount" / name).write_text(content)
    found = hardware._read_cgroup_quota(tmp_path / "mount", tmp_path / "membership")
    assert found == cores


@pytest.mark.parametrize(
    ("machine", "flags", "units", "saturates"),
    [
        ("x86_64", "avx2 avx512bw avx512_vnni amx_int8", "AMX", False),
        ("x86_64", "avx2 avx512bw avx512_vnni", "AVX512-VNNI", False),
        ("x86_64", "avx2 avx_vnni", "AVX-VNNI", False),
        ("x86_64", "avx2 avx512bw", "AVX512", True),
        ("x86_64", "sse4_2 avx avx2", "AVX2", True),
        ("x86_64", "sse2", "SSE", True),
        ("x86_64", "", "unknown", True),
        ("aarch64", "asimd asimddp i8mm", "i8mm", False),
        ("aarch64", "asimd asimddp", "dotprod", False),
        ("aarch64", "asimd", "NEON", False),
        ("arm64", "", "NEON", False),
    ],
)
def test_what_multiplies_bytes_is_named(monkeypatch, machine, flags, units, saturates):
    monkeypatch.setattr(hardware.platform, "machine", lambda: machine)
    monkeypatch.setattr(hardware, "read_cpu_flags", lambda: frozenset(flags.split()))
    assert hardware.detect_int8_units() == units
    assert hardware.saturates_in_int8() is saturates


def test_an_arm_board_is_called_by_its_name(monkeypatch):
    text = "processor\t: 0\nFeatures\t: fp asimd\n\nRevision\t: c03114\nModel\t: Raspberry Pi 4\n"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: text)
    hardware._read_cpuinfo.cache_clear()
    try:
        assert hardware._read_cpu_name() == "Raspberry Pi 4"
    finally:
        hardware._read_cpuinfo.cache_clear()


@pytest.mark.parametrize(
    ("soft", "workers", "refused"),
    [(20, 1, True), (1024, 1, False), (20, 0, False), (100, 8, True)],
)
def test_workers_need_descriptors(monkeypatch, soft, workers, refused):
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, soft))
    if not refused:
        hardware.check_descriptors(workers)
        return
    with pytest.raises(OutputError, match=rf"{soft} open files is too low for {workers} worker"):
        hardware.check_descriptors(workers)
