"""Seconds and bytes: clocks, speed of hybrid attention, the cost of reading RAM, speed against accuracy."""
