"""Limits of control groups, read from made-up trees of both versions as kernels and container engines show them."""

import os

import pytest

from runner.environment import container_limits
from runner.environment.container_limits import allowed_cores, allowed_memory, free_memory

GIB = 2**30
V2 = "35 24 0:30 {top} /sys/fs/cgroup ro,nosuid,nodev,noexec,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1_CPU = "33 31 0:30 {top} /sys/fs/cgroup/cpu,cpuacct ro,nosuid - cgroup cgroup rw,cpu,cpuacct"
V1_MEMORY = "34 31 0:31 {top} /sys/fs/cgroup/memory ro,nosuid shared:12 - cgroup cgroup rw,memory"
TMPFS = "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755"


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """tree(groups, mounts, {path: content}) -> the root of a machine of 64 cores."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)

    def tree(groups, mounts, files):
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/cgroup").write_text("\n".join(groups) + "\n")
        (tmp_path / "proc/self/mountinfo").write_text("\n".join(mounts) + "\n")
        for name, content in files.items():
            path = tmp_path / "sys/fs/cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{content}\n")
        return tmp_path

    return tree


def found(root):
    return allowed_cores(root), allowed_memory(root), free_memory(root)


def test_docker_with_version_2_shows_the_own_group_as_the_top(tree):
    files = {"cpu.max": "200000 100000", "memory.max": 4 * GIB, "memory.current": 3 * GIB,
             "memory.stat": f"anon {GIB}\ninactive_file {GIB}\nactive_file 0"}  # fmt: skip
    assert found(tree(["0::/"], [V2.format(top="/")], files)) == (2, 4 * GIB, 2 * GIB)


def test_docker_without_a_namespace_of_groups(tree):
    files = {"cpu.max": "max 100000", "memory.max": GIB, "memory.current": 0}
    root = tree(["0::/docker/0123"], [V2.format(top="/docker/0123")], files)
    assert found(root) == (64, GIB, GIB)


def test_the_narrowest_of_nested_groups_counts(tree):
    # Slurm: a step below a job, with the limits on the job; a pod of Kubernetes is the same
    files = {
        "slurm/job_1/cpu.max": "400000 100000",
        "slurm/job_1/memory.max": 8 * GIB, "slurm/job_1/memory.current": 7 * GIB,
        "slurm/job_1/step_0/cpu.max": "max 100000", "slurm/job_1/step_0/memory.max": 16 * GIB,
        "slurm/job_1/step_0/memory.current": 6 * GIB, "slurm/cpu.max": "3200000 100000", "slurm/memory.max": "max",
    }  # fmt: skip
    root = tree(["0::/slurm/job_1/step_0"], [V2.format(top="/")], files)
    assert found(root) == (4, 8 * GIB, GIB)


def test_version_1_has_a_tree_for_each_controller(tree):
    groups = ["12:memory:/kubepods/pod7/abc", "3:cpu,cpuacct:/kubepods/pod7/abc", "1:name=systemd:/kubepods", "0::/"]
    files = {
        "cpu,cpuacct/kubepods/pod7/cpu.cfs_quota_us": 350_000, "cpu,cpuacct/kubepods/pod7/cpu.cfs_period_us": 100_000,
        "cpu,cpuacct/kubepods/pod7/abc/cpu.cfs_quota_us": -1,
        "cpu,cpuacct/kubepods/pod7/abc/cpu.cfs_period_us": 100_000,
        "memory/kubepods/pod7/memory.limit_in_bytes": 2 * GIB, "memory/kubepods/pod7/memory.usage_in_bytes": GIB,
        "memory/kubepods/pod7/memory.stat": f"inactive_file 0\ntotal_inactive_file {GIB // 2}",
        "memory/kubepods/pod7/abc/memory.limit_in_bytes": 9223372036854771712,
        "memory/kubepods/pod7/abc/memory.usage_in_bytes": GIB,
    }  # fmt: skip
    root = tree(groups, [TMPFS, V1_CPU.format(top="/"), V1_MEMORY.format(top="/")], files)
    assert found(root) == (3, 2 * GIB, GIB + GIB // 2)


def test_a_container_with_version_1(tree):
    files = {"memory/memory.limit_in_bytes": GIB, "memory/memory.usage_in_bytes": GIB + 4096,
             "cpu,cpuacct/cpu.cfs_quota_us": 50_000, "cpu,cpuacct/cpu.cfs_period_us": 100_000}  # fmt: skip
    mounts = [V1_CPU.format(top="/docker/abc"), V1_MEMORY.format(top="/docker/abc")]
    root = tree(["4:memory:/docker/abc", "3:cpu,cpuacct:/docker/abc"], mounts, files)
    assert found(root) == (1, GIB, 0), "half a core is one, and nothing is left"


def test_nothing_limits_and_nothing_is_known(tree, tmp_path):
    assert found(tmp_path / "no machine") == (64, None, None)
    assert found(tree(["0::/user.slice"], [V2.format(top="/")], {"user.slice/memory.max": "max"})) == (64, None, None)


def test_odd_contents_are_no_limit(tree):
    files = {"cpu.max": "", "memory.max": "much", "memory.stat": "?"}
    assert found(tree(["0::/"], [V2.format(top="/")], files)) == (64, None, None)


def test_without_the_groups_above_a_quota_is_not_seen(tree, monkeypatch):
    root = tree(["0::/job/step"], [V2.format(top="/")], {"job/cpu.max": "200000 100000"})
    assert allowed_cores(root) == 2
    whole = container_limits._groups
    monkeypatch.setattr(container_limits, "_groups", lambda root, controller: [next(whole(root, controller))])
    assert allowed_cores(root) == 64
