"""Texts in sentences, in English and Chinese."""

import pytest

from tasks.sentences import split_sentences


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! “Three?” Four", ["One.", " Two!", " “Three?”", " Four"]),
        ("一。二！“三？”四\n五", ["一。", "二！", "“三？”", "四\n", "五"]),
        ("It is 3.5 m.\n\nNew", ["It is 3.5 m.", "\n\nNew"]),
        ("A title\n\nNew", ["A title\n\n", "New"]),
        (
            "水深3.5米。（见下文。）他说：「好！」然后走了",
            ["水深3.5米。", "（见下文。）", "他说：「好！」", "然后走了"],
        ),
        ("甲，乙；丙：丁。答案：戊", ["甲，乙；丙：丁。", "答案：戊"]),
        ("建于1968年。U.S. 公司建成。", ["建于1968年。", "U.S.", " 公司建成。"]),
    ],
)
def test_sentences_join_to_the_text(text: str, sentences: list[str]) -> None:
    assert list(split_sentences(text)) == sentences
    assert "".join(sentences) == text
