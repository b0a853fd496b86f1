"""Whole Debian machines on this one, as User Mode Linux processes, to deploy on."""
