"""What would be lost with a node, and what a reset takes away."""

import subprocess
from pathlib import Path

from barekube import removal, reset
from barekube.cluster import Cluster, Node
from barekube.etcd import Member

ONE, TWO, THREE = (
    Member(
        f"{number}",
        f"cp-{number}",
        f"https://a{number}:2380",
        f"https://a{number}:2379",
        learner=False,
        healthy=True,
    )
    for number in (1, 2, 3)
)
DEAD = Member("3", "cp-3", "https://a3:2380", "https://a3:2379", learner=False, healthy=False)


def test_a_name_that_nobody_has_is_answered_with_those_that_there_are() -> None:
    there, hosts = ["cp-1", "w-1"], ["cp-1", "w-1", "w-2"]
    assert removal.unknown(None, there, hosts) == (
        "name the node: --data node=NAME (the cluster has cp-1, w-1)"
    )
    assert removal.unknown("w-9", there, hosts) == (
        "w-9 is neither a node nor a host of the inventory; the cluster has cp-1, w-1"
    )
    assert removal.unknown("w-2", there, hosts) is None


def test_a_worker_and_one_of_three_well_control_planes_can_go() -> None:
    assert removal.loss([ONE], "w-1") is None
    assert removal.loss([ONE, TWO, THREE], "cp-1") is None
    assert removal.loss([ONE, TWO], "cp-1") is None


def test_a_dead_control_plane_can_go_and_a_well_one_beside_it_cannot() -> None:
    assert removal.loss([ONE, TWO, DEAD], "cp-3") is None
    assert removal.loss([ONE, TWO, DEAD], "cp-1") == (
        "without cp-1 etcd would lose its majority, and with it the API, for cp-3 does not answer;"
        " bring that control plane up, then run this again"
    )


def test_the_last_control_plane_cannot_go() -> None:
    assert (removal.loss([ONE], "cp-1") or "").startswith("cp-1 is the last control plane: the")


def test_a_node_with_osds_cannot_go_and_they_are_named() -> None:
    assert "Ceph's osd.1, osd.4:" in (
        removal.carries_data("w-2", ["mon.a", "osd.1", "osd.4"]) or ""
    )
    assert removal.carries_data("w-3", ["mon.a"]) is None


def test_addresses_are_kept_while_weaves_ring_names_the_peer() -> None:
    report = {"IPAM": {"Entries": [{"Nickname": "w-1"}, {"Nickname": "w-2"}]}}
    assert removal.kept_addresses(report, "w-2")
    assert not removal.kept_addresses(report, "w-3")
    assert not removal.kept_addresses(None, "w-2")


MASTER, OTHER = Node("cp-1", "192.0.2.11", True), Node("cp-2", "192.0.2.12", True)
WORKER = Node("w-1", "192.0.2.21", False)
CLUSTER = Cluster(
    "home", "1.37.2", "api.home", 6443, "10.96.0.0/12", "10.32.0.0/12", (MASTER, OTHER, WORKER)
)


def test_a_node_of_a_cluster_that_goes_on_is_removed_first() -> None:
    assert reset.refusal(WORKER, CLUSTER, {"w-1"}, registered=True) == (
        "w-1 is a node of a cluster that goes on on cp-1, cp-2; run deploys/remove_node.py --data"
        " node=w-1 first, which resets it too; if the whole cluster is to go, run this on all"
        " hosts, and take those that never come back out of the inventory before"
    )
    assert reset.refusal(WORKER, CLUSTER, {"w-1"}, registered=False) is None


def test_a_control_plane_is_kept_while_another_one_is_not_in_the_run_and_nobody_can_be_asked() -> (
    None
):
    assert reset.refusal(MASTER, CLUSTER, {"cp-1", "w-1"}, registered=None) == (
        "cp-1 is a control plane of a cluster that may go on on cp-2, and no API answers; bring one"
        " up and run deploys/remove_node.py --data node=cp-1, or take cp-2 out of the inventory if"
        " it never comes back"
    )
    assert reset.refusal(WORKER, CLUSTER, {"w-1"}, registered=None) is None


def test_a_node_that_is_no_host_is_not_said_to_be_reset() -> None:
    assert "take it out of the inventory" in removal.next_step("w-1", known=True)
    assert "erase it before it starts again" in removal.next_step("w-1", known=False)


def test_a_whole_cluster_goes_at_once() -> None:
    for node in CLUSTER.nodes:
        assert reset.refusal(node, CLUSTER, {"cp-1", "cp-2", "w-1"}, registered=True) is None


def test_the_script_is_one_that_a_shell_reads_and_crosses_no_file_system() -> None:
    text = reset.script("10.32.0.0/12")
    subprocess.run(["sh", "-n"], input=text, text=True, check=True)
    assert "rm -rf" not in text.replace("rm -rf /run/containerd /run/barekube;", "")
    assert "ip -4 route flush root 10.32.0.0/12 " in text
    assert text.count("find ") == text.count(" -xdev ") == len(reset.DIRECTORIES)
    # A volume that is mounted still is not deleted through.
    assert text.index("volumes are mounted") < text.index("find -H /etc/kubernetes")


def test_a_directory_that_leads_to_another_disk_is_emptied_there(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    (disk / "member").mkdir(parents=True)
    (tmp_path / "etcd").symlink_to(disk)
    text = reset.script("10.32.0.0/12").replace("/var/lib/etcd", str(tmp_path / "etcd"))
    emptied = next(part for part in text.split("; if ") if str(tmp_path) in part)
    subprocess.run(["sh", "-ec", f"if {emptied}"], check=True)
    assert list(disk.iterdir()) == []


def test_volumes_of_ceph_that_pods_use_are_seen_and_none_else() -> None:
    pods = "/var/lib/kubelet/pods/1/volumes/kubernetes.io~csi/pvc"
    mounts = [
        "/dev/ubda / ext4 rw 0 0",
        f"/dev/rbd0 {pods}-1/mount ext4 rw 0 0",
        f"10.0.0.1:6789:/ {pods}-2/mount ceph rw 0 0",
        f"tmpfs {pods}-3/mount tmpfs rw 0 0",
        "/dev/rbd1 /srv/own ext4 rw 0 0",
    ]
    assert reset.ceph_volumes("\n".join(mounts)) == [f"{pods}-1/mount", f"{pods}-2/mount"]


def test_a_member_is_not_taken_for_that_of_another_name_at_its_address() -> None:
    assert removal.renamed([ONE, TWO], "cp-1", "a1") is None
    assert removal.renamed([ONE, TWO], "w-1", "a9") is None
    assert removal.renamed([ONE, TWO], "cp-1", None) is None
    nameless = Member("4", "", "https://a4:2380", "", learner=True, healthy=False)
    assert removal.renamed([ONE, nameless], "cp-4", "a4") is None
    assert removal.renamed([ONE, TWO], "cp-4", "a2") == (
        "etcd's member at a2 is cp-2, which cp-4 would take with it; run deploys/remove_node.py"
        " --data node=cp-2 first"
    )
