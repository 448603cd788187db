from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graticule.errors import InvalidInputs
from graticule.processes.expression import DEEPEST_NESTING, MOST_WORDS, evaluate, names_in, parse_expression


def value_of(text, **bands):
    return evaluate(parse_expression(text), {name: np.asarray(band, "float64") for name, band in bands.items()})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("8 - 3 - 2", 3),
        ("8 / 4 / 2", 1),
        ("7 % 4", 3),
        ("2 ** 3 ** 2", 512),
        ("2 ^ 3", 8),
        ("-2 ** 2", -4),
        ("2 ** -1", 0.5),
        ("2 * -3", -6),
        ("+ + 4", 4),
        ("1e-3 * .5", 0.0005),
        ("1 < 2", 1),
        ("2 <= 1", 0),
        ("1 + 1 == 2", 1),
        ("1 != 1", 0),
        ("not 1 or 1", 1),
        ("0 and 1 or 1", 1),
        ("not 1 == 2", 1),
        ("min(3, 1, 2)", 1),
        ("max(3, 1, 2)", 3),
        ("abs(-2)", 2),
        ("sqrt(9)", 3),
        ("exp(0)", 1),
        ("log(1)", 0),
        ("log10(1000)", 3),
        ("floor(1.7) + ceil(1.2)", 3),
        ("round(2.5)", 2),
        ("sin(0) + cos(0) + tan(0)", 1),
        ("where(2 > 1, 10, 20)", 10),
        ("where(0, 10, 20)", 20),
        ("(1 < 2) + (3 < 4)", 2),
        ("-(1 < 2)", -1),
    ],
)
def test_a_formula_has_the_value_that_arithmetic_gives(text, value):
    assert value_of(text) == pytest.approx(value)


def test_a_formula_is_computed_for_each_pixel():
    index = value_of("(nir - red) / (nir + red)", nir=[[3, 1], [5, 0]], red=[[1, 1], [3, 0]])

    np.testing.assert_array_equal(index, [[0.5, 0], [0.25, np.nan]])


def test_a_comparison_is_one_where_it_holds():
    np.testing.assert_array_equal(value_of("b1 > 1 and b1 < 3", b1=[1, 2, 3]), [0, 1, 0])


def test_where_chooses_for_each_pixel():
    np.testing.assert_array_equal(value_of("where(b1 >= 2, b1, -b1)", b1=[1, 2, 3]), [-1, 2, 3])


def test_the_names_of_bands_are_known():
    assert names_in(parse_expression("max(b1, sqrt(b2)) + b1")) == {"b1", "b2"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("   ", "empty"),
        ("1 +", "ends where"),
        ("1 2", "'2' at character 3"),
        ("(1", "should close a parenthesis"),
        ("1)", "')' at character 2"),
        ("()", "')' at character 2"),
        ("a $ b", "'$' at character 3"),
        ("a.b", "'.' at character 2"),
        ("__import__('os')", "not part of this language"),
        ("eval(1)", "calls 'eval' at character 1; the functions are abs"),
        ("sqrt", "without arguments"),
        ("sqrt()", "takes 1"),
        ("min(1)", "takes 2 or more"),
        ("where(1, 2)", "takes 3"),
        ("1 < 2 < 3", "a < b and b < c"),
        ("and", "'and' at character 1"),
        ("1 = 2", "'=' at character 3"),
        ("é", "'é' at character 1"),
    ],
)
def test_a_text_that_is_no_formula_is_refused_with_its_place(text, said):
    with pytest.raises(InvalidInputs) as refusal:
        parse_expression(text)

    [fault] = refusal.value.faults
    assert fault.pointer == "/inputs/expression"
    assert said in fault.message


@pytest.mark.parametrize(
    "text",
    [
        "(" * (DEEPEST_NESTING + 1) + "1" + ")" * (DEEPEST_NESTING + 1),
        "-" * (DEEPEST_NESTING + 1) + "1",
        "2" + " ** 2" * (DEEPEST_NESTING + 1),
        "not " * (DEEPEST_NESTING + 1) + "1",
        "1" + " + 1" * MOST_WORDS,
        " " * 5000 + "1",
    ],
    ids=["parentheses", "signs", "powers", "not", "chain", "long"],
)
def test_a_text_made_to_exhaust_the_parser_is_refused(text):
    with pytest.raises(InvalidInputs):
        parse_expression(text)


@pytest.mark.parametrize(
    "text",
    ["1" + " + 1" * (MOST_WORDS // 2 - 1), "(" * (DEEPEST_NESTING - 1) + "1" + ")" * (DEEPEST_NESTING - 1)],
    ids=["chain", "parentheses"],
)
def test_a_formula_at_the_limits_is_computed(text):
    assert value_of(text) > 0


numbers = st.integers(0, 9).map(str)
formulas = st.recursive(
    numbers,
    lambda inner: st.builds("({} {} {})".format, inner, st.sampled_from(["+", "-", "*"]), inner),
    max_leaves=12,
)


@given(formulas)
def test_plain_arithmetic_agrees_with_python(text):
    assert value_of(text) == eval(text)  # an oracle, on text that this test made


@given(st.text(max_size=40))
def test_any_text_is_a_formula_or_a_fault(text):
    with suppress(InvalidInputs):
        names_in(parse_expression(text))
