"""What barekube, kubeadm and the pods' network leave on a host, and how it goes again.

Files go last, so that a reset that was cut off is seen and done again. What is not touched: data
disks, Debian's own packages, and, until the next boot, what is in the kernel alone (parameters,
modules, keys of Weave's encryption: those of a VPN of the user's cannot be told from them).
"""

import shlex
from pathlib import PurePosixPath

from barekube import containerd, firewall, hosts_file, kernel, versions
from barekube.cluster import Cluster, Node

PACKAGES = (*versions.kubernetes_debs(versions.KUBERNETES), "containerd.io")
# Whole directories, whose mount points stay if they are disks of their own.
DIRECTORIES = (
    "/etc/kubernetes",
    "/var/lib/etcd",
    "/var/lib/kubelet",
    "/var/lib/barekube",
    "/var/lib/weave",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/log/pods",
    "/var/log/containers",
    "/var/log/kubernetes",
    "/usr/libexec/kubernetes",
    "/etc/cni",
    "/opt/cni",
    "/opt/containerd",
    "/etc/containerd",
    "/etc/barekube",
)
FILES = (
    "/etc/crictl.yaml",
    containerd.UNIT_FILE,
    firewall.UNIT_FILE,
    kernel.MODULES_FILE,
    kernel.SYSCTL_FILE,
    "/etc/apt/apt.conf.d/60barekube-bundle",
    *(
        path
        for name in ("debian", "containerd", "kubernetes")
        for path in (
            f"/etc/apt/sources.list.d/barekube-{name}.sources",
            f"/etc/apt/keyrings/barekube-{name}.asc",
        )
    ),
)
LOOKED_AT = (*DIRECTORIES, *FILES)

# Pods end before the network that they use is taken away.
_PODS = (
    "systemctl stop kubelet 2>/dev/null || true;"
    " if systemctl -q is-active containerd; then"
    " timeout 300 crictl rmp -a -f >/dev/null 2>&1 || true; fi;"
    " systemctl stop kubepods.slice 2>/dev/null || true"
)
# Rules of kube-proxy, of Weave and of the CNI plugins; others are put back as they are. A table
# that is empty then was theirs, unless it has chains of nft's own. Weave has rules outside its
# chains too: for its bridge, its control port, and packets that by their mark have to be encrypted.
_OURS = "KUBE-|WEAVE|CNI-|-[io] weave |Weave Net|--mark 0x20000/0x20000 -j DROP"
_RULES = (
    "for v in '' 6; do for t in filter nat mangle raw; do"
    " s=ip${v}tables; command -v $s >/dev/null || continue;"
    f" $s-save -t $t 2>/dev/null | grep -vE '{_OURS}' | $s-restore -T $t 2>/dev/null"
    " || true;"
    " $s-save -t $t 2>/dev/null | grep -qE '^-A|^:[^ ]+ (DROP|-)|incompatible' ||"
    " nft delete table ip$v $t 2>/dev/null || true; done; done"
)
# Of Open vSwitch's device only its own protocol rids the kernel, and of sets only ipset: both
# programs are in Weave's image.
_WEAVE = (
    "i=$(ctr -n k8s.io images list -q 2>/dev/null | grep -m1 '/weave-kube:' || true);"
    ' if [ -n "$i" ] && [ -e /sys/class/net/datapath ]; then'
    ' ctr -n k8s.io run --rm --privileged --net-host "$i" barekube-reset-$$ sh -c'
    " 'weaveutil delete-datapath datapath; for s in $(ipset list -n | grep ^weave-); do"
    " ipset destroy $s; done' || true; fi"
)
# A pod's last connection can keep its network, and with it the link on the bridge, for minutes.
_LINKS = (
    "for l in $(ls /sys/class/net/cni0/brif 2>/dev/null | grep ^veth;"
    " ls /sys/class/net | grep -E '^(weave|cni0|vxlan-6784|vethwe.*|vethwepl.*)$');"
    " do ip link delete $l 2>/dev/null || true; done;"
    " [ ! -e /sys/class/net/datapath ] ||"
    " echo 'the device datapath stays until the next boot' >&2"
)
# Whatever else leads to pods: preflight lets no other route into their network. Of their links a
# host's own card may be one.
_ROUTES = "ip -4 route flush root {network} || true"
_RUNTIME = (
    "systemctl stop containerd 2>/dev/null || true; pkill -x containerd-shim || true;"
    " for d in /var/lib/kubelet/ /run/containerd/ /run/netns/cni- /var/lib/containerd/; do"
    " for m in $(awk -v d=$d 'index($2, d) == 1 {print $2}' /proc/mounts | sort -r); do"
    " umount $m || umount -l $m || true; done; done; rm -f /run/netns/cni-*;"
    " ! grep -q ' /var/lib/kubelet/' /proc/mounts ||"
    " { echo 'volumes are mounted below /var/lib/kubelet still; nothing of it is deleted' >&2;"
    " exit 1; }"
)


def script(pod_network: str) -> str:
    """What resets a host; run alone on it, and again if it was cut off."""
    packages = " ".join(PACKAGES)
    purge = (
        f"there=$(dpkg-query -Wf '${{Package}} ${{db:Status-Status}}\\n' {packages} 2>/dev/null |"
        ' awk \'$2 != "not-installed" {print $1}\'); [ -z "$there" ] || {'
        " dpkg --configure -a --force-confold >/dev/null || true;"
        " apt-mark -qq unhold $there >/dev/null || true; DEBIAN_FRONTEND=noninteractive apt-get -qq"
        " -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 purge $there >/dev/null; }"
    )
    block = f"/^{hosts_file.BEGIN}$/,/^{hosts_file.END}$/d"
    own = f"[ ! -e {firewall.FILE} ] || {{ {firewall.REMOVE}; }}"
    swap = "[ ! -L /etc/systemd/system/swap.target ] || rm /etc/systemd/system/swap.target"
    empty = "; ".join(
        f"if [ -e {each} ]; then find -H {each} -xdev -mindepth 1 -delete; rmdir {each} 2>/dev/null"
        " || true; fi"
        for each in DIRECTORIES
    )
    return "; ".join(
        [
            _PODS,
            _RULES,
            _WEAVE,
            _LINKS,
            _ROUTES.format(network=pod_network),
            _RUNTIME,
            own,
            f"sed -i '{block}' /etc/hosts",
            swap,
            purge,
            f"rm -f {' '.join(map(shlex.quote, FILES))}",
            f"rm -f {' '.join(f'/var/cache/apt/archives/{name}_*.deb' for name in PACKAGES)}",
            f"rmdir {PurePosixPath(containerd.UNIT_FILE).parent} 2>/dev/null || true",
            "rm -rf /run/containerd /run/barekube",
            empty,
            "systemctl daemon-reload",
            "sync",
        ]
    )


def staying(cluster: Cluster, running: set[str]) -> list[str]:
    """The control planes that are not among the hosts of this run."""
    return sorted(each.name for each in cluster.control_planes if each.name not in running)


def refusal(node: Node, cluster: Cluster, running: set[str], registered: bool | None) -> str | None:
    """Why a host must not be reset now, or None.

    `running` are the hosts of this run; `registered`: the cluster, which answers, has it as a node
    or as a member of etcd (None: it does not answer).
    """
    named = ", ".join(staying(cluster, running))
    if not named:
        return None
    remove = f"deploys/remove_node.py --data node={node.name}"
    if registered:
        return (
            f"{node.name} is a node of a cluster that goes on on {named}; run {remove} first, which"
            " resets it too; if the whole cluster is to go, run this on all hosts, and take those"
            " that never come back out of the inventory before"
        )
    if registered is None and node.control_plane:
        return (
            f"{node.name} is a control plane of a cluster that may go on on {named}, and no API"
            f" answers; bring one up and run {remove}, or take {named} out of the inventory if it"
            " never comes back"
        )
    return None


def ceph_volumes(mounts: str) -> list[str]:
    """Where a host has Ceph's volumes mounted for pods; `mounts` is /proc/mounts."""
    rows = [line.split() for line in mounts.splitlines()]
    return [
        row[1]
        for row in rows
        if row[1].startswith("/var/lib/kubelet/")
        and (row[0].startswith(("/dev/rbd", "/dev/nbd")) or row[2] in ("ceph", "fuse.ceph-fuse"))
    ]


def in_use(name: str, volumes: list[str]) -> str:
    """The sentence for a host that has some: to unmount one waits for ever once no Ceph answers."""
    return (
        f"pods on {name} use volumes of Ceph ({volumes[0]} for one), on which it would hang once"
        f" Ceph is gone; run `kubectl drain {name}`, or, where Ceph is gone already, `systemctl"
        " disable kubelet` on it and cut its power, then run this again"
    )


def found(paths: list[str], packages: list[str]) -> list[str]:
    """What is there of barekube and Kubernetes, a phrase each."""
    return [
        *([f"packages {', '.join(packages)}"] if packages else []),
        *([", ".join(paths)] if paths else []),
    ]
