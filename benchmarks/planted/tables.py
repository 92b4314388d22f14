"""Every mutant on digits, by name; those on photographs stand in `photographs`, as they need the images."""

from benchmarks.planted.in_engines import ENGINES
from benchmarks.planted.in_evaluation import LISTED, PREPROCESSED, WRITTEN
from benchmarks.planted.in_transformations import IN_EXPORT, IN_FUSE
from benchmarks.planted.mutant import Mutant

TABLES = (IN_FUSE, IN_EXPORT, ENGINES, PREPROCESSED, LISTED, WRITTEN)
DIGITS: dict[str, Mutant] = {name: mutant for table in TABLES for name, mutant in table.items()}
assert len(DIGITS) == sum(map(len, TABLES)), "two mutants have one name"
