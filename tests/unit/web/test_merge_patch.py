"""A merge patch does what the table of its RFC says, and leaves the rest alone."""

from __future__ import annotations

import msgspec
import pytest

from graticule.web.merge_patch import merge_patch


@pytest.mark.parametrize(("target", "patch", "expected"), [
    ('{"a":"b"}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"b"}', '{"b":"c"}', '{"a":"b","b":"c"}'),
    ('{"a":"b"}', '{"a":null}', "{}"),
    ('{"a":"b","b":"c"}', '{"a":null}', '{"b":"c"}'),
    ('{"a":["b"]}', '{"a":"c"}', '{"a":"c"}'),
    ('{"a":"c"}', '{"a":["b"]}', '{"a":["b"]}'),
    ('{"a":{"b":"c"}}', '{"a":{"b":"d","c":null}}', '{"a":{"b":"d"}}'),
    ('{"a":[{"b":"c"}]}', '{"a":[1]}', '{"a":[1]}'),
    ('["a","b"]', '["c","d"]', '["c","d"]'),
    ('{"a":"b"}', '["c"]', '["c"]'),
    ('{"a":"foo"}', "null", "null"),
    ('{"a":"foo"}', '"bar"', '"bar"'),
    ('{"e":null}', '{"a":1}', '{"e":null,"a":1}'),
    ("[1,2]", '{"a":"b","c":null}', '{"a":"b"}'),
    ("{}", '{"a":{"bb":{"ccc":null}}}', '{"a":{"bb":{}}}'),
])  # fmt: skip
def test_the_examples_of_the_rfc_hold(target, patch, expected):
    merged = merge_patch(target.encode(), patch.encode())

    assert msgspec.json.decode(merged) == msgspec.json.decode(expected)


def test_what_is_not_changed_stays_digit_by_digit():
    target = b'{"a": {"n": 1.10, "big": 123456789012345678901234567890, "text": "\\u00e9"}, "b": 0}'

    merged = merge_patch(target, b'{"b": 1E+2, "a": {"new": 2}}')

    assert merged == b'{"a":{"n":1.10,"big":123456789012345678901234567890,"text":"\\u00e9","new":2},"b":1E+2}'
