"""Usage where a server sends none: counted here, the same each time, never nothing."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.errors import BudgetReached, PrerequisiteError
from infra.models.budget import BudgetMeter
from infra.models.protocol import new_entry
from infra.models.tokens import TEMPLATE_OVERHEAD, estimated_tokens, load_tokenizer, prompt_tokens
from infra.models.usage import ByBytes, ByTokenizer, Usage, UsageReader
from infra.recipe import Budget, Price
from tests.support.memory_ledger import MemoryLedger
from tests.support.requests import client_of, prompt, requests
from tests.support.stub_server import running_stub


def body(text, **message):
    choice = {"message": {"content": text, **message}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice]}, ensure_ascii=False)


def test_a_character_of_chinese_is_more_than_one_of_english():
    assert estimated_tokens("a" * 400) == 100
    assert estimated_tokens("水" * 400) == 300
    assert estimated_tokens("") == 0 and estimated_tokens("a") == 1


def test_what_the_server_counts_stands_and_the_rest_is_counted():
    reader = UsageReader()
    question = prompt("a" * 40)
    raw = body("b" * 80, reasoning_content="c" * 40)
    assert reader.of(question, 7, 3, raw) == Usage(7, 3, counted_here=False)
    assert reader.of(question, 0, 3, raw) == Usage(TEMPLATE_OVERHEAD + 10, 3, counted_here=True)
    assert reader.of(question, 7, 0, raw) == Usage(7, 20 + 10, counted_here=True)
    assert reader.of(question, 7, 0, body("")) == Usage(7, 0, counted_here=False)
    assert reader.of(question, 0, 0, '{"scores": [1]}') == Usage(TEMPLATE_OVERHEAD + 10, 0, counted_here=True)


def test_a_tokenizer_that_is_at_hand_counts_with_its_template():
    tokenizer = load_tokenizer("microworld")
    question = prompt("Where does Mira live?")
    usage = UsageReader(ByTokenizer(lambda: tokenizer)).of(question, 0, 0, body("In Oakmoor."))
    assert usage.prompt_tokens == prompt_tokens(tokenizer, [question.messages])[0]
    assert usage.completion_tokens > 0


def test_a_tokenizer_that_cannot_be_had_is_looked_for_once():
    looked = []

    def load():
        looked.append(1)
        raise PrerequisiteError("no hub")

    reader = UsageReader(ByTokenizer(load))
    for text in ("one", "two"):
        assert reader.of(prompt(text), 0, 0, body("yes")).prompt_tokens == TEMPLATE_OVERHEAD + 1
    assert looked == [1]


def test_a_prompt_is_counted_once_for_all_its_samples_in_many_threads():
    class Counting(ByBytes):
        counted = 0

        def prompt(self, prompt):
            self.counted += 1
            return super().prompt(prompt)

    counter = Counting()
    reader = UsageReader(counter)
    with ThreadPoolExecutor(8) as pool:
        usages = list(pool.map(lambda number: reader.of(prompt("a" * 4000), 0, number, "{}"), range(1, 65)))
    assert {usage.prompt_tokens for usage in usages} == {TEMPLATE_OVERHEAD + 1000} and counter.counted == 1


def test_a_refusal_in_the_ledger_costs_nothing():
    entry = new_entry(requests(1, 1)[0], 400, "{}", 0.0)
    assert UsageReader().of_entry(prompt("a" * 4000), entry) == Usage(0, 0)


@pytest.mark.parametrize("limits", [{"tokens": 300}, {"money": 0.0003}])
def test_budgets_bite_without_usage_and_bite_again_when_the_run_resumes(limits):
    ledger = MemoryLedger()
    price = Price(input_per_million=1, output_per_million=1)
    with running_stub(without_usage=True) as stub:
        for _ in range(2):
            meter = BudgetMeter(Budget(**limits))
            with client_of(ledger, stub, concurrency=1, budget=meter, price=price) as client:
                with pytest.raises(BudgetReached):
                    client.complete(requests(4, 8))
                counts = client.counts()["sample"]
            paid = len(ledger.entries)
            assert 1 < paid < 32 and counts.counted_here == paid == counts.made + counts.reused
            assert meter.spent().tokens >= 300
        assert stub.requests == paid
    assert {entry.prompt_tokens for entry in ledger.entries.values()} == {0}  # as the server has sent it


def test_a_reply_that_several_requests_share_counts_alike():
    with running_stub(without_usage=True) as stub, client_of(MemoryLedger(), stub) as client:
        client.complete(requests(1, 2) * 2)
        counts = client.counts()["sample"]
    assert (counts.made, counts.reused, counts.counted_here) == (2, 2, 4)
    assert counts.reused_prompt_tokens == counts.prompt_tokens > 0
    assert counts.reused_completion_tokens == counts.completion_tokens > 0
