"""A sample of the planted faults of benchmarks/mutants.py: the intended check refuses each."""

import pytest

from benchmarks.mutants import lines_of
from benchmarks.planted.caught import Catch
from benchmarks.planted.in_evaluation import FORM
from benchmarks.planted.in_pictures import ANY_SIZE, COMPILED, RESIZING
from benchmarks.planted.line import make_digits
from benchmarks.planted.mutant import Trials, judged
from benchmarks.planted.photographs import PHOTOGRAPHS
from benchmarks.planted.pictures import make_pictures
from benchmarks.planted.tables import DIGITS, PICTURES

SAMPLE = (
    "one branch dropped at one site",
    "eps of another library in one norm",
    "squeeze-and-excitation dropped",
    "one channel zeroed",
    "kept branches: one dropped",
    "kept branches: one summed twice",
    "kept branches: one with the norm of another site",
    "channels swapped in the graph",
    "traced for a batch of one",
    "wrong in batches of one alone",
    "antialias dropped where no test image shrinks",
    "surest answers at the end of float16",
    "crop one pixel off",
    "an image twice in the scores",
    "test images repeated under other names",
    "scores of another form",
    "sure scores halved",
    "one bit of a model turned",
    "engine rebuilt after the verdict",
)
# tests/parity/faults.py plants these faults too, into invented scores and cards.
ON_MADE_NUMBERS_TOO = (
    "constant output",
    "zeros in fp16",
    "NaN in an engine",
    "softmax applied twice",
    "a dead class",
    "NaN in one class, on a few images",
    "batch entries mixed up",
    "engine of another precision",
    "evaluated on the training list",
    "test images dropped",
    "classes of another data set",
    "rows of the scores sorted otherwise",
    "two rare classes exchanged in the scores",
    "scores cut short",
    "class_num off by one in a card",
    "another interpolation in a card",
)
ON_PICTURES = (
    "any size: antialias dropped",
    "any size: all of an image that is longer than 50 : 1",
    "any size: another filter",
    "any size: crop one pixel off",
    "any size: height and width exchanged",
    "any size: bytes that come round between passes",
    "any size: mean folded into a padded convolution",
)


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Trials:
    """A small trained line that passes its gate, made once."""
    scratch = tmp_path_factory.mktemp("planted")
    return Trials(make_digits(scratch / "digits"), scratch / "mutants")


@pytest.mark.parametrize(
    "name", [*SAMPLE, *(pytest.param(name, marks=pytest.mark.slow) for name in ON_MADE_NUMBERS_TOO)]
)
def test_a_planted_fault_is_refused_by_its_own_check_and_the_same_path_without_it_passes(
    trials: Trials, name: str
) -> None:
    outcome = trials.of(DIGITS[name])
    assert outcome.held, (outcome.fault, outcome.catch)


@pytest.fixture(scope="module")
def on_pictures(tmp_path_factory: pytest.TempPathFactory) -> Trials:
    """A line of pictures of many sizes; for mutants that need it, the engine resizes the pictures itself."""
    scratch = tmp_path_factory.mktemp("pictures")
    return Trials(make_pictures(scratch / "pictures", (RESIZING,)), scratch / "mutants")


@pytest.mark.slow  # tests/building/test_any_size.py compares such an engine with the reference's pixels
@pytest.mark.parametrize("name", ON_PICTURES)
def test_a_fault_of_an_engine_that_resizes_is_refused_by_its_own_check(on_pictures: Trials, name: str) -> None:
    outcome = on_pictures.of(PICTURES[name])
    assert outcome.held, (outcome.fault, outcome.catch)


def test_no_fault_is_listed_twice_and_each_names_a_form_of_the_line(trials: Trials) -> None:
    tables = (DIGITS, PICTURES, PHOTOGRAPHS)
    assert len({name for table in tables for name in table}) == sum(map(len, tables)) >= 40
    assert {mutant.form for mutant in DIGITS.values()} <= {*trials.line.forms, "champion"}


def test_without_a_compiler_no_compiled_engine_is_built_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda _: None)
    _, mutants = lines_of(None, every=3)["pictures"]
    assert mutants == ANY_SIZE
    assert f"{len(COMPILED)} faults of compiled engines are not tried" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("catch", "honest", "message"),
    [
        (None, None, "nothing caught it"),
        (Catch("gate", frozenset({"agreement"}), f"{FORM}: agreement"), None, "caught by agreement"),
        (Catch("gate", frozenset({"checksum"}), "fuse: checksum"), None, "the gate names another form"),
        (Catch("evaluate", frozenset({"checksum"}), "x"), Catch("gate", frozenset(), "y"), "refused too: y"),
    ],
)
def test_a_fault_caught_by_luck_or_not_at_all_does_not_count(
    catch: Catch | None, honest: Catch | None, message: str
) -> None:
    outcome = judged(DIGITS["one bit of a model turned"], catch, honest)
    assert not outcome.held and message in outcome.fault
