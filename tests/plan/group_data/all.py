"""What the machines of the plan tests have in common; see tests/plan/machines.py."""

from tests.plan import machines

network_manifests = "tests/plan/manifests"
package_sources = machines.package_sources()
fake_delay = 0
fake_delay_jitter = 0
