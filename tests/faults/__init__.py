"""Faults survived, counted: kills, crowds, cut connections, full disks, logs that grow, trees of ten thousand files."""
