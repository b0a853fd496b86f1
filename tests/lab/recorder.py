"""What a host and a cluster are like, read without any code of barekube's.

The judge of "changed nothing": files, packages, units, parameters and rules by the host's own
programs, and objects by their generation.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

LAB = [".venv/bin/python", "-m", "lab"]
# Who may read it, and what is in it: of all of /etc, and of what kubeadm and kubelet keep.
_SCRIPT = r"""
export LC_ALL=C
find /etc /opt/cni /var/lib/kubelet/config.yaml /var/lib/kubelet/kubeadm-flags.env -xdev \
  \( -path /etc/.updated -o -path /etc/mtab \) -prune -o -type f \
  -printf '%m %u:%g %T@ %p ' -exec sh -c 'sha256sum <"$1" | cut -c1-64' _ {} \; 2>/dev/null |
  sed 's/^/file /' | sort -k5
find /etc -type l -printf 'link %p %l\n' | sort
dpkg-query -Wf 'package ${Package} ${Version} ${Status}\n'
for u in containerd kubelet chrony; do
  wanted=ActiveState,UnitFileState,ActiveEnterTimestampMonotonic,NRestarts
  echo "unit $u $(systemctl show -p $wanted $u | tr '\n' ' ')"
done
cd /proc/sys
grep -H '' net/ipv4/ip_forward net/ipv4/conf/all/rp_filter net/bridge/* vm/overcommit_memory \
  kernel/panic* fs/inotify/max_user_[iw]* 2>/dev/null | sed 's/^/sysctl /'
cd /
nft list tables 2>/dev/null | sed 's/^/table /' | sort
sed 's/^/swap /' /proc/swaps
for d in /etc/kubernetes/manifests /var/lib/apt/lists; do stat -c 'dir %n %Y' $d 2>/dev/null; done
"""


def run_lab(*words: str, seconds: float = 600) -> None:
    """Run `python -m lab ...`; a test ends where that fails, or takes longer."""
    subprocess.run([*LAB, *words], cwd=repository_root(), check=True, timeout=seconds)


def ssh(host: str, script: str) -> str:
    """Run a script as root on a lab host and return what it prints."""
    done = subprocess.run(
        [*LAB, "ssh", host, "sudo", "sh", "-s"],
        input=script,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, f"{host}: {done.stderr}"
    return done.stdout


def host_state(host: str) -> set[str]:
    """Everything about a host that a deploy could change, a line each."""
    return set(ssh(host, _SCRIPT).splitlines())


def objects(kubectl: list[str]) -> dict[str, str]:
    """{kind namespace/name: its uid and generation, or a digest of its data} of what we make."""
    kinds = "nodes,daemonsets,deployments,configmaps,secrets,clusterroles,clusterrolebindings"
    kinds += ",roles,rolebindings,serviceaccounts,namespaces,services"
    listed: dict[str, Any] = json.loads(
        subprocess.run(
            [*kubectl, "get", kinds, "-A", "-o", "json"],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        ).stdout
    )
    result = {}
    for item in listed["items"]:
        metadata = item["metadata"]
        key = f"{item['kind']} {metadata.get('namespace', '')}/{metadata['name']}"
        kept = {
            "uid": metadata["uid"],
            "generation": metadata.get("generation"),
            "labels": metadata.get("labels"),
            "spec": item.get("spec"),
            "data": item.get("data"),
            "rules": item.get("rules"),
        }
        result[key] = json.dumps(kept, sort_keys=True)
    return result


def repository_root() -> Path:
    return Path(__file__).resolve().parents[2]
