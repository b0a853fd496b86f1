"""A host's own system: kernel modules and parameters, swap, /etc/hosts."""

import shlex
from collections.abc import Generator, Mapping

from pyinfra import host
from pyinfra.api import operation
from pyinfra.api.command import PyinfraCommand

from barekube import api_proxy, hosts_file, kernel
from barekube.cluster import Cluster
from barekube.facts.machine import Found, Machine
from barekube.kernel import HOSTS, SWAPS
from barekube.living import moved
from barekube.operations import files
from barekube.operations.order import changing, exclusively, refuse
from barekube.text import TextFile, changes
from barekube.traces import KUBELET_CONF, KUBELET_FLAGS, node_ip, other_address

_SWAP_TARGET = "/etc/systemd/system/swap.target"


@operation()
def configured(
    modules: Mapping[str, str], sysctls: Mapping[str, str], cluster: Cluster
) -> Generator[PyinfraCommand]:
    """Modules loaded, parameters set and swap off, now and after a boot; all nodes of the
    inventory and the API's name stand in /etc/hosts.

    One round trip where nothing differs.
    """
    yield from exclusively(_configured(modules, sysctls, cluster))


def _configured(
    modules: Mapping[str, str], sysctls: Mapping[str, str], cluster: Cluster
) -> Generator[PyinfraCommand]:
    paths = [kernel.MODULES_FILE, kernel.SYSCTL_FILE, HOSTS]
    found = host.get_fact(
        Machine,
        files=[*paths, KUBELET_FLAGS, SWAPS, *map(kernel.proc_path, sysctls)],
        units=["swap.target"],
        modules=list(modules),
        secret=[KUBELET_CONF],
    )
    if found is None:
        yield from refuse("its system cannot be asked; mend the error above, then run again")
        return
    if wrong := _known_otherwise(found, cluster):
        yield from refuse(wrong)
        return
    old = found.files[HOSTS].text() if HOSTS in found.files else ""
    joined = KUBELET_CONF in found.files
    known = hosts_file.api_name(old) if joined else None
    if known and (wrong := moved(known, cluster.api_name)):
        # Without the old name its kubelet would not find the API any more.
        yield from refuse(wrong)
        return
    # workers.py has seen that its proxy listens.
    proxied = joined and bool(api_proxy.images(cluster, host.name)) and hosts_file.proxied(old)
    wanted = [
        TextFile(kernel.MODULES_FILE, kernel.modules_text(modules)),
        TextFile(kernel.SYSCTL_FILE, kernel.sysctl_text(sysctls)),
        TextFile(HOSTS, hosts_file.of(cluster, old, proxied=proxied)),
    ]
    differing = changes(wanted, {path: found.files[path] for path in paths if path in found.files})
    absent = sorted(set(modules) - found.modules)
    now = {path: file.lines for path, file in found.files.items()}
    running = kernel.running_differs(sysctls, now)
    swaps = kernel.swaps(now.get(SWAPS) or [])
    unit = found.units.get("swap.target")
    masked = unit is not None and unit.load == "masked"
    if not (differing or absent or running or swaps) and masked:
        host.noop(
            f"{len(modules)} modules, {len(sysctls)} parameters, swap and"
            f" {len(cluster.nodes)} nodes in /etc/hosts are as wanted"
        )
        return
    for change in differing:
        files.say(change)
    for module in absent:
        host.log(f"module {module}: load")
    for phrase in [*kernel.dropped(now, modules, sysctls), *running]:
        host.log(phrase)
    for swap in swaps:
        host.log(f"swap {swap}: off")
    if not masked:
        host.log("swap.target: masked, so that no swap comes back at boot")
    for change in differing:
        yield files.write(change.file)
    if absent:
        yield changing(f"modprobe -a {shlex.join(absent)}")
    if running or absent:
        # sysctl(8) is in procps, which a small Debian lacks; this comes with systemd.
        yield changing(f"/usr/lib/systemd/systemd-sysctl {kernel.SYSCTL_FILE}")
    if not masked:
        yield changing(f"ln -sfn /dev/null {_SWAP_TARGET}; systemctl daemon-reload")
    if swaps:
        yield changing("swapoff -a")


def _known_otherwise(found: Found, cluster: Cluster) -> str | None:
    """Why the inventory's names and addresses are not written on this host, if it is a node."""
    if KUBELET_CONF not in found.files or KUBELET_FLAGS not in found.files:
        return None
    known = node_ip(found.files[KUBELET_FLAGS].text())
    return other_address(host.name, known, cluster.node(host.name).address)
