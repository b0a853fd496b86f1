#!/bin/sh
# The wiki page: what a careful operator types, on all hosts in parallel. bench/deploy.py runs it
# against barekube on the same machines. Arguments: the bundle's address, its CA's file, its apt
# key's file, the pod network's manifests and its range, the version of Kubernetes, pause's image,
# then each host as NAME=ADDRESS, the control plane first.
set -eu
url=$1 ca=$2 key=$3 network=$4 pods=$5 version=$6 pause=$7
shift 7
. bench/on.sh
master=${1%=*} workers= api=' api.lab' hosts=
for each; do
	[ -n "$api" ] || workers="$workers ${each%=*}"
	hosts="$hosts${each#*=} ${each%=*}$api\n"
	api=
done

all() { # a function that writes the script of a host, hosts...
	write=$1
	shift
	pids=
	for host in "$@"; do
		$write "$host" | on "$host" &
		pids="$pids $!"
	done
	for pid in $pids; do wait "$pid"; done
}

prepare() {
	cat <<-END
		export DEBIAN_FRONTEND=noninteractive
		. /etc/os-release
		mkdir -p /etc/apt/keyrings /etc/containerd/certs.d/_default
		cat >/etc/bundle-ca.crt <<'PEM'
		$(cat "$ca")
		PEM
		cat >/etc/apt/keyrings/bundle.asc <<'PEM'
		$(cat "$key")
		PEM
		echo 'Acquire::https::${url#https://}::CaInfo "/etc/bundle-ca.crt";' >/etc/apt/apt.conf.d/60bundle
		sign='[signed-by=/etc/apt/keyrings/bundle.asc]'
		cat >/etc/apt/sources.list.d/bundle.list <<LIST
		deb \$sign $url/debian \$VERSION_CODENAME main
		deb \$sign $url/download.docker.com/linux/debian \$VERSION_CODENAME stable
		deb \$sign $url/pkgs.k8s.io/core:/stable:/v${version%.*}/deb/ /
		LIST
		apt-get -qq update
		apt-get -qq -y install --no-install-recommends ca-certificates chrony conntrack ethtool \\
			iptables kmod nftables socat containerd.io \\
			kubelet=$version-1.1 kubeadm=$version-1.1 kubectl=$version-1.1
		apt-mark hold kubelet kubeadm kubectl
		printf 'overlay\nbr_netfilter\n' >/etc/modules-load.d/k8s.conf
		modprobe overlay; modprobe br_netfilter
		printf '%s = 1\n' net.ipv4.ip_forward net.bridge.bridge-nf-call-iptables >/etc/sysctl.d/k8s.conf
		/usr/lib/systemd/systemd-sysctl
		swapoff -a
		cat >/etc/containerd/config.toml <<'TOML'
		version = 3
		[plugins.'io.containerd.cri.v1.images'.pinned_images]
		  sandbox = '$pause'
		[plugins.'io.containerd.cri.v1.images'.registry]
		  config_path = '/etc/containerd/certs.d'
		[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
		  SystemdCgroup = true
		TOML
		printf 'server = "%s"\n[host."%s"]\n  ca = "/etc/bundle-ca.crt"\n' $url $url \\
			>/etc/containerd/certs.d/_default/hosts.toml
		systemctl restart containerd
		printf '$hosts' >>/etc/hosts
	END
}

init() {
	cat <<-END
		kubeadm init --kubernetes-version v$version --control-plane-endpoint api.lab:6443 \\
			--pod-network-cidr $pods --ignore-preflight-errors NumCPU
		kubeadm token create --print-join-command
	END
}

join() { echo "$command"; }

apply() {
	echo "export KUBECONFIG=/etc/kubernetes/admin.conf"
	echo "kubectl -n kube-system create secret generic weave-password --from-literal=password=bench"
	echo "kubectl apply -f - <<'YAML'"
	for file in "$network"/*.yaml; do
		cat "$file"
		echo ---
	done
	echo YAML
	echo "kubectl wait --for=condition=Ready node --all --timeout=300s"
	echo "kubectl -n kube-system rollout status ds --timeout=300s"
}

step prepare
all prepare "$master" $workers
step init
all init "$master"
command=$(tail -n 1 "$log/$master")
step join
all join $workers
step network
all apply "$master"
step done
