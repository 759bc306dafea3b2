"""CSV files that people open in a spreadsheet."""

import csv
import io
from decimal import Decimal

import pandas as pd
import pytest

from dashboard import formats


def rows(table: pd.DataFrame) -> list[list[str]]:
    return list(csv.reader(io.StringIO(formats.csv(table), newline="")))


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1+1",
        "-1+1",
        "@SUM(1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "  =cmd|'/C calc'!A0",
        "＝1",
        "-",
        "+a",
    ],
)
def test_text_that_a_spreadsheet_would_run_gets_an_apostrophe(text: str) -> None:
    assert rows(pd.DataFrame({text: [text, None]}))[:2] == [["'" + text], ["'" + text]]


def test_numbers_and_other_text_stay_as_they_are() -> None:
    values = [-1.5, Decimal("-2.50"), -3, "-4", "+5.5e-3", "a-b", "a = b", "", "'quoted'", "ü,\n;"]
    table = pd.DataFrame({"x": pd.Series(values, dtype=object), "n": range(-5, 5)})
    expected = [[str(value), str(n)] for n, value in enumerate(values, -5)]
    assert rows(table) == [["x", "n"], *expected]


def test_a_carriage_return_in_a_cell_begins_no_line() -> None:
    assert rows(pd.DataFrame({"x": ["a\r=1+1"], "y": [2]})) == [["x", "y"], ["a\r=1+1", "2"]]
    assert '"a\r=1+1"' in formats.csv(pd.DataFrame({"x": ["a\r=1+1"]}))
