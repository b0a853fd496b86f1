"""What barekube costs against the bare commands and Ansible; run by name."""

# First of all: it patches the sockets for gevent, and warns if others are loaded before it.
import pyinfra_cli  # noqa: F401
