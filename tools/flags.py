"""Numbers on the command lines of tools: argparse names the flag of what is no such number, and says why."""

from argparse import ArgumentTypeError

from steps.cores import usable_cores


def count(text: str) -> int:
    """Return a whole number from 1 on."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"'{text}' is no whole number from 1 on")
    return int(text)


def cpu_threads(text: str) -> int:
    """Return a number of threads: more than there are CPUs only wait for each other, for minutes."""
    number, cpus = count(text), usable_cores()
    if number > cpus:
        raise ArgumentTypeError(f"{number} threads are more than the {cpus} CPUs that may be used here")
    return number
