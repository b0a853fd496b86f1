"""Your machines. The name is the node's name; `address` is what other nodes reach it by.

Example: ("metal-1", {"ssh_hostname": "192.0.2.11", "address": "192.0.2.11"}).
`python -m lab up` brings machines to try it on, in lab/inventory.py.
"""

control_plane: list[tuple[str, dict[str, object]]] = []
workers: list[tuple[str, dict[str, object]]] = []
# Hosts of `workers` whose ports 80 and 443 face the internet.
edge: list[str] = []
# Hosts of `workers` whose disks Ceph may have.
storage: list[str] = []
