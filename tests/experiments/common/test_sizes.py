from experiments.common.sizes import other_rows


def test_rows_are_the_papers_up_to_its_rounding() -> None:
    papers = {
        "mrpc": (3668, 408),
        "ner": (14_041, 51_341),
        "cola": (8551, 1043),
        "qnli": (104_743, 5463),
        "swag": (73_546, 20_006),
        "codah": (1, 1),
    }
    assert [other_rows(task, *sizes) for task, sizes in papers.items()] == [None] * 6
    assert other_rows("trec", 4904, 400) == "trec: 4,904 of about 4,900 training rows, 400 of 548 of dev"
    assert other_rows("ner", 14_041, 51_362) is not None  # words beyond the cut
    assert other_rows("agnews", 38_400, 24_000) is not None
