"""docs/params.md matches the params classes: every key with its default, its allowed values and its effect."""

import re
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import BaseModel, Field

from steps.params import Params
from steps.params.base import Fraction, Positive, Share
from tools import params_page

REQUIRED: dict[str, Any] = {
    "seed": 0,
    "class_num": "auto",
    "engines": ["onnxruntime-fp32"],
    "ingest": {"source": "data/raw"},
    "train": {"arch": "repvgg_nano", "epochs": 1, "lr": 0.1},
}
SECTIONS = {
    field.alias or name for name, field in Params.model_fields.items() if name not in ("seed", "class_num")
}
ROWS = re.findall(r"^\| `([a-z_0-9.]+)` \| (.+?) \| (.+?) \| (.*) \|$", params_page.page(), re.M)
VARIANT = re.compile(r"Only with `(\w+)`\. ")


def _filled(**train: str) -> dict[str, Any]:
    """Return each key with its value when only the required keys are given and `train` names the variants."""
    content = {section: {} for section in SECTIONS} | REQUIRED | {"train": REQUIRED["train"] | train}
    return dict(_flat(Params.model_validate(content).model_dump(mode="json", by_alias=True)))


def _flat(value: dict[str, Any], above: str = "") -> Any:
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            yield from _flat(inner, f"{above}{key}.")
        else:
            yield f"{above}{key}", inner


def test_the_page_is_what_the_generator_writes() -> None:
    assert params_page.PAGE.read_text() == params_page.page(), "write it with `make params`"


def test_a_stale_page_ends_with_1_and_is_left_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "params.md"
    monkeypatch.setattr(params_page, "PAGE", page)
    for content in (None, "stale"):
        if content:
            page.write_text(content)
        monkeypatch.setattr(sys, "argv", ["params_page", "--check"])
        with pytest.raises(SystemExit, match=r"docs/params\.md is stale"):
            params_page.main()
        assert page.is_file() == bool(content)
    monkeypatch.setattr(sys, "argv", ["params_page"])
    params_page.main()
    monkeypatch.setattr(sys, "argv", ["params_page", "--check"])
    params_page.main()
    assert page.read_text() == params_page.page()


def test_the_page_has_every_key_and_no_other() -> None:
    variants = {key.split(".")[1]: found.group(1) for key, *_, text in ROWS if (found := VARIANT.match(text))}
    assert {"loss": "focal", "sampler": "balanced"}.items() <= variants.items()
    known = {*_filled(), *_filled(**variants)}
    assert {key for key, *_ in ROWS} == known
    assert len(ROWS) == len(known), "a key stands there twice"


@pytest.mark.parametrize(("key", "text"), [(key, text) for key, _, _, text in ROWS])
def test_every_key_says_what_it_does_in_sentences(key: str, text: str) -> None:
    assert re.match(r"[A-Z`].*\.$", text), key
    assert "|" not in text


@pytest.mark.parametrize(("key", "shown", "text"), [(key, shown, text) for key, shown, _, text in ROWS])
def test_the_default_that_the_page_shows_is_that_of_the_code(key: str, shown: str, text: str) -> None:
    if shown == params_page.REQUIRED:
        assert key in dict(_flat(REQUIRED))
        return
    variant = VARIANT.match(text)
    value = _filled(**({key.split(".")[1]: variant.group(1)} if variant else {}))[key]
    assert yaml.safe_load(shown.strip("`")) == value


class Kinds(BaseModel):
    """One field of each type that a section has; the field's name is the text for its type."""

    integer: int
    count: Annotated[int, Field(ge=0)]
    between: Annotated[int, Field(ge=1, le=256)]
    share: Share
    fraction: Fraction
    confidence: Annotated[float, Field(gt=0.5, le=0.999999)]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    positive_or_null: Positive | None
    count_or_null: Annotated[int, Field(ge=0)] | None
    word: Literal["list", "strict"]
    word_or_null: Literal["bilinear"] | None
    mean: tuple[Fraction, Fraction, Fraction] | None
    in_words: str | None = Field(json_schema_extra={"allowed": "path"})


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("integer", "integer"),
        ("count", "integer from 0"),
        ("between", "integer from 1 to 256"),
        ("share", "number above 0, below 1"),
        ("fraction", "number from 0 to 1"),
        ("confidence", "number above 0.5, at most 0.999999"),
        ("momentum", "number from 0, below 1"),
        ("positive_or_null", "number above 0, `null`"),
        ("count_or_null", "integer from 0, `null`"),
        ("word", "`list`, `strict`"),
        ("word_or_null", "`bilinear`, `null`"),
        ("mean", "3 values, each a number from 0 to 1, `null`"),
        ("in_words", "path, `null`"),
    ],
)
def test_what_a_key_allows_is_read_from_its_type(name: str, words: str) -> None:
    assert params_page._allowed(Kinds.model_fields[name]) == words


def test_each_variant_has_its_keys_and_its_contract() -> None:
    rows = {key: (allowed, text) for key, _, allowed, text in ROWS}
    assert rows["train.loss.name"][0] == "`cross_entropy`, `focal`"
    assert "`focal`: Focal loss" in rows["train.loss.name"][1]
    assert rows["train.loss.gamma"][1].startswith("Only with `focal`. ")
    assert rows["train.loss.label_smoothing"][1].startswith("Only with `cross_entropy`. ")
