from okdhp_edge import hardware


def test_the_machine_is_described():
    facts = hardware.describe_machine()
    assert facts["cores"] >= 1
    assert facts["cpu"]


def test_a_containers_quota_counts_rather_than_the_hosts_cores(monkeypatch):
    monkeypatch.setattr(hardware, "_cgroup_quota", lambda: 1.5)
    assert hardware.usable_cores() == 1
