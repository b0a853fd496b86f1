#!/bin/sh
# The wiki page of an upgrade: kubeadm's own instructions, typed host by host. bench/upgrade.py runs
# it against barekube on the same machines. Arguments: the versions, as 1.36.3 1.37.2.
set -eu
old=${1%.*} new=${2%.*} version=$2
. bench/on.sh
hosts="cp-1 worker-1 worker-2"

packages() { # names...
	cat <<-END
		export DEBIAN_FRONTEND=noninteractive
		apt-mark unhold $*
		apt-get -qq -y install$(printf " %s=$version-1.1" "$@")
		apt-mark hold $*
	END
}

kubeadm() { # host; its source of packages leads to the new minor first
	cat <<-END
		sed -i 's|/v$old/|/v$new/|' /etc/apt/sources.list.d/barekube-kubernetes.sources
		apt-get -qq update
	END
	packages kubeadm
	if [ "$1" = cp-1 ]; then
		echo "kubeadm upgrade plan v$version --ignore-preflight-errors NumCPU"
		echo "kubeadm upgrade apply v$version --yes --ignore-preflight-errors NumCPU"
	else
		echo "kubeadm upgrade node --ignore-preflight-errors NumCPU"
	fi
}

kubelet() {
	packages kubelet kubectl
	echo 'systemctl daemon-reload; systemctl restart kubelet'
}

kubectl() { # tried again for a while: a renewed kubelet may start the API server anew
	cat <<-END | on cp-1
		n=0
		until kubectl --kubeconfig /etc/kubernetes/admin.conf $*; do
			n=\$((n + 1)); [ \$n -lt 30 ]; sleep 1
		done
	END
}

for each in $hosts; do
	step "$each: kubeadm"
	kubeadm "$each" | on "$each"
	step "$each: drain"
	kubectl drain "$each" --ignore-daemonsets --delete-emptydir-data --timeout 600s
	step "$each: kubelet"
	kubelet | on "$each"
	kubectl wait --for "jsonpath={.status.nodeInfo.kubeletVersion}=v$version" "node/$each" --timeout 300s
	kubectl wait --for condition=Ready "node/$each" --timeout 300s
	kubectl uncordon "$each"
done
step done
