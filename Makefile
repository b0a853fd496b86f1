# The documented list of steps; `make` prints it. The steps themselves are in deploys/.
INVENTORY ?= inventory.py
LIMIT ?=
OPTIONS ?= -y

PYTHON := .venv/bin/python
PYINFRA := .venv/bin/pyinfra
STAGES := preflight host runtime kubernetes_packages control_plane workers network ingress storage verify
CODE := config.py inventory.py group_data deploys barekube bench bundle lab tests

.PHONY: help drift lab lab-down lab-needs test test-needs style types fast-tests page-tests lab-tests preview previews site \
	upgrade maintain remove_node replace_disk reset bundle $(STAGES)
# Each step is for what the one before it left, also under `make -j`.
.NOTPARALLEL:

help:
	@echo 'make lab                    machines of its own here, and a Kubernetes on them'
	@echo 'make lab-down               end them; what was built stays in ~/.cache/barekube'
	@echo 'make test                   every check and test, the lab included; BAREKUBE_WEAVE=1'
	@echo '                            demands those that need images of Weave in the bundle'
	@echo
	@echo 'On your machines (INVENTORY=inventory.py, LIMIT=a host or group, OPTIONS=-y):'
	@sed -n 's/^\([a-z_]*\):.*## \(.*\)/\1 \2/p' $(MAKEFILE_LIST) \
		| while read -r step words; do printf 'make %-22s %s\n' "$$step" "$$words"; done

preview: .venv/.ready ## what site.py would change, as diffs; changes nothing
	$(PYINFRA) $(INVENTORY) deploys/site.py --dry --diff $(if $(LIMIT),--limit $(LIMIT))

site: .venv/.ready ## all of the following, in this order
preflight: .venv/.ready ## a verdict on each machine; changes nothing
host: .venv/.ready ## packages, kernel modules and parameters, swap, /etc/hosts
runtime: .venv/.ready ## containerd
kubernetes_packages: .venv/.ready ## kubelet, kubeadm, kubectl, CNI plugins, crictl
control_plane: .venv/.ready ## kubeadm init once, then further control planes
workers: .venv/.ready ## kubeadm join
network: .venv/.ready ## the pod network; all nodes Ready, every pair connected
ingress: .venv/.ready ## Traefik: the internal door, and the public one in the DMZ
storage: .venv/.ready ## Rook and Ceph on the disks that manifests/rook names
verify: .venv/.ready ## proof: tries DNS, pairs, Services, ports, policies from every node

upgrade: .venv/.ready ## the cluster to kubernetes_version of group_data, node by node
maintain: .venv/.ready ## says what is to do; OPTIONS='-y --data packages=true' does it, a host at a time

remove_node: .venv/.ready ## a node leaves, living or dead: OPTIONS='-y --data node=NAME'
replace_disk: .venv/.ready ## a disk leaves Ceph: OPTIONS='-y --data osd=N --data cluster=NAME'
reset: .venv/.ready ## hosts as they were: OPTIONS='-y --data cluster=NAME'

drift: .venv/.ready ## for cron: exit status 0 as wanted, 3 something differs, 1 trouble
	$(PYINFRA) $(INVENTORY) deploys/drift.py --dry $(if $(LIMIT),--limit $(LIMIT))

site upgrade maintain remove_node replace_disk reset $(STAGES):
	$(PYINFRA) $(INVENTORY) deploys/$@.py $(OPTIONS) $(if $(LIMIT),--limit $(LIMIT))

bundle: .venv/.ready ## packages and images for machines without internet
	$(PYTHON) -m bundle build

lab: lab-needs .venv/.ready
	$(PYTHON) -m lab up
	$(PYINFRA) lab/inventory.py deploys/site.py -y
	@$(PYTHON) -m lab kubeconfig
	@echo 'Say that, then: ~/.cache/barekube/bin/kubectl get nodes -o wide'

lab-needs:
	@echo 'make lab: needs root on Debian 12 or 13, 2 cores, 16 GiB of memory, 25 GB of disk in'
	@echo '~/.cache/barekube, and the package registries of Debian, Python and Go; no KVM.'
	@echo 'It installs Debian packages that it lacks. About 40 minutes the first time, then 5.'

lab-down: .venv/.ready
	$(PYTHON) -m lab down

# A fresh lab, and what its previews say in docs/previews.md.
previews: lab-needs .venv/.ready
	$(PYTHON) -m lab.previews

test: test-needs .venv/.ready style types fast-tests page-tests lab-tests

test-needs:
	@echo 'make test: needs what `make lab` needs; about 80 minutes the first time, then 40.'
	@echo 'It starts the lab anew and leaves it running. It installs nftables, e2fsprogs, gpg,'
	@echo 'openssh-client, chromium and busybox-static where they are not there.'

style: .venv/.ready
	@echo '== style'
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: .venv/.ready
	@echo '== types'
	.venv/bin/mypy $(CODE)

fast-tests: .venv/.ready
	@echo '== tests/unit and tests/plan'
	@which nft mkfs.ext4 ssh-keygen gpg gpg-agent >/dev/null || { \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq -y install \
		--no-install-recommends nftables e2fsprogs openssh-client gpg gpg-agent >/dev/null; }
	$(PYTHON) -m pytest tests/unit tests/plan

# The network page in a real browser.
page-tests: .venv/.ready
	@echo '== tests/page'
	@{ command -v chromium && busybox --list | grep -qx httpd; } >/dev/null 2>&1 || { \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
		apt-get -qq -y install --no-install-recommends chromium busybox-static >/dev/null; }
	$(PYTHON) -m pytest tests/page

lab-tests: .venv/.ready
	@echo '== lab up, from bare machines'
	$(PYTHON) -m lab down
	$(PYTHON) -m lab up
	@echo '== tests/lab'
	$(PYTHON) -m pytest --durations=25 tests/lab

# ensurepip is what Debian's python3 lacks without python3-venv.
.venv/.ready: requirements.txt
	@echo '== virtual environment'
	@python3 -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
		apt-get -qq update && DEBIAN_FRONTEND=noninteractive \
		apt-get -qq -y install --no-install-recommends python3-venv >/dev/null; }
	python3 -m venv .venv
	.venv/bin/pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@
