"""yaml_text.py: the same values as DVC reads from the same text; files that would take forever are refused."""

import json
import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from dvc.utils.serialize import YAMLFileCorruptedError, load_yaml

from containers.on_docker import outside_paths
from steps.errors import BadInput
from steps.images.sources.listing import Source
from steps.images.sources.samples import read_sample
from steps.params import load_params
from steps.weights.own_preprocessing import found_with
from steps.yaml_text import MAX_BYTES, MAX_DEPTH, MAX_VALUES, read_yaml

ROOT = Path(__file__).parent.parent
READERS: dict[str, Callable[[Path], object]] = {
    "params.yaml": load_params,
    "sample.yaml": lambda path: read_sample(Source(path)),
    "weights.pt.yaml": lambda path: found_with(path.with_suffix("")),
    "config.json": lambda path: found_with(path.parent),
}
SECONDS = 10.0  # the largest allowed list takes 1 s; nested aliases took 45 s
LINES_OF_WORDS = (
    "010 -010 0777 08 09 099 00 -0 +12 0o10 -0o10 +0o10 0o8 0O10 0b101 0b2 0B1 0x1F -0x1F 0X1F 0xG 0x_1",
    "1_000 1__0 0_1 _1 -_1 +1_0 99999999999999999999 1:30 1:30:00 190:20:30.15",
    "1. .5 +.5 -.5 0.0 -0.0 0.1_0 1_000.5 1e3 1e-3 1E+3 1e03 12e03 1_0e3 1.5e3 1.e3 .5e3 .5e+3 .1e-3 5e+3 1e400",
    "1e 1e+ .e3 . + 1.2.3 12-34 .inf -.inf +.inf .Inf .nan .NaN +.nan -.nan .inf_",
    "yes no on off y n Yes NO True TRUE true tRUE False false ~ null Null NULL nUll",
    "2026-01-01 2026-1-1 2026-01-01T10:00:00 2026-01-01T10:00:00Z 2026-01-01T10:00:00.5+02:00",
    r"""'x' "1" '010' "\x41" [1,2] [1,2,] {a} a:1 a#b - "" """,
)
WORDS = [word for line in LINES_OF_WORDS for word in line.split()]
TEXTS = [
    "a: 1 # a comment\n",
    'a: "x\n  y"\n',
    "a: |\n  x\n  y\n",
    "a: >-\n  x\n  y\n",
    "a: &x {b: 1}\nc: *x\n",
    "a: &x {b: 1, c: 2}\nd: {<<: *x, b: 3}\n",
    "a: &x {b: 1}\nd:\n  <<: [*x, {b: 2, c: 3}]\n  e: 4\n",
    "1: a\n1.5: b\nfalse: c\n~: d\n2026-01-01: e\n'1': f\n",
    "010: a\n8: b\n",
    "%YAML 1.1\n---\na: 010\n",
    "---\na: 1\n...\n",
    "\ufeffa: é 😀\n",
    '{"a": [1e-5, "b/c", null, true]}',
    "a: 1\t\n",
    "- a\n- [b, {c: d}]\n",
]
REFUSED_BY_BOTH = [
    ("a: 1\nb: 2\na: 3\n", "line 3: the key 'a' is there already, in line 1; remove one of the two"),
    ("10: a\n010: b\n", "line 2: the key '010' is there already, in line 1"),
    ("a: {<<: {b: 1}, <<: {c: 2}}\n", "line 1: the key '<<' is there already"),
    ("a: 1\n---\nb: 2\n", "line 2: a second document begins here"),
    ("a: &x 1\nb: &x 2\n", "line 2: the anchor 'x' is there already"),
    ("a: 1\nb: *x\n", "line 2: there is no anchor 'x' above"),
    ("a: 1\n<<: 3\n", "line 2: `<<` needs a section"),
    ("a: 1\nb: !x 2\n", "line 2: the tag !x is not allowed"),
    ("a: !!python/object:os.system 2\n", "line 1: the tag !!python/object:os.system is not allowed"),
    ("a: <<\n", "line 1: << is not a value"),
    ("? {a: 1}\n: 2\n", "line 1: a key must be one word or number"),
    ("a: 1\nb: \x01\n", "line 2: control characters are not allowed"),
    ("a: 1\nb: [\n", "line 2: "),
]
REFUSED_HERE = [
    ("a: !!str 1\n", "line 1: the tag !!str is not allowed"),
    ("%TAG !x! y\n---\na: 1\n", "line 1: %TAG is not allowed"),
    ("a: 1\nb: 2026-13-45\n", "line 2: '2026-13-45' is not valid"),
    ("a: 0x_\n", "line 1: '0x_' is not valid"),
    ("a: &x {b: *x}\n", "line 1: the alias 'x' is inside the value of its anchor"),
    ("? [a]\n: 2\n", "line 1: a key must be one word or number"),
    ('"a\\nb": 1\n"a\\nb": 2\n', "line 2: the key 'a b' is there already"),
]
BOMBS = {
    "aliases": (
        "a0: &a0 [x, x, x, x, x, x, x, x, x]\n"
        + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)),
        "line 6: the aliases up to here stand for more than 1,000,000 characters",
    ),
    "merged keys": (
        "a0: &a0 {x: 1}\n"
        + "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}]}}\n" for n in range(1, 12)),
        "line 7: the aliases up to here stand for",
    ),
    "one long text": (f"a: &a {'x' * 10_000}\nb: [{', '.join(['*a'] * 200)}]\n", "line 2: the aliases"),
    "a chain of aliases": (
        "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 5000)),
        f"line {MAX_DEPTH}: lists and sections are nested more than {MAX_DEPTH} deep",
    ),
    "depth": ("".join(" " * n + "a:\n" for n in range(2000)), f"line {MAX_DEPTH + 1}: lists and sections are"),
    "brackets": ("[" * 1_000_000, "line 1: "),
    "values": (f"a:\n [{'1,' * (MAX_VALUES + 10)}]\n", "line 2: the file has more than 200,000 keys"),
    "bytes": ("a: 1\n" + "#" * MAX_BYTES, "line 2: the file has more than 4 MiB"),
    "digits": (f"a: {'1' * 1_000_000}\n", "line 1: '1111111111111111111111111111111111111111' is not valid: the"),
    "equal hashes": ("".join(f"{n * (2**61 - 1)}: 0\n" for n in range(20_000)), "line 2: the number 23058430092"),
    "handles of tags": ("".join(f"%TAG !a{n}! b\n" for n in range(200_000)), "line 1: %TAG is not allowed"),
}


def written(folder: Path, text: str) -> Path:
    path = folder / "some.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def same(one: Any, other: Any) -> bool:
    """Tell whether both values are equal and of the same type; nan equals nan."""
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return repr(one) == repr(other) or (type(one) is type(other) and one == other)


@pytest.mark.parametrize("word", WORDS)
def test_a_word_has_the_value_that_dvc_reads(tmp_path: Path, word: str) -> None:
    path = written(tmp_path, f"a: {word}\n")
    try:
        expected = load_yaml(str(path))["a"]
    except YAMLFileCorruptedError:
        with pytest.raises(BadInput, match=r"some\.yaml is no YAML: line 1: "):
            read_yaml(path)
    else:
        assert same(read_yaml(path)["a"], expected)


@pytest.mark.parametrize("text", TEXTS)
def test_a_file_has_the_content_that_dvc_reads(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    assert read_yaml(path) == load_yaml(str(path))


@pytest.mark.parametrize(("text", "message"), REFUSED_BY_BOTH)
def test_a_file_that_dvc_refuses_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(YAMLFileCorruptedError):
        load_yaml(str(path))
    with pytest.raises(BadInput, match=re.escape(message)) as fault:
        read_yaml(path)
    assert str(fault.value).startswith(f"{path} is ") and fault.value.exit_code == 2


@pytest.mark.parametrize(("text", "message"), REFUSED_HERE)
def test_a_value_that_no_step_needs_is_refused_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BadInput, match=re.escape(message)):
        read_yaml(written(tmp_path, text))


@pytest.mark.parametrize("name", BOMBS)
def test_a_file_that_would_take_forever_is_refused_at_once(tmp_path: Path, name: str) -> None:
    text, message = BOMBS[name]
    path = written(tmp_path, text)
    begin = time.monotonic()
    with pytest.raises(BadInput, match=re.escape(message)) as fault:
        read_yaml(path)
    assert time.monotonic() - begin < SECONDS
    assert str(path) in str(fault.value) and len(str(fault.value).splitlines()) == 1


def test_an_empty_file_has_no_content(tmp_path: Path) -> None:
    assert read_yaml(written(tmp_path, "# nothing\n")) is None


def test_the_config_of_a_network_with_21000_classes_is_read(tmp_path: Path) -> None:
    names = {str(number): f"the name of class {number}, and one more name" for number in range(21_843)}
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"id2label": names, "label2id": {name: number for number, name in names.items()}}))
    assert read_yaml(path)["id2label"] == names


@pytest.mark.parametrize("name", READERS)
def test_every_file_of_a_person_is_read_with_the_limits(tmp_path: Path, name: str) -> None:
    text, message = BOMBS["aliases"]
    (tmp_path / name).write_text(text)
    begin = time.monotonic()
    with pytest.raises(BadInput, match=re.escape(message)) as fault:
        READERS[name](tmp_path / name)
    assert time.monotonic() - begin < SECONDS
    assert str(tmp_path / name) in str(fault.value) and len(str(fault.value).splitlines()) == 1


def test_the_paths_for_a_container_are_read_with_the_limits(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(BOMBS["aliases"][0])
    assert outside_paths(tmp_path, []) == []  # the step in the container reports the fault


def test_no_other_file_loads_yaml() -> None:
    folders = ("steps", "flows", "tools", "containers")
    found = [
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"^(import|from) yaml\b|\bsafe_load\b", path.read_text(), re.M)
    ]
    assert sorted(found) == ["steps/yaml_text.py", "tools/params_page.py"]  # the second file writes YAML


def test_json_beside_weights_may_escape_each_letter(tmp_path: Path) -> None:
    text = json.dumps({"label": "\N{GRINNING FACE}", "size": 224})  # two escapes, which are no YAML
    (tmp_path / "config.json").write_text(text)
    found = found_with(tmp_path)
    assert found and found.stated.size == 224
