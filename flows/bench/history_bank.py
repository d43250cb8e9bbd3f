"""Gold questions about histories for the bench of checks: dialogues and logs of an agent, written by rules.

Each dialogue has one matter that is decided, changed, never answered or spoiled by an earlier step, among turns of
other matters. Names are drawn, so that no two dialogues share one. English and Chinese.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from infra.canonical import seeded_random

DIALOGUES = 12  # of each kind and language

Messages = tuple[tuple[str, str], ...]  # role and content

_FIRST_EN = ("Cor", "Hal", "Bran", "Tes", "Vad", "Mer", "Sol", "Kes", "Dun", "Ar", "Lin", "Por")
_LAST_EN = ("vane", "lin", "tic", "sin", "um", "ova", "wick", "rel", "stead", "den", "gard", "tona")
_FIRST_ZH = "启嘉临安明远青川云和锦泽"
_LAST_ZH = "衡禾江宁德山岭河桥顺溪州"


@dataclass(frozen=True)
class Dialogue:
    """A history with its gold question."""

    kind: str
    language: str
    title: str
    messages: Messages
    question: str
    answer: str
    proof: tuple[str, ...]  # sentences of the turns


def dialogues() -> Iterator[Dialogue]:
    """All dialogues, the same each time."""
    rng = seeded_random("histories", DIALOGUES)
    for make in (_english, _chinese):
        for kind in ("decision", "change", "unanswered", "failure_cause"):
            for number in range(DIALOGUES):
                yield make(kind, number, rng)


def _english(kind: str, number: int, rng: random.Random) -> Dialogue:
    name = f"{_FIRST_EN[number]}{rng.choice(_LAST_EN)}"
    first, second = (f"{rng.choice(_FIRST_EN)}{ending} Street" for ending in rng.sample(_LAST_EN, 2))
    filler = [
        ("user", f"What is the weather like in {name} today?"),
        ("assistant", f"In {name} it is {rng.randint(3, 25)} degrees with a light wind."),
        ("user", f"Please draft a note of thanks to the caterers of the {name} summer party."),
        ("assistant", "Here is a draft: many thanks for the food and the kind service."),
    ]
    proof: tuple[str, ...]
    decided = f"Then let us take the house in {first} for the {name} office."
    changed = f"We change it: the {name} office moves into the house in {second} after all."
    query = f"By the way, who pays the deposit of the {name} office?"
    if kind == "decision":
        core = [("user", decided), ("assistant", "Noted. I will write to the agent.")]
        question, answer, proof = f"In which street did the user take a house for the {name} office?", first, (decided,)
    elif kind == "change":
        core = [("user", decided), ("assistant", "Noted."), *filler[:2], ("user", changed), ("assistant", "Noted.")]
        question = f"From which street to which other street was the {name} office moved in the user's plan?"
        answer, proof = f"from {first} to {second}", (decided, changed)
    elif kind == "unanswered":
        core = [("user", f"{query} And what is the rent in {first}?"), ("assistant", f"The rent in {first} is 900.")]
        question = f"What did the user ask about the deposit of the {name} office that was never answered?"
        answer, proof = f"who pays it in {name}", (query,)
    else:
        step = f"[calls the tool run_sql]\nUPDATE branches SET owner = NULL WHERE town = '{first}'"
        failure = f"error: the branch {name} has no owner"
        core = [("assistant", step), ("tool", "3 rows updated"), *filler[2:], ("tool", failure)]
        question = f"Which statement of the assistant led to the error that the branch {name} has no owner?"
        answer, proof = f"taking the owner out of {first}", (step, failure)
    return Dialogue(kind, "en", f"Chat {name}", (*filler, *core, *filler[2:]), question, answer, proof)


def _chinese(kind: str, number: int, rng: random.Random) -> Dialogue:
    name = f"{_FIRST_ZH[number]}{rng.choice(_LAST_ZH)}公司"
    first, second = (f"{rng.choice(_FIRST_ZH)}{ending}路" for ending in rng.sample(_LAST_ZH, 2))
    filler = [
        ("user", f"{name}所在的城市今天天气怎么样？"),
        ("assistant", f"今天{rng.randint(3, 25)}度，有微风。"),
        ("user", f"请给{name}夏日聚会的餐饮公司写一封感谢信。"),
        ("assistant", "草稿如下：感谢贵公司的美食与周到服务。"),
    ]
    proof: tuple[str, ...]
    decided = f"那{name}的办事处就租{first}的房子。"
    changed = f"我们改一下：{name}的办事处还是搬进{second}的房子。"
    query = f"顺便问一下，{name}办事处的押金由谁来付？"
    if kind == "decision":
        core = [("user", decided), ("assistant", "记下了，我会写信给中介。")]
        question, answer, proof = f"用户为{name}的办事处租了哪条路上的房子？", first, (decided,)
    elif kind == "change":
        core = [("user", decided), ("assistant", "记下了。"), *filler[:2], ("user", changed), ("assistant", "好的。")]
        question = f"用户的计划里，{name}的办事处从哪条路改到了哪条路？"
        answer, proof = f"从{first}改为{second}", (decided, changed)
    elif kind == "unanswered":
        core = [("user", f"{query}另外，{first}的租金是多少？"), ("assistant", f"{first}的租金是九百元。")]
        question = f"关于{name}办事处的押金，用户问了什么而一直没有得到回答？"
        answer, proof = f"{name}的由谁来付", (query,)
    else:
        step = f"[调用工具 run_sql]\nUPDATE branches SET owner = NULL WHERE town = '{first}'"
        failure = f"错误：{name}分部没有负责人"
        core = [("assistant", step), ("tool", "更新了3行"), *filler[2:], ("tool", failure)]
        question = f"报错说{name}分部没有负责人，是助手的哪一条语句造成的？"
        answer, proof = f"把{first}的负责人设为空的更新语句", (step, failure)
    return Dialogue(kind, "zh", f"聊天记录 {name}", (*filler, *core, *filler[2:]), question, answer, proof)
