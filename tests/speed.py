"""Limits of computing time that mean the same on a slow machine as on a quick one."""

import time

COUNTED, QUICK = 2_000_000, 0.1  # additions, and seconds of a quick core for them


def seconds_here(seconds: float) -> float:
    """What takes so many seconds of a quick core may take on this one, as busy as it is now; never less."""
    begun, total = time.process_time(), 0
    for number in range(COUNTED):
        total += number
    return seconds * max(1.0, (time.process_time() - begun) / QUICK)
