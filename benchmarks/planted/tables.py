"""Every mutant by name, of each line that it is planted into; those on photographs stand in `photographs`."""

from benchmarks.planted.in_engines import ENGINES
from benchmarks.planted.in_evaluation import LISTED, PREPROCESSED, WRITTEN
from benchmarks.planted.in_pictures import ANY_SIZE, COMPILED
from benchmarks.planted.in_sure_scores import SURE
from benchmarks.planted.in_transformations import IN_EXPORT, IN_FUSE, IN_KEPT
from benchmarks.planted.mutant import Mutant

TABLES = (IN_FUSE, IN_KEPT, IN_EXPORT, ENGINES, PREPROCESSED, LISTED, WRITTEN, SURE)
DIGITS: dict[str, Mutant] = {name: mutant for table in TABLES for name, mutant in table.items()}
PICTURES: dict[str, Mutant] = {**ANY_SIZE, **COMPILED}
assert len(DIGITS) == sum(map(len, TABLES)), "two mutants have one name"
