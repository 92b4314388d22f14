"""Numbers on the command lines of tools. argparse shows the flag and the reason where a number is wrong."""

from argparse import ArgumentTypeError

from steps.cores import usable_cores


def count(text: str) -> int:
    """Return a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"'{text}' is no whole number of at least 1")
    return int(text)


def cpu_threads(text: str) -> int:
    """Return a number of threads, at most the number of CPUs: more threads wait for each other, for minutes."""
    number, cpus = count(text), usable_cores()
    if number > cpus:
        raise ArgumentTypeError(f"{number} threads are more than the {cpus} CPUs that may be used here")
    return number
