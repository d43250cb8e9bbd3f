"""Which answers consensus picks, by their length: the share of questions where the majority's answer is picked.

20 questions with 32 answers each, written here in the manner of plan and solve: sentences that all answers share, each
in one of three wordings, then the final answer. 18 of the 32 agree on it, the others spread over three towns, so that
nothing but the end tells them apart. Lengths are in tokens of the embedding model. Ways to pick: one at random; by
ROUGE-L; by embeddings of the first 256 tokens, as before long texts came in windows; by embeddings of the whole
answer; by embeddings of what follows "Answer:". English is embedded by the default model, Chinese by the default model
(cut at 256) and by multilingual-e5-small. The models compute in bfloat16, in which a processor with AMX takes a third
of the time.
"""

import random
from collections.abc import Iterator
from typing import Any

from infra.models.embedding.embedder import open_embedder
from infra.recipe import Embedding, Recipe, parse_recipe
from tasks.judging.context import ScoringContext
from tasks.judging.similarity import ConsensusSettings, consensus_scores
from tasks.metrics import final_answer

LENGTHS = (100, 300, 600, 1200)
QUESTIONS, ANSWERS, MAJORITY = 20, 32, 18
MULTILINGUAL = "multilingual-e5-small"
_TOWNS = {
    "en": ("Hangzhou", "Suzhou", "Ganzhou", "Taizhou", "Lanzhou", "Quanzhou", "Wenzhou", "Fuzhou"),
    "zh": ("杭州", "苏州", "赣州", "台州", "兰州", "泉州", "温州", "福州"),
}
_END = {
    "en": " So the town that the question asks for is {town}.\nAnswer: {town}",
    "zh": "所以题目问的城市是{town}。\n答案：{town}",
}
_SENTENCES = {
    "en": (
        ("Plan: find the person first, then the place.", "Plan: first the person, then the place.", "First a plan."),
        ("Passage {n} names the engineer of the bridge.", "The bridge's engineer stands in passage {n}.", "See {n}."),
        ("It was opened in the spring of 19{n}1.", "The opening was in spring, 19{n}1.", "It opened in 19{n}1."),
        ("The engineer had studied abroad for {n} years.", "Abroad he studied {n} years.", "He studied for {n} years."),
        ("Next I look for the family of the engineer.", "Now for his family.", "The next step is the family."),
        ("According to passage {n}, his father was a teacher.", "His father taught, says {n}.", "The father taught."),
        ("The family moved twice before the war.", "Before the war they moved twice.", "They moved two times."),
        (
            "Passage {n} is about another bridge and does not help.",
            "Passage {n} is of no use here.",
            "Not passage {n}.",
        ),
        ("The letter in passage {n} gives the missing link.", "A letter, in {n}, links both.", "The link is in {n}."),
        ("Both passages speak of the same school.", "It is the same school in both.", "The school is the same."),
    ),
    "zh": (
        ("计划：先找出人物，再找出地点。", "先找人物，然后找地点。", "第一步，制定计划。"),
        ("第{n}段提到了设计这座桥的工程师。", "设计桥的工程师出现在第{n}段。", "见第{n}段。"),
        ("这座桥在19{n}1年春天通车。", "通车时间是19{n}1年春。", "它于19{n}1年建成。"),
        ("这位工程师曾在国外学习{n}年。", "他在国外读了{n}年书。", "他学习了{n}年。"),
        ("接下来要查找工程师的家庭。", "现在看他的家人。", "下一步是他的家庭。"),
        ("根据第{n}段，他的父亲是一名教师。", "第{n}段说他父亲教书。", "他的父亲当过老师。"),
        ("战争之前，这家人搬过两次家。", "战前他们搬了两次。", "他们一共搬过两次。"),
        ("第{n}段讲的是另一座桥，没有帮助。", "第{n}段在这里用不上。", "第{n}段与此无关。"),
        ("第{n}段里的一封信给出了缺少的线索。", "有一封信把两者联系起来，见第{n}段。", "线索在第{n}段。"),
        ("两段文字说的是同一所学校。", "两处都是同一所学校。", "学校是同一所。"),
    ),
}


def measure() -> dict[str, Any]:
    """Percent of questions where the majority's answer is picked, by language, length and way."""
    return {language: {length: measure_length(language, length) for length in LENGTHS} for language in ("en", "zh")}


def measure_length(language: str, length: int, questions: int = QUESTIONS) -> dict[str, float]:
    """Percent by way of picking, for answers of so many tokens."""
    model = MULTILINGUAL if language == "zh" else Embedding().model
    before = _scoring(Embedding(long_texts="cut", max_tokens=256, dtype="bfloat16"))
    after = _scoring(Embedding(model=model, dtype="bfloat16"))
    embedding = ConsensusSettings(similarity="embedding")
    ways = {
        "rouge_l": (after, ConsensusSettings(similarity="rouge_l")),
        "embedding of 256 tokens": (before, embedding),
        "embedding": (after, embedding),
    }
    hits = dict.fromkeys((*ways, "embedding of the final answer"), 0)
    for question in range(questions):
        towns, answers = _answers(language, length, question, after)
        for way, (scoring, settings) in ways.items():
            hits[way] += towns[_best(consensus_scores(answers, settings, scoring))] == towns[0]
        finals = [final_answer(answer) for answer in answers]
        hits["embedding of the final answer"] += towns[_best(consensus_scores(finals, embedding, after))] == towns[0]
    percent = {"random": round(100 * MAJORITY / ANSWERS, 1)}
    for way, count in hits.items():
        percent[way] = round(100 * count / questions, 1)
    return percent


def _scoring(settings: Embedding) -> ScoringContext:
    """What the scorer needs: an embedder alone."""
    embedder = open_embedder(settings)
    return ScoringContext(lambda: embedder, None, _recipe())


def _recipe() -> Recipe:
    policy = {"name": "none", "tokenizer": "microworld", "endpoints": ["http://127.0.0.1:9/v1"]}
    return parse_recipe(
        {
            "name": "bench",
            "questions": {"source": "none.jsonl"},
            "policy": policy,
            "scoring": {"scorers": [{"scorer": "consensus"}]},
            "dataset": {"name": "bench", "licence": "none"},
        }
    )


def _answers(language: str, length: int, question: int, scoring: ScoringContext) -> tuple[list[str], list[str]]:
    """The towns and texts of a question's answers; the first is of the majority. The order says nothing else."""
    rng = random.Random(f"{language} {length} {question}")
    right, *wrong = rng.sample(_TOWNS[language], 4)
    towns = [right] * MAJORITY + rng.choices(wrong, k=ANSWERS - MAJORITY)
    texts = []
    for town in towns:
        end = _END[language].format(town=town)
        text = ""
        for sentence in _sentences(language, rng):
            sizes = scoring.embedder().sizes([text + sentence + end])
            assert sizes is not None  # of a local model
            if text and sizes[0].tokens > length:
                break
            text += sentence
        texts.append(text + end)
    order = [0, *rng.sample(range(1, ANSWERS), ANSWERS - 1)]
    return [towns[place] for place in order], [texts[place] for place in order]


def _sentences(language: str, rng: random.Random) -> Iterator[str]:
    """Sentence after sentence, each in one of its wordings."""
    space = " " if language == "en" else ""
    while True:
        for wordings in _SENTENCES[language]:
            yield space + rng.choice(wordings).format(n=rng.randint(1, 9))


def _best(scores: list[float]) -> int:
    return scores.index(max(scores))
