"""The choices of the cluster. Every key is here, with its default and its reason."""

from barekube import versions

# The cluster's name; it is part of the API's name and cannot change after init.
cluster_name = "barekube"

# The version that every node is brought to; an upgrade is a stage of its own.
kubernetes_version = versions.KUBERNETES

# The name and port by which nodes reach the API. None: api.<cluster_name>. It stands in
# /etc/hosts of every node and in the certificates, so that more control planes can come later. The
# public door's policy names the port too (manifests/traefik/public/public.yaml).
api_name = None
api_port = 6443

# Addresses of Services. Those of pods are in the network's manifest (IPALLOC_RANGE).
service_network = "10.96.0.0/12"

# Directory of the pod network's manifests.
network_manifests = "manifests/weave"

# Directory of the doors' manifests. The public door's are below it, in public/, and applied where
# the inventory's group edge has hosts.
ingress_manifests = "manifests/traefik"

# A door's own certificate, where you have one: (file of the certificate with those of its issuers,
# file of its key), on this machine, as {"public": ("/etc/ssl/site.pem", "/etc/ssl/site.key")}. A
# door without gets a self-made one.
door_certificates: dict[str, tuple[str, str]] = {}

# Directory of Rook's manifests, which name the disks that Ceph gets; used where the inventory's
# group storage has hosts. "manifests/rook-small" is for fewer than three of them, and not safe.
storage_manifests = "manifests/rook"

# A bundle (python -m bundle) for machines without internet: its address ("https://..."), the
# file of its CA on this machine, and the fingerprint of its apt key. None: the internet.
bundle_url = None
bundle_ca = None
bundle_key = None

# Where packages come from: (address, suite, components, address of the key, fingerprint of the
# key). {minor} is v1.37, {distribution} and {codename} are the host's own. A bundle serves the
# same paths under its own address.
package_sources = {
    "kubernetes": (
        "https://pkgs.k8s.io/core:/stable:/{minor}/deb/",
        "/",
        "",
        "https://pkgs.k8s.io/core:/stable:/{minor}/deb/Release.key",
        "DE15B14486CD377B9E876E1A234654DA9A296436",
    ),
    "containerd": (
        "https://download.docker.com/linux/{distribution}",
        "{codename}",
        "stable",
        "https://download.docker.com/linux/{distribution}/gpg",
        "9DC858229FC7DD38854AE2D88D81803C0EBFCD88",
    ),
}

# What a node needs of its distribution, each with the reason. One that is taken out stays there. A
# bundle has these only.
host_packages = {
    "ca-certificates": "to trust the package and image sources",
    "chrony": "etcd and certificates need the right time",
    "conntrack": "kube-proxy drops stale connections with it",
    "ethtool": "kubeadm's checks and Weave ask network cards with it",
    "iptables": "kubelet and kube-proxy write their rules with it",
    "kmod": "loads the modules below",
    "nftables": "the host's firewall is one table of it",
    "socat": "kubectl port-forward",
}

# Kernel modules, loaded now and at boot. One that is taken out stays until the next boot.
modules = {
    "overlay": "container file systems",
    "br_netfilter": "bridged packets meet iptables rules",
}

# Kernel parameters, now and after a boot. One that is taken out keeps its value until then.
sysctls = {
    "net.ipv4.ip_forward": "1",
    "net.bridge.bridge-nf-call-iptables": "1",
    "net.bridge.bridge-nf-call-ip6tables": "1",
    # 1 would drop what a pod network brings in by another way than it goes out; 2 is loose.
    "net.ipv4.conf.all.rp_filter": "2",
    # kubelet's protectKernelDefaults wants these.
    "vm.overcommit_memory": "1",
    "kernel.panic": "10",
    "kernel.panic_on_oops": "1",
    # Each pod watches files; the distributions' 128 is used up by some dozens.
    "fs.inotify.max_user_instances": "8192",
    "fs.inotify.max_user_watches": "524288",
}

# Whether every host admits only what nodes speak among themselves, ping and SSH. Those of the group
# `edge` always do, with 80 and 443 open beside; elsewhere it is a choice, here or a group's.
firewall = False
# Networks that may reach all that nodes may, as ["192.0.2.0/24"]: where you run kubectl, where a
# monitoring is. A host with a firewall admits nothing but SSH from elsewhere.
firewall_trusted: list[str] = []

# Checks of kubeadm's own preflight to pass over (names as kubeadm prints them).
ignored_preflight: list[str] = []

# kubeadm's own settings, merged over barekube's (barekube/kubeadm_config.py): the fields of its
# ClusterConfiguration (kubeadm.k8s.io/v1beta4), of KubeletConfiguration and of
# KubeProxyConfiguration. A change is previewed as a diff and rolled out node by node by
# control_plane.py and workers.py, as {"apiServer": {"certSANs": ["k8s.example.org"]}}.
cluster_configuration: dict[str, object] = {}
kubelet_configuration: dict[str, object] = {}
kube_proxy_configuration: dict[str, object] = {}

# The number of the key that encrypts Secrets in etcd. One more, and control_plane.py makes a new
# key: every API server learns it, then writes with it, every Secret is written anew, and the old
# key is forgotten.
encryption_key = 1

# Which requests the API servers log: who did what to which object, never what is in it (bodies
# hold Secrets), and not the noise of the nodes. Rules of audit.k8s.io/v1; the first match counts.
audit_rules: list[dict[str, object]] = [
    {"level": "None", "nonResourceURLs": ["/healthz*", "/livez*", "/readyz*", "/version"]},
    {"level": "None", "nonResourceURLs": ["/openapi*"]},
    {"level": "None", "users": ["system:kube-proxy"], "verbs": ["watch"]},
    {
        "level": "None",
        "resources": [
            {"group": "", "resources": ["events"]},
            {"group": "coordination.k8s.io", "resources": ["leases"]},
        ],
    },
    {
        "level": "None",
        "verbs": ["get", "list", "watch"],
        "userGroups": ["system:nodes", "system:serviceaccounts:kube-system"],
    },
    {"level": "Metadata"},
]

# A host whose key is not in known_hosts, or is another one, is not talked to (the README shows
# how to collect keys); pyinfra's own default is to accept a new one unseen.
ssh_strict_host_key_checking = "yes"
