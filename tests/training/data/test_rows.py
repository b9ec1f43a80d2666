from training.data.rows import Row, RowSet, data_digest


def _row_set(*values: dict[str, object]) -> RowSet:
    return RowSet("x", "line", tuple(Row(number, row) for number, row in enumerate(values, start=1)))


def test_the_digest_follows_rows_their_lines_and_the_order_of_the_sets() -> None:
    one, other = _row_set({"text": "a", "label": 1}), _row_set({"text": "b", "label": 1})
    assert data_digest(one, other) == data_digest(_row_set({"label": 1, "text": "a"}), other)
    assert (
        len({data_digest(one, other), data_digest(other, one), data_digest(one), data_digest(one, one)}) == 4
    )


def test_columns_are_those_of_any_row() -> None:
    assert _row_set({"a": 1}, {"b": 1, "a": 2}).columns == ("a", "b")
