"""What a server refuses: the account, the model, the form of the request, this prompt, or nothing that lasts.

`RULES` is the whole decision, read from top to bottom: the first rule whose status and words fit says what a response
other than 200 is about. The words are those of the error's own fields; what an error repeats of the request is left
out, since a document may hold any words. Written after error bodies in public bug reports and manuals; the cases are in
tests/providers. Left out: what a class means for a run, which is the scheduler's (`streaks.py`).
"""

import html
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from infra.canonical import canonical_json

Subject = Literal["account", "model", "form", "address", "prompt", "passing", "unexplained"]

PROMPT_TOO_LONG, CONTENT_FILTER, BAD_REQUEST = "prompt_too_long", "content_filter", "bad_request"
FAILED = "failed"  # of a call that was given up after its last attempt
PROMPT_REFUSALS = frozenset({PROMPT_TOO_LONG, CONTENT_FILTER, BAD_REQUEST, FAILED})  # finish reasons of answers

_SHOWN = 300  # characters of a server's words that are kept for people
_READ = 4000  # characters of an error that the rules are matched against
_RECORDED = 8000  # characters of an error body that the ledger keeps as it came
_DEPTH = 10  # of nested fields in an error body

_KEY_REMEDY = "set {api_key_env} to a key that may use this model"
_MONEY_REMEDY = "top the account up, or use another key or endpoint"
_MODEL_REMEDY = "check the model's name in the recipe, and that the endpoint ends in /v1"
_FORM_REMEDY = "change the parameter that the server names in the recipe, or take a server that has it"
_TOOLS_REMEDY = "set contexts.tools: text, so that no tools are sent, or take a server that has them"
_SIZE_REMEDY = (
    "raise the limit on the size of a request at the gateway (nginx: client_max_body_size), or plan shorter contexts "
    "(contexts.max_tokens)"
)
_ADDRESS_REMEDY = "check that the endpoint is the base URL of an OpenAI-compatible server, ending in /v1"
_UNEXPLAINED_REMEDY = "change in the recipe what the server objects to"


@dataclass(frozen=True, slots=True)
class Refusal:
    """What a response is about. `reason` is that of a prompt; `remedy` is for what a person has to mend."""

    subject: Subject
    words: str  # of the server, for people: one line, without keys
    reason: str = BAD_REQUEST
    remedy: str = ""

    @property
    def lasting(self) -> bool:
        """Whether no call can succeed until a person acts."""
        return self.subject in ("account", "model", "form", "address", "unexplained")


@dataclass(frozen=True, slots=True)
class Rule:
    """`statuses` and, where there is one, `words` have to fit. `words` is searched in any case of letters."""

    subject: Subject
    statuses: frozenset[int]
    words: str = ""
    reason: str = BAD_REQUEST
    remedy: str = ""

    def fits(self, status: int, text: str) -> bool:
        """Whether this rule decides."""
        return status in self.statuses and (not self.words or re.search(self.words, text, re.I) is not None)


def _statuses(*numbers: int | range) -> frozenset[int]:
    statuses: set[int] = set()
    for number in numbers:
        statuses.update(number if isinstance(number, range) else (number,))
    return frozenset(statuses)


_BAD = _statuses(400, 422)
_ANY_4XX = _statuses(range(400, 500))
_SERVER = _statuses(range(500, 600))

RULES: tuple[Rule, ...] = (
    # -- this prompt: a content filter ---------------------------------------------------------------------------
    Rule(
        "prompt",
        _statuses(400, 403, 422, 451, 500),
        r"content_filter|content management policy|ResponsibleAIPolicyViolation"  # OpenAI, Azure
        r"|content_policy_violation|ContentPolicyViolation"  # LiteLLM, and DALL-E's code that gateways use
        r"|invalid_prompt|flagged as potentially violating|violat\w+ (of )?our (usage|content) polic"  # OpenAI
        r"|requires moderation|input was flagged"  # OpenRouter (403)
        r"|Content Exists Risk"  # DeepSeek
        r"|data_?inspection_?failed|contain inappropriate content"  # DashScope
        r"|敏感内容|敏感词|code=1301"  # Zhipu
        r"|PROHIBITED_CONTENT|blocked by (the )?(safety|content)|guardrail.{0,40}(violat|blocked|intervened)",
        CONTENT_FILTER,
    ),
    # -- this prompt: too long -----------------------------------------------------------------------------------
    Rule(
        "prompt",
        _statuses(400, 413, 422, 500),
        r"context_length_exceeded|context_window_exceeded|ContextWindowExceeded|exceed_context_size"
        r"|max\w*( \w+)? (context|model|sequence|input|prompt) (length|limit|size)"  # OpenAI, vLLM, xAI, LiteLLM
        r"|context (length|window|size)"  # SGLang, OpenAI, llama.cpp, LM Studio, MiniMax
        r"|longer than the (maximum|model)|(prompt|input) is too (long|large)"  # vLLM, Anthropic, Bedrock
        r"|reduce (the length|the number of input|your (prompt|input))"  # OpenAI, Groq
        r"|too large for model with"  # Mistral
        r"|input token count|exceeds the maximum number of (input )?tokens"  # Gemini
        r"|`?inputs`? tokens|`inputs` must have less"  # TGI
        r"|Range of input length"  # DashScope
        r"|Prompt ?(长度)?超长|(输入|提示).{0,12}(过长|超长|超过|超出)|code=1261"  # Zhipu
        r"|(prompt|input).{0,40}exceeds? .{0,20}(limit|maximum|context)|exceeded model token limit"  # Copilot, Kimi
        r"|too many (input )?tokens(?! per)|token limit exceeded",
        PROMPT_TOO_LONG,
    ),
    # A limit of tokens per minute that this one prompt passes: it can never go through (OpenAI 429, Groq 413).
    Rule("prompt", _statuses(413, 429), r"Request too large for", PROMPT_TOO_LONG),
    # -- passing, said with another status -----------------------------------------------------------------------
    # Gemini says "exceeded your current quota" of a minute and of a day; only the day's name tells them apart.
    Rule("account", _statuses(429), r"PerDay|free-models-per-day", remedy=_MONEY_REMEDY),
    Rule("passing", _statuses(429), r"RESOURCE_EXHAUSTED"),
    Rule("passing", _statuses(400, 403, 404, 422), r"rate.?limit|overloaded|temporarily (unavailable|rate)"),
    # -- the account: money ---------------------------------------------------------------------------------------
    Rule(
        "account",
        _statuses(400, 401, 403, 429, 500, 503),
        r"insufficient_quota|exceeded your current quota|billing_(hard_limit|not_active)|billing hard limit"  # OpenAI
        r"|insufficient (account )?(balance|credits?|funds?|quota)|balance is insufficient"  # DeepSeek, OpenRouter
        r"|credit balance is too low"  # Anthropic
        r"|Arrearage|overdue|account is in good standing"  # DashScope
        r"|余额不足|欠费|code=1113"  # Zhipu
        r"|budget has been exceeded|budget_exceeded|ExceededBudget|crossed budget"  # LiteLLM
        r"|key limit exceeded|requires? more credits|out of credits",  # OpenRouter
        remedy=_MONEY_REMEDY,
    ),
    Rule("account", _statuses(402), remedy=_MONEY_REMEDY),
    # -- the form of the request: a model or server without tools -------------------------------------------------
    Rule(
        "form",
        _statuses(400, 404, 422, 501),
        r"support (for )?(tools?|functions?)\b"  # OpenRouter (404), Ollama
        r"|\b(tools?|(tool|function) (use|call\w*|choice))['\"`]? (is|are) not (supported|enabled|allowed)"  # Mistral
        r"|(unknown|unsupported|unrecognized).{0,40}['\"` ]tools?['\"`]?(\W|$)"
        r"|tool choice requires",  # vLLM without a parser of calls
        remedy=_TOOLS_REMEDY,
    ),
    # -- the model: its name, said with another status ------------------------------------------------------------
    Rule(
        "model",
        _statuses(400, 401, 403, 422, 503),
        r"model_not_found|model_decommissioned|ModelNotOpen|invalid_model|invalid model( name)?\b"  # OpenAI, LiteLLM
        r"|not a valid model|No endpoints? (found|available)"  # OpenRouter
        r"|Model Not Exist|model .{0,80}(does not exist|not exist|not found|has been (deprecated|decommissioned|shut))"
        r"|(does not|not authorized to|no) (have )?access to (the )?model"
        r"|模型不存在|modelCode|code=1211",  # Zhipu
        remedy=_MODEL_REMEDY,
    ),
    # -- the account: the key -------------------------------------------------------------------------------------
    Rule(
        "account",
        _BAD,
        r"API key not valid|API_KEY_INVALID|(invalid|incorrect|missing).{0,12}(api|auth\w*).{0,3}(key|token)",  # Gemini
        remedy=_KEY_REMEDY,
    ),
    Rule("account", _statuses(401, 403, 407, 451), remedy=_KEY_REMEDY),
    Rule("model", _statuses(404, 410), remedy=_MODEL_REMEDY),
    # -- the form of the request ----------------------------------------------------------------------------------
    Rule("form", _statuses(413), remedy=_SIZE_REMEDY),
    Rule("form", _statuses(422), remedy=_FORM_REMEDY),
    Rule(
        "form",
        _statuses(400),
        r"unsupported_(parameter|value)|(unknown|missing_required|invalid)_parameter|invalid_(value|type)"  # OpenAI
        r"|unsupported (parameter|value)|unknown (parameter|field|name)|unrecognized request argument"
        r"|UnsupportedParams|does not support param"  # LiteLLM
        r"|extra_forbidden|extra inputs are not permitted|unexpected keyword|field required"  # Mistral, vLLM
        r"|(is|are) not (supported|allowed|permitted)|not supported (with|by|for)|does not support"
        r"|(must|should|has to|needs to) be|valid range|Range of \w+ should|supports at most|out of range"
        r"|max_(completion_)?tokens|temperature|top_p|\bseed\b|structured_outputs|response_format|logprobs"
        r"|参数.{0,8}(有误|非法|错误)|parameter is illegal|code=121[0-5]"  # Zhipu
        r"|chat template",  # vLLM
        remedy=_FORM_REMEDY,
    ),
    # -- the address ----------------------------------------------------------------------------------------------
    Rule("address", _statuses(range(100, 200), range(201, 400), 405, 406, 415, 501, 505), remedy=_ADDRESS_REMEDY),
    # -- passing --------------------------------------------------------------------------------------------------
    # 424 TGI, 425 too early, 498 Groq, 499 nginx, 52x Cloudflare, 529 Anthropic
    Rule("passing", _statuses(408, 409, 423, 424, 425, 429, 498, 499)),
    Rule("passing", _SERVER),
    # -- the rest: a form that never works, or this prompt where calls of the same form succeed -------------------
    Rule("unexplained", _ANY_4XX, remedy=_UNEXPLAINED_REMEDY),
)
_OTHER = Rule("address", frozenset(), remedy=_ADDRESS_REMEDY)  # a status that HTTP does not have

# Fields of an error that say what is wrong. What is not here may repeat the request: "input", "ctx", "messages".
_FIELDS = (
    *("message", "msg", "detail", "details", "error", "errors", "error_msg", "error_message", "error_description"),
    *("code", "error_code", "status_code", "type", "error_type", "param", "reason", "reasons", "status", "title"),
    *("loc", "raw", "metadata", "innererror", "violations", "quotaId", "@type", "base_resp", "status_msg"),
)
_SECRET = re.compile(r"\b(sk|gsk|hf|xai)[-_][\w*-]{6,}|\bAIza[\w-]{20,}|\bBearer\s+[\w.*~+/=-]{8,}", re.I)
_TAGS = re.compile(r"<(script|style)\b.*?</\1>|<!--.*?-->|<[^>]*>", re.I | re.S)


def classify_refusal(status: int, body: str) -> Refusal:
    """What a response with a status other than 200 is about."""
    text = error_text(body)
    words = without_secrets(refusal_message(body)) or f"nothing but status {status}"
    for rule in RULES:
        if rule.fits(status, text):
            return Refusal(rule.subject, words, rule.reason, rule.remedy)
    return Refusal(_OTHER.subject, words, remedy=_OTHER.remedy)


def refusal_reason(body: str) -> str:
    """Why a server has refused a prompt, from its error body alone."""
    refusal = classify_refusal(400, body)
    return refusal.reason if refusal.subject == "prompt" else BAD_REQUEST


def refusal_message(body: str) -> str:
    """The message of an error body in any of the shapes that servers use: one line of at most 300 characters."""
    parsed = _parsed(body)
    message = _plain(body) if parsed is None else _message(parsed) or body
    return " ".join(_printable(message).split())[:_SHOWN]


def error_text(body: str) -> str:
    """The words of an error body that the rules are matched against."""
    parsed = _parsed(body)
    if parsed is None:
        return _plain(body)[:_READ]
    text = ""
    for part in _texts(parsed):
        text += f" {part[:_READ]}"
        if len(text) >= _READ:
            break
    return text[:_READ]


def recorded_body(body: str) -> str:
    """An error body as the ledger keeps it: without keys, and short where it repeats the request."""
    if len(body) > _RECORDED:
        body = canonical_json({"error": {"message": _printable(error_text(body))}}).decode()
    return _printable(without_secrets(body))


def without_secrets(text: str) -> str:
    """A text without what looks like a key, which some servers repeat in their errors."""
    return _SECRET.sub("[key]", text)


def _parsed(body: str) -> Any:
    """The JSON object, list or text of a body; None when it is none of them."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict | list | str) else None


def _texts(value: Any, depth: int = 0) -> Iterator[str]:
    """The texts and numbers of an error's fields, in the order of `_FIELDS` and of lists."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield str(value)
    elif isinstance(value, list) and depth < _DEPTH:
        for part in value[:20]:
            yield from _texts(part, depth + 1)
    elif isinstance(value, dict) and depth < _DEPTH:
        for name in _FIELDS:
            if name in value:
                prefix = "code=" if name in ("code", "error_code", "status_code") else ""
                for text in _texts(value[name], depth + 1):
                    yield prefix + text


def _message(parsed: Any, depth: int = 0) -> str:
    """The sentence for people in an error: the deepest `message`, and what it is about."""
    if isinstance(parsed, str):
        return parsed
    if depth == _DEPTH:
        return ""
    if isinstance(parsed, list):
        messages = [_message(part, depth + 1) for part in parsed[:3]]
        return "; ".join(message for message in messages if message)
    if not isinstance(parsed, dict):
        return ""
    for name in ("error", "message", "detail", "msg", "error_msg", "errors", "title", "error_description"):
        message = _message(parsed.get(name), depth + 1)
        if message:
            raw = parsed.get("metadata")  # OpenRouter: what the provider behind it has said
            if isinstance(raw, dict) and isinstance(raw.get("raw"), str):
                return f"{message}: {raw['raw']}"
            if name == "msg" and isinstance(parsed.get("loc"), list):
                return f"{'.'.join(map(str, parsed['loc']))}: {message}"
            return message
    return ""


def _plain(text: str) -> str:
    """The beginning of a text, or of a page of HTML without its tags."""
    text = text[: 4 * _READ]
    if "<" in text[:200]:
        text = html.unescape(_TAGS.sub(" ", text))
    return " ".join(text.split())


def _printable(text: str) -> str:
    """A text that can be shown and encoded: control characters become blanks."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    return "".join(character if character.isprintable() or character in "\n\t" else " " for character in text)
