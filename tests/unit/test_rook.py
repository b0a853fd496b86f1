"""What of Rook's manifests is refused, which of its files are taken, and when Ceph is well."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import urllib3
import yaml

from barekube import fetch, manifests, rook
from barekube.manifests import Object
from barekube.rook import ALLOWED, Upstream, Wrong, health, lacking, lock, named, placed, problem

DISK = "/dev/disk/by-id/ata-X_1"
HOSTS = ["metal-1", "metal-2", "metal-3", "metal-4"]


def _cluster(nodes: object, **storage: object) -> list[tuple[str, Object]]:
    spec = {"mon": {"count": 3}, "storage": {"nodes": nodes, **storage}}
    metadata = {"name": "rook-ceph", "namespace": "rook-ceph"}
    cluster = {"apiVersion": "ceph.rook.io/v1", "kind": "CephCluster", "metadata": metadata}
    return [("m/cluster.yaml", {**cluster, "spec": spec})]


def _on(*hosts: str) -> list[dict[str, object]]:
    return [{"name": host, "devices": [{"name": DISK}]} for host in hosts]


def _of(*devices: dict[str, object]) -> dict[str, object]:
    return {"name": "metal-1", "devices": list(devices)}


_YES = {"confirmation": "yes-really"}


def test_disks_are_read_from_the_manifest_by_host() -> None:
    assert named(_cluster(_on("metal-1", "metal-2"))) == {"metal-1": (DISK,), "metal-2": (DISK,)}


@pytest.mark.parametrize(
    ("documents", "sentence"),
    [
        (
            _cluster([{"name": "metal-1", "devices": [{"name": "sdb"}]}]),
            "m/cluster.yaml: sdb of metal-1 can be another disk after a boot; name it by"
            " /dev/disk/by-id/... or /dev/disk/by-path/...",
        ),
        (
            _cluster([{"name": "metal-1", "devices": [{"name": DISK}, {"name": DISK}]}]),
            f"m/cluster.yaml: {DISK} of metal-1 is named twice; name it once",
        ),
        (
            _cluster([], useAllDevices=True),
            "m/cluster.yaml: useAllDevices lets Rook choose disks; take it out and name each disk",
        ),
        (
            _cluster([{"name": "metal-1", "deviceFilter": "^sd.", "devices": []}]),
            "m/cluster.yaml: deviceFilter lets Rook choose disks; take it out and name each disk",
        ),
        (
            _cluster([{"name": "metal-1", "devices": [DISK]}]),
            "m/cluster.yaml: storage.nodes is a list of {name: HOST, devices: [{name: DISK}, ...]};"
            " correct it",
        ),
        *(
            (
                [("m/cluster.yaml", {**_cluster([])[0][1], "spec": spec})],
                "m/cluster.yaml: storage.nodes is a list of {name: HOST, devices: [{name: DISK},"
                " ...]}; correct it",
            )
            for spec in ([1], {"storage": [1]}, {"storage": {"nodes": _on(1)}})  # type: ignore[arg-type]
        ),
        (
            _cluster([{"name": "metal-1", "devices": [{"name": 5}]}]),
            "m/cluster.yaml: storage.nodes is a list of {name: HOST, devices: [{name: DISK}, ...]};"
            " correct it",
        ),
        (
            _cluster([{"name": "metal-1", "devices": [{"name": "sdb"}]}, *_on("metal-1")]),
            "m/cluster.yaml: metal-1 is there twice; name all its disks in one place",
        ),
        *(
            (
                _cluster(nodes, **storage),
                f"m/cluster.yaml: by {key} Rook takes a disk that nothing has looked at; take it"
                " out, and name each disk in devices",
            )
            for key, nodes, storage in (
                ("fullpath", [_of({"name": DISK, "fullpath": "/dev/sda"})], {}),
                (
                    "metadataDevice",
                    [_of({"name": DISK, "config": {"metadataDevice": "sda"}})],
                    {},
                ),
                ("metadataDevice", [], {"config": {"metadataDevice": "sda"}}),
                ("walDevice", [{**_of(), "config": {"walDevice": "sda"}}], {}),
                ("storageClassDeviceSets", [], {"storageClassDeviceSets": [{"name": "x"}]}),
            )
        ),
        *(
            (
                [("m/cluster.yaml", {**_cluster([])[0][1], "spec": spec})],
                f"m/cluster.yaml: {path} lets Rook empty disks; take it out",
            )
            for path, spec in (
                ("cleanupPolicy.confirmation", {"cleanupPolicy": {"confirmation": "yes-really"}}),
                (
                    "cleanupPolicy.wipeDevicesFromOtherClusters",
                    {"cleanupPolicy": {"wipeDevicesFromOtherClusters": True}},
                ),
                ("storage.migration.confirmation", {"storage": {"migration": _YES}}),
                ("storage.store.updateStore", {"storage": {"store": {"updateStore": "yes"}}}),
            )
        ),
        ([], "storage_manifests has 0 objects CephCluster; have one there"),
    ],
)
def test_a_disk_that_is_not_named_for_good_is_refused(
    documents: list[tuple[str, Object]], sentence: str
) -> None:
    with pytest.raises(Wrong) as refused:
        named(documents)
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    ("nodes", "group", "sentence"),
    [
        ([], [], None),
        (_on("metal-1", "metal-2", "metal-3"), ["metal-1", "metal-2", "metal-3"], None),
        (
            _on("metl-1"),
            ["metal-1"],
            "m/cluster.yaml: metl-1 is no host of the inventory; did you mean metal-1?",
        ),
        (
            _on("metal-1"),
            [],
            "m/cluster.yaml names disks of metal-1; name metal-1 in the inventory's group storage"
            " too",
        ),
        (
            _on("metal-1"),
            ["metal-1", "metal-2"],
            "metal-2 is in the inventory's group storage, and m/cluster.yaml names no disk of it;"
            " name its disks there, or take it out of the group",
        ),
        (
            _on("metal-1", "metal-2"),
            ["metal-1", "metal-2"],
            "m keeps its copies on 3 hosts, and group storage has 2; name more there, or set"
            " storage_manifests to 'manifests/rook-small' in group_data, which is not safe",
        ),
    ],
)
def test_group_storage_and_the_manifest_have_to_name_the_same_hosts(
    nodes: list[dict[str, object]], group: list[str], sentence: str | None
) -> None:
    documents = _cluster(nodes)
    assert problem(documents, named(documents), group, HOSTS) == sentence


def _pool(**spec: object) -> tuple[str, Object]:
    labels = spec.pop("labels", {})
    metadata = {"name": "block", "namespace": "rook-ceph", "labels": labels}
    return "m/pools.yaml", {"kind": "CephBlockPool", "metadata": metadata, "spec": spec}


_CODED = {"dataChunks": 4, "codingChunks": 2}


@pytest.mark.parametrize(
    ("pool", "sentence"),
    [
        (_pool(replicated={"size": 3}), None),
        # Rook writes these zeros by itself.
        (_pool(replicated={"size": 3}, erasureCoded={"dataChunks": 0, "codingChunks": 0}), None),
        (
            _pool(replicated={"size": 4}, failureDomain=None),
            "m keeps its copies on 4 hosts, and group storage has 3; name more there, or set"
            " storage_manifests to 'manifests/rook-small' in group_data, which is not safe",
        ),
        (
            _pool(erasureCoded=_CODED),
            "m keeps its copies on 6 hosts, and group storage has 3; name more there, or set"
            " storage_manifests to 'manifests/rook-small' in group_data, which is not safe",
        ),
        (
            _pool(replicated={"size": 5}, failureDomain="osd"),
            "m keeps its copies on 5 disks, and m/cluster.yaml names 3; name more there",
        ),
    ],
)
def test_there_is_a_host_or_a_disk_for_each_copy(
    pool: tuple[str, Object], sentence: str | None
) -> None:
    documents = [*_cluster(_on(*HOSTS[:3])), pool]
    assert problem(documents, named(documents), HOSTS[:3], HOSTS) == sentence


@pytest.mark.parametrize(
    ("pool", "sentence"),
    [
        (
            _pool(replicated={"size": 2}),
            "m/pools.yaml: CephBlockPool rook-ceph/block keeps 2 copies; keep 3, or say that it is"
            ' not safe by the label barekube/unsafe: "true"',
        ),
        (
            _pool(erasureCoded={"dataChunks": 2, "codingChunks": 1}),
            "m/pools.yaml: CephBlockPool rook-ceph/block keeps 2 copies; keep 3, or say that it is"
            ' not safe by the label barekube/unsafe: "true"',
        ),
        *(
            (
                _pool(**spec),
                "m/pools.yaml: how many copies CephBlockPool rook-ceph/block keeps cannot be read;"
                " correct it",
            )
            for spec in ({}, {"replicated": 3}, {"replicated": {"size": "all"}})
        ),
    ],
)
def test_few_copies_are_kept_only_where_the_manifest_calls_it_unsafe(
    pool: tuple[str, Object], sentence: str
) -> None:
    documents = [*_cluster(_on(*HOSTS[:3])), pool]
    with pytest.raises(Wrong) as refused:
        problem(documents, named(documents), HOSTS[:3], HOSTS)
    assert str(refused.value) == sentence
    pool[1]["metadata"]["labels"]["barekube/unsafe"] = "true"
    if "keeps 2" in sentence:
        assert problem(documents, named(documents), HOSTS[:3], HOSTS) is None


@pytest.mark.parametrize("count", ["three", [1]])
def test_a_count_of_monitors_that_is_no_number_is_refused(count: object) -> None:
    documents = _cluster(_on(*HOSTS[:3]))
    documents[0][1]["spec"]["mon"] = {"count": count}
    with pytest.raises(Wrong, match="CephCluster rook-ceph/rook-ceph keeps cannot be read"):
        problem(documents, named(documents), HOSTS[:3], HOSTS)


@pytest.mark.parametrize(("shape", "hosts", "each"), [("rook", 3, 1), ("rook-small", 1, 2)])
def test_our_own_manifests_are_content_with_so_many_hosts_and_disks_and_no_fewer(
    shape: str, hosts: int, each: int
) -> None:
    documents = manifests.read(Path("manifests") / shape)
    cluster = next(item for _, item in documents if item["kind"] == "CephCluster")
    assert cluster["spec"]["storage"].pop("nodes") == []
    devices = [{"name": f"{DISK}{number}"} for number in range(each)]
    nodes = [{"name": host, "devices": devices} for host in HOSTS[:hosts]]
    cluster["spec"]["storage"]["nodes"] = nodes
    disks = named(documents)
    assert problem(documents, disks, HOSTS[:hosts], HOSTS) is None
    if hosts > 1:
        few = {host: disks[host] for host in HOSTS[: hosts - 1]}
        assert problem(documents, few, HOSTS[: hosts - 1], HOSTS)
    else:
        one = {host: named_disks[:1] for host, named_disks in disks.items()}
        assert problem(documents, one, HOSTS[:hosts], HOSTS) == (
            f"manifests/{shape} keeps its copies on 2 disks, and manifests/{shape}/cluster.yaml"
            " names 1; name more there"
        )
    unsafe = [item for _, item in documents if "barekube/unsafe" in item["metadata"]["labels"]]
    assert bool(unsafe) == (shape == "rook-small")


def test_the_small_shape_is_the_other_but_for_counts_and_labels() -> None:
    small, large = (
        {manifests.title(each) for _, each in manifests.read(Path(f"manifests/{shape}"))}
        for shape in ("rook-small", "rook")
    )
    assert small == large


def test_the_lock_names_rooks_files_in_the_order_in_which_they_are_applied() -> None:
    path = Path("manifests/rook/upstream.lock")
    found = lock(str(path), path.read_text())
    assert [each.title for each in found] == [
        "Rook's crds v1.20.6",
        "Rook's common v1.20.6",
        "Rook's csi-operator v1.20.6",
        "Rook's operator v1.20.6",
    ]
    assert found[0].sha256[:8] == "7fa7462d"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("crds v1 https://r/crds.yaml", "l, line 1: write a name, a version, an address, a SHA"),
        (f"# x\n\ncrds v1 u {'f' * 63}", "l, line 3: write a name, a version, an address, a SHA"),
        (f"common v1 u {'f' * 64}", "l has to name crds, common, csi-operator, operator, in this"),
        (
            "\n".join(
                f"{name} v{1 + (name == 'operator')} u {'f' * 64}"
                for name in ("crds", "common", "csi-operator", "operator")
            ),
            "l names files of v1 and v2; take all of one release",
        ),
    ],
)
def test_a_lock_that_cannot_be_relied_on_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(Wrong) as refused:
        lock("l", text)
    assert str(refused.value).startswith(sentence)


def _file(content: bytes, url: str = "http://127.0.0.1:9/crds.yaml") -> Upstream:
    return Upstream("crds", "v1", url, hashlib.sha256(content).hexdigest())


def test_a_file_that_is_kept_is_taken_if_it_still_is_what_the_lock_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetch, "CACHE", tmp_path)
    file = _file(b"kind: A\n")
    (tmp_path / file.sha256).write_bytes(b"kind: A\n")
    assert fetch.fetched(file, None, None) == b"kind: A\n"
    (tmp_path / file.sha256).write_bytes(b"kind: B\n")
    with pytest.raises(fetch.NotFetched) as refused:
        fetch.fetched(file, None, None)
    assert str(refused.value) == (
        "Rook's crds v1 cannot be fetched from http://127.0.0.1:9/crds.yaml (MaxRetryError); put it"
        f" at {tmp_path / file.sha256} yourself"
    )


def test_a_cache_that_cannot_be_read_or_written_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = _file(b"kind: A\n")
    monkeypatch.setattr(fetch, "CACHE", tmp_path)
    (tmp_path / file.sha256).mkdir()
    with pytest.raises(fetch.NotFetched, match=r"cannot be read \(Is a directory\); remove it"):
        fetch.fetched(file, None, None)
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(fetch, "CACHE", tmp_path / "file")
    answer = _Answer(b"kind: A\n")
    monkeypatch.setattr(urllib3.PoolManager, "request", lambda *arguments, **options: answer)
    with pytest.raises(fetch.NotFetched, match="cannot be written"):
        fetch.fetched(file, None, None)


class _Answer:
    def __init__(self, data: bytes, status: int = 200) -> None:
        self.data, self.status = data, status


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (_Answer(b"kind: B\n"), "is not the file that the lock names (another SHA-256)"),
        (_Answer(b"", 404), "(answer 404); put it at"),
    ],
)
def test_a_file_that_is_missing_or_altered_is_neither_taken_nor_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: _Answer, words: str
) -> None:
    monkeypatch.setattr(fetch, "CACHE", tmp_path / "cache")
    pool = urllib3.PoolManager
    monkeypatch.setattr(pool, "request", lambda *arguments, **options: answer)
    with pytest.raises(fetch.NotFetched) as refused:
        fetch.fetched(_file(b"kind: A\n"), None, None)
    assert words in str(refused.value)
    assert not (tmp_path / "cache").exists()


def test_of_a_bundle_a_file_is_fetched_by_its_digest_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(fetch, "CACHE", tmp_path)

    def request(self: object, method: str, url: str, **options: object) -> _Answer:
        asked.append(url)
        return _Answer(b"kind: A\n")

    monkeypatch.setattr(urllib3.PoolManager, "request", request)
    file = _file(b"kind: A\n")
    for _ in range(2):
        assert fetch.fetched(file, "https://b:8443", None) == b"kind: A\n"
    assert asked == [f"https://b:8443/files/{file.sha256}"]


def test_rooks_pods_are_kept_to_cephs_cpus_volumes_go_anywhere_and_nothing_else_changes() -> None:
    term = {"key": "kubernetes.io/arch", "operator": "In", "values": ["amd64", "arm64"]}
    required = {"nodeSelectorTerms": [{"matchExpressions": [term]}]}
    wanted = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}
    operator: Object = yaml.safe_load(
        "{apiVersion: apps/v1, kind: Deployment, spec: {template: {spec: {containers: []}}}}"
    )
    assert placed(operator)["spec"]["template"]["spec"] == {"containers": [], "affinity": wanted}
    driver: Object = yaml.safe_load("{apiVersion: csi.ceph.io/v1, kind: Driver, spec: {a: 1}}")
    anywhere = {"affinity": wanted, "tolerations": [{"operator": "Exists"}]}
    assert placed(driver)["spec"] == {
        "a": 1,
        "nodePlugin": anywhere,
        "controllerPlugin": {"affinity": wanted},
    }
    assert driver["spec"] == {"a": 1}
    other: Object = {"apiVersion": "v1", "kind": "ConfigMap"}
    assert placed(other) == other


_POOL: Object = {
    "kind": "CephBlockPool",
    "metadata": {"name": "block", "namespace": "rook-ceph", "generation": 2},
}


@pytest.mark.parametrize(
    ("live", "words"),
    [
        (None, "CephBlockPool rook-ceph/block is not there"),
        (_POOL, "CephBlockPool rook-ceph/block is new: its operator has said nothing yet"),
        (
            {**_POOL, "status": {"phase": "Progressing", "message": "Configuring"}},
            "CephBlockPool rook-ceph/block is Progressing: Configuring",
        ),
        (
            {**_POOL, "status": {"phase": "Ready", "observedGeneration": 1}},
            "CephBlockPool rook-ceph/block: its operator has not seen the change yet",
        ),
        ({**_POOL, "status": {"phase": "Ready", "observedGeneration": 2}}, None),
    ],
)
def test_an_object_of_rooks_is_ready_when_it_says_so_of_its_newest_state(
    live: Object | None, words: str | None
) -> None:
    assert lacking(_POOL, live) == words


def _ceph(state: str, **checks: str) -> Object:
    details = {
        name: {"severity": severity, "message": "so it is"} for name, severity in checks.items()
    }
    return {"status": {"ceph": {"health": state, "details": details}}}


KEYS = "AUTH_INSECURE_CLIENT_KEY_TYPE"
# What Ceph 20.2.4 says of a whole cluster with such keys (the drill, three hosts).
OF_AES = (KEYS, "AUTH_INSECURE_KEYS_ALLOWED", "AUTH_INSECURE_KEYS_CREATABLE")


@pytest.mark.parametrize(
    ("live", "wrong", "passed"),
    [
        (_ceph("HEALTH_OK"), None, []),
        (_ceph("HEALTH_WARN", **dict.fromkeys(OF_AES, "HEALTH_WARN")), None, [*OF_AES]),
        (
            _ceph("HEALTH_WARN", **{KEYS: "HEALTH_WARN", "OSD_DOWN": "HEALTH_WARN"}),
            "OSD_DOWN: so it is",
            [KEYS],
        ),
        (
            _ceph("HEALTH_WARN", BLUESTORE_SLOW_OP_ALERT="HEALTH_WARN", SLOW_OPS="HEALTH_WARN"),
            "SLOW_OPS: so it is",
            ["BLUESTORE_SLOW_OP_ALERT"],
        ),
        (_ceph("HEALTH_ERR", **{KEYS: "HEALTH_ERR"}), f"{KEYS}: so it is", []),
        (_ceph("HEALTH_ERR"), "Ceph's health is HEALTH_ERR", []),
        (_ceph("HEALTH_WARN"), "Ceph's health is HEALTH_WARN", []),
        ({}, "Ceph's health is not known yet", []),
    ],
)
def test_ceph_is_well_only_if_each_of_its_checks_is_allowed_for_a_reason(
    live: Object, wrong: str | None, passed: list[str]
) -> None:
    assert health(live) == (wrong, [f"Ceph says {each}: {ALLOWED[each]}" for each in passed])


def test_all_of_ours_that_is_in_a_namespace_is_in_rooks() -> None:
    spaces = {
        each["metadata"]["namespace"]
        for _, each in manifests.read(Path("manifests/rook"))
        if each["kind"] != "StorageClass"
    }
    assert spaces == {rook.SPACE}


def _bound(name: str, node: str | None) -> SimpleNamespace:
    selector = {"kubernetes.io/hostname": node} if node else None
    template = SimpleNamespace(spec=SimpleNamespace(node_selector=selector))
    return SimpleNamespace(
        metadata=SimpleNamespace(name=name), spec=SimpleNamespace(template=template)
    )


def test_what_of_ceph_is_bound_to_a_node_is_known_though_it_does_not_run() -> None:
    there = [
        _bound("rook-ceph-osd-3", "w-1"),
        _bound("rook-ceph-mon-a", "w-1"),
        _bound("rook-ceph-osd-1", "w-2"),
        _bound("rook-ceph-mon-b", None),
    ]
    assert rook.carried("w-1", there) == ["mon.a", "osd.3"]
    assert rook.carried("w-3", there) == []


NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("health", "checked", "seen", "why"),
    [
        ("HEALTH_OK", "2026-11-23T11:59:30Z", None, None),
        ("HEALTH_OK", "2026-11-23T11:59:30Z", "2026-11-23T11:58:30Z", None),
        (
            "HEALTH_OK",
            "2026-11-23T11:59:30Z",
            "2026-11-23T11:59:30Z",
            "Rook has not looked at it again yet",
        ),
        (
            "HEALTH_OK",
            "2026-11-23T11:49:30Z",
            None,
            "Rook has not looked at it since 2026-11-23T11:49:30Z; see whether its operator runs",
        ),
        (
            "HEALTH_OK",
            "",
            None,
            "Rook has not looked at it since its beginning; see whether its operator runs",
        ),
        ("HEALTH_ERR", "2026-11-23T11:59:30Z", None, "Ceph's health is HEALTH_ERR"),
    ],
)
def test_a_machine_with_ceph_may_go_once_rook_has_lately_found_it_well(
    health: str, checked: str, seen: str | None, why: str | None
) -> None:
    live = _ceph(health)
    live["status"]["ceph"]["lastChecked"] = checked
    assert rook.unsettled(live, NOW, seen) == why
