"""Columns of lists and tables: a name, or a number from 0; a value that only looks like a number is refused."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from steps.params.ingest import Columns


@pytest.mark.parametrize("column", ["path", "0", 0, 7])
def test_a_column_is_a_name_or_a_number(column: Any) -> None:
    assert Columns(path=column).path == column


@pytest.mark.parametrize("column", [-1, True, False, 1.0])
@pytest.mark.parametrize("field", Columns.model_fields)
def test_a_negative_number_or_a_truth_value_is_no_column(field: str, column: Any) -> None:
    with pytest.raises(ValidationError, match=field):
        Columns.model_validate_json(json.dumps({field: column}), strict=True)  # as in params.yaml
