"""The verdict on all hosts, before anything is changed on any."""

from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

from gevent.lock import RLock
from pyinfra import host, state
from pyinfra.api import Host, StringCommand, operation

from barekube import api_proxy, parts, peers, preflight, remote, rook, settings, versions
from barekube.cluster import Cluster
from barekube.facts.preflight import CheckupFact, Sources, SyncTimes, Unreached
from barekube.living import moved
from barekube.operations import disks as disk_operations
from barekube.operations import doors as door_operations
from barekube.operations import packages
from barekube.operations.order import refuse
from barekube.preflight import Checkup, Wanted

# What each host said: once while preparing, once while executing.
_said: dict[tuple[bool, str], Checkup | None] = {}
_findings: dict[tuple[bool, str], list[str]] = {}
# What the files of this machine have that is no use, and what has only ended, found out at the
# same times.
_of_the_site: dict[bool, tuple[list[str], list[str]]] = {}
_locks: dict[str, RLock] = {}


def _ask(other: Host) -> Checkup | None:
    with _locks.setdefault(other.name, RLock()):
        key = (state.is_executing, other.name)
        if key not in _said:
            _said[key] = other.get_fact(CheckupFact)
            _findings[key] = _own_findings(other, _said[key])
        return _said[key]


def _own_findings(other: Host, said: Checkup | None) -> list[str]:
    if said is None:
        return ["it cannot be examined; mend the error above, then run again"]
    cluster = settings.cluster()
    node = cluster.node(other.name)
    wanted = Wanted(
        node.name,
        node.address,
        node.control_plane,
        cluster.ignored_preflight,
        cluster.networks,
        cluster.version,
        bundle=bool(other.data.bundle_url),
        proxy=api_proxy.images(cluster, node.name),
    )
    result = preflight.findings(said, wanted)
    if said.server and (wrong := moved(said.server, cluster.endpoint)):
        result.append(wrong)
    if node.control_plane and not remote.forwards(other):
        result.append(
            "its SSH server forwards no port, by which the API is reached; set AllowTcpForwarding"
            " yes (or local) in its sshd_config"
        )
    # Where it is known what they are.
    release = said.release in preflight.RELEASES.get(said.distribution, ())
    known = said.root and release and preflight.architecture(said)
    there = not wanted.bundle or parts.bundled(said.distribution, said.release)
    return result + (_sources(other, said, wanted) if known and there else [])


def _sources(other: Host, said: Checkup, wanted: Wanted) -> list[str]:
    """What of the sources that are still needed does not answer."""
    release = {
        "ID": said.distribution,
        "VERSION_ID": said.release,
        "VERSION_CODENAME": said.codename,
    }
    exact = {"containerd.io": versions.CONTAINERD_DEB}
    exact |= {"kubelet": f"{other.data.kubernetes_version}-1.1"}
    if all(said.packages.get(k) == v for k, v in versions.written_out(exact, release).items()):
        return []
    bundle = other.data.bundle_url
    if not bundle and not said.trusts:
        other.log("its sources are tried once host.py has installed CA certificates: it has none")
        return []
    names = [*(["debian"] if bundle else []), "containerd", "kubernetes"]
    sources = [settings.source(name, release, other) for name in names]
    urls = [source.release_file for source in sources]
    urls.append(f"{bundle or 'https://registry.k8s.io'}/v2/")
    arch = preflight.architecture(said) or ""
    # A bundle can lack an architecture altogether.
    indexes = {source.index(versions.DEBIAN_ARCHITECTURES[arch]): source for source in sources}
    urls += [url for url in indexes if bundle and url]
    network = settings.pod_network(Path(other.data.network_manifests)).images
    more = (*network, *wanted.proxy)
    needed = parts.images(wanted.version, more, control_plane=wanted.control_plane)
    images = parts.indexes(bundle, needed) if bundle else {}
    ca = Path(other.data.bundle_ca).read_text() if bundle else ""
    signed = [source for source in sources if source.name != "debian"]
    texts = [*(source.key_url for source in signed), *images]
    got = other.get_fact(Sources, urls=urls, texts=texts, ca=ca)
    if got is None:
        return ["its sources cannot be tried; mend the error above, then run again"]
    deaf = [url for url in got.silent if url not in indexes and url not in images]
    if bundle and deaf == [sources[-1].release_file]:
        minor = versions.kubernetes_minor(wanted.version)
        return [f"the bundle has no Kubernetes {minor}; {parts.remedy(arch, wanted.version)}"]
    if deaf:
        return [f"{url} does not answer; mend its network, or group_data's source" for url in deaf]
    lacks = [
        f"the bundle has no {indexes[url].name} packages of {said.codename} for {arch};"
        f" {parts.remedy(arch, versions.KUBERNETES)}"
        for url in got.silent
        if url in indexes
    ]
    lacks += parts.lacking(images, arch, got.texts)
    return lacks or [
        packages.wrong_key(source)
        for source in signed
        if not packages.is_key(source.fingerprint, got.texts.get(source.key_url, ""))
    ]


@operation()
def neighbours(cluster: Cluster) -> Generator[StringCommand]:
    """Which hosts this one reaches is known. One round trip where one of a pair is new.

    A node whose firewall does not know a new host yet is to learn of it in this run. A new host
    tries those outside the limit too; what it lacks there is a warning, since they may be down.
    """
    known = {each.name: _ask(each) for each in settings.hosts() if each in state.active_hosts}
    mine = known.pop(host.name)
    for other in settings.hosts():
        said = known.get(other.name)
        if mine and not mine.ca and said and said.ca and settings.walled(other):
            host.log(
                f"its way to {other.name} is not tried: host.py names it to the firewall there"
            )
            del known[other.name]
    there = {
        cluster.node(name).address: (cluster.node(name).control_plane, bool(said.ca))
        for name, said in known.items()
        if said is not None
    }
    wanted = (
        peers.targets(bool(mine.ca), there, cluster.api_port, cluster.weave, cluster.packet)
        if mine
        else []
    )
    outside: dict[str, str] = {}
    if mine and not mine.ca:
        apart = settings.left_out()
        nodes = [cluster.node(name) for name in apart]
        outside = {node.address: node.name for node in nodes}
        # Perhaps they are nodes.
        as_nodes = {node.address: (node.control_plane, True) for node in nodes}
        wanted += peers.targets(False, as_nodes, cluster.api_port, cluster.weave, cluster.packet)
    found = _findings[(state.is_executing, host.name)]
    if wanted:
        silent = host.get_fact(Unreached, targets=wanted)
        names = {cluster.node(name).address: name for name in known}
        found += peers.unreached(silent or [], names)
        for sentence in peers.unreached(silent or [], outside):
            host.log(f"warning, since that host is not in this run and may be down: {sentence}")
        if silent is None:
            found.append("whom it reaches is not known; mend the error above, then run again")
    if mine and not mine.ca and cluster.node(host.name).control_plane:
        times = host.get_fact(SyncTimes)
        if times and (warning := preflight.slow_disk(times)):
            host.log(warning)
    if mine and (advice := preflight.narrow(mine)):
        host.log(f"warning: {advice}")
    host.noop("its neighbours were asked")
    return
    yield


@operation()
def examined() -> Generator[StringCommand]:
    """What every host says is known. At most two round trips, the second on new hosts only."""
    _ask(host)
    host.noop("examined")
    return
    yield


@operation()
def disks(cluster: Cluster, storage: rook.Storage) -> Generator[StringCommand]:
    """What is on this host's disks for Ceph is known, and said. One round trip."""
    mine = _ask(host)
    found = _findings[(state.is_executing, host.name)]
    if mine and (wrong := preflight.without_ceph(mine)):
        found.append(wrong)
    own = disk_operations.own_fsid(cluster)
    for verdict in disk_operations.verdicts(host, storage.disks[host.name], own):
        if verdict.good:
            host.log(verdict.words)
        else:
            found.append(verdict.words)
    host.noop("its disks were looked at")
    return
    yield


@operation()
def passed(
    cluster: Cluster, directories: Sequence[Path], certificates: Mapping[str, door_operations.Pair]
) -> Generator[StringCommand]:
    """No host has a finding; if one has, all stop, so that nothing is changed anywhere.

    What `directories`, of the doors' manifests, and the files of `certificates` have is found on
    the first host. A certificate that only has ended keeps no machine from being mended.
    """
    active = [each for each in settings.hosts() if each in state.active_hosts]
    said = {each.name: _ask(each) for each in active}
    known = {name: one for name, one in said.items() if one is not None}
    masters = [each.name for each in settings.control_plane_hosts()]
    between = peers.between(known, masters)
    phase = state.is_executing
    if phase not in _of_the_site:
        found = door_operations.wrong(cluster, directories, certificates, {})
        _of_the_site[phase] = found if cluster.workers else ([], [])
    all_found = {name: [*_findings[phase, name], *between.get(name, [])] for name in said}
    problems, outdated = _of_the_site[phase]
    all_found[active[0].name] += problems
    if host.name == active[0].name:
        for sentence in outdated:
            host.log(f"warning, for ingress.py will not take it: {sentence}")
    mine = all_found.get(host.name, [])
    others = sorted(name for name, found in all_found.items() if found and name != host.name)
    if mine:
        yield from refuse(*mine)
    elif others:
        yield from refuse(f"nothing is changed here while {', '.join(others)} has problems")
    else:
        host.noop("nothing speaks against it")
