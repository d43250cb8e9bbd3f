"""What servers and gateways send when they refuse, as data: one row a case.

Written after error bodies in public bug reports and manuals. A body that is a dict or a list is sent as JSON. What a
class means is the same for all of its cases (`OUTCOMES`): how many calls are made, how many are recorded, and how the
run ends.
"""

import json
from dataclasses import dataclass
from typing import Any

from infra.models.refusals.streaks import LIMIT

Body = dict[str, Any] | list[Any] | str | bytes


@dataclass(frozen=True)
class Outcome:
    """Of one call that always gets the same response, with attempts to spare."""

    calls: int
    recorded: int
    error: str  # the class of the error that stops the run; "" where it goes on
    exit_code: int


STOPS = Outcome(LIMIT, 0, "RefusedError", 1)
OUTCOMES = {
    "account": STOPS,
    "model": STOPS,
    "form": STOPS,
    "address": STOPS,
    "unexplained": Outcome(4, 0, "RefusedError", 1),  # one prompt alone: all its attempts
    "prompt": Outcome(1, 1, "", 0),
    "passing": Outcome(4, 0, "", 0),  # all attempts; then its batch fails as a ModelError
}


@dataclass(frozen=True)
class RefusalCase:
    """A response that is no reply, and what it is about. `words` and `remedy` are parts of the message."""

    name: str
    status: int
    body: Body
    subject: str
    reason: str = ""  # of a prompt, or of a failure that passes
    words: str = ""
    remedy: str = ""

    @property
    def raw(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body, ensure_ascii=False)).encode()


def error(message: str, code: Any = None, kind: str | None = "invalid_request_error", **more: Any) -> dict[str, Any]:
    """OpenAI's shape."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code, **more}}


def plain(message: str, kind: str = "BadRequestError", code: int = 400) -> dict[str, Any]:
    """The shape of SGLang, and of vLLM before 0.10."""
    return {"object": "error", "message": message, "type": kind, "param": None, "code": code}


def google(code: int, message: str, status: str, *details: dict[str, Any]) -> list[dict[str, Any]]:
    """Gemini's shape: in a list."""
    return [{"error": {"code": code, "message": message, "status": status, "details": list(details)}}]


def page(title: str, text: str = "nginx") -> str:
    """A page of a gateway."""
    return f"<html>\r\n<head><title>{title}</title></head>\r\n<body><h1>{title}</h1><hr>{text}</body></html>"


KEY, MONEY, NAME, FORM = "OPENAI_API_KEY", "top the account up", "check the model's name", "change the parameter"
TOOLS = "set contexts.tools: text"
ECHO = "The document says: insufficient_quota, content_filter, maximum context length, model_not_found."
FORBIDDEN = {"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted", "input": ECHO}
PER_DAY = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}],
}
PER_MINUTE = {
    "@type": "type.googleapis.com/google.rpc.QuotaFailure",
    "violations": [{"quotaId": "GenerateRequestsPerMinutePerProjectPerModel"}],
}
QUOTA = "You exceeded your current quota, please check your plan and billing details."
TOO_LONG, FILTER = "prompt_too_long", "content_filter"
Case = RefusalCase

# fmt: off
ACCOUNT = [
    Case("openai key", 401, error("Incorrect API key provided: sk-ab*****yz12.", "invalid_api_key"), "account", "", "[key]", KEY),
    Case("openai quota", 429, error(QUOTA, "insufficient_quota", "insufficient_quota"), "account", "", "quota", MONEY),
    Case("openai hard limit", 400, error("Billing hard limit has been reached", "billing_hard_limit_reached"), "account", "", "", MONEY),
    Case("openai country", 403, error("Country, region, or territory not supported", "unsupported_country_region_territory", "request_forbidden"), "account", "", "Country", KEY),
    Case("azure key", 401, {"error": {"code": "401", "message": "Access denied due to invalid subscription key or wrong API endpoint."}}, "account", "", "subscription key", KEY),
    Case("azure network", 403, {"error": {"code": "403", "message": "Public access is disabled. Please configure private endpoint."}}, "account"),
    Case("vllm key", 401, {"error": "Unauthorized"}, "account", "", "Unauthorized", KEY),
    Case("llama.cpp key", 401, error("Invalid API Key", 401, "authentication_error"), "account", "", "Invalid API Key", KEY),
    Case("openrouter credit", 402, {"error": {"message": "This request requires more credits, or fewer max_tokens. You requested up to 4096 tokens, but can only afford 4000.", "code": 402}, "user_id": "user_1"}, "account", "", "requires more credits", MONEY),
    Case("openrouter key limit", 403, {"error": {"message": "Key limit exceeded. Manage it in the settings.", "code": 403}}, "account", "", "Key limit", MONEY),
    Case("openrouter day", 429, {"error": {"message": "Rate limit exceeded: free-models-per-day. Add 10 credits to unlock more.", "code": 429}}, "account", "", "per-day", MONEY),
    Case("anthropic credit", 400, {"type": "error", "error": {"type": "invalid_request_error", "message": "Your credit balance is too low to access the API. Please go to Plans & Billing."}}, "account", "", "credit balance", MONEY),
    Case("anthropic key", 401, {"type": "error", "error": {"type": "authentication_error", "message": "invalid x-api-key"}}, "account", "", "x-api-key", KEY),
    Case("gemini key", 400, google(400, "API key not valid. Please pass a valid API key.", "INVALID_ARGUMENT", {"reason": "API_KEY_INVALID"}), "account", "", "API key not valid", KEY),
    Case("gemini day", 429, google(429, QUOTA, "RESOURCE_EXHAUSTED", PER_DAY), "account", "", "quota", MONEY),
    Case("mistral key", 401, {"message": "Unauthorized", "request_id": "0"}, "account", "", "Unauthorized", KEY),
    Case("deepseek balance", 402, error("Insufficient Balance", "invalid_request_error", "unknown_error"), "account", "", "Insufficient Balance", MONEY),
    Case("siliconflow balance", 403, {"code": 30011, "message": "The selected model requires paid balance. Your paid balance is insufficient. Please top up.", "data": None}, "account", "", "paid balance", MONEY),
    Case("opencode balance", 401, {"message": "Insufficient balance. Manage your billing.", "type": "CreditsError", "param": "", "code": None}, "account", "", "", MONEY),
    Case("zhipu arrears", 429, {"error": {"code": "1113", "message": "您的账户已欠费，请充值后重试。"}}, "account", "", "欠费", MONEY),
    Case("zhipu package", 429, {"error": {"code": "1113", "message": "余额不足或无可用资源包,请充值。"}}, "account", "", "余额不足", MONEY),
    Case("dashscope arrears", 400, error("Access denied, please make sure your account is in good standing.", "Arrearage", "Arrearage"), "account", "", "good standing", MONEY),
    Case("dashscope overdue", 403, error("Access denied due to overdue account", None, None), "account", "", "overdue", MONEY),
    Case("litellm budget", 400, error("Budget has been exceeded! Current cost: 0.3759, Max budget: 0.35", "400", "budget_exceeded"), "account", "", "Max budget", MONEY),
    Case("litellm budget 429", 429, error("Budget has been exceeded! Current cost: 10.51, Max budget: 10.00", "429", "budget_exceeded"), "account", "", "Max budget", MONEY),
    Case("litellm key", 401, error("Authentication Error, Invalid proxy server token passed.", "401", "auth_error"), "account", "", "proxy server token", KEY),
    Case("cloudflare block", 403, page("Attention Required! | Cloudflare", "Sorry, you have been blocked"), "account", "", "Cloudflare"),
    Case("proxy", 407, page("407 Proxy Authentication Required"), "account", "", "407"),
]
MODEL = [
    Case("openai", 404, error("The model `gpt-9` does not exist or you do not have access to it.", "model_not_found"), "model", "", "gpt-9", NAME),
    Case("openai project", 403, error("Project `p` does not have access to model `gpt-9`", "model_not_found"), "model", "", "gpt-9", NAME),
    Case("azure", 404, {"error": {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."}}, "model", "", "deployment", NAME),
    Case("vllm", 404, error("The model `m` does not exist.", 404, "NotFoundError"), "model", "", "`m`", NAME),
    Case("sglang", 404, plain("The model m is not found", "NotFoundError", 404), "model", "", "not found", NAME),
    Case("ollama", 404, error("model 'llama3:latest' not found, try pulling it first", None, "api_error"), "model", "", "pulling", NAME),
    Case("openrouter id", 400, {"error": {"message": "x/y is not a valid model ID", "code": 400}}, "model", "", "valid model", NAME),
    Case("openrouter tools", 404, {"error": {"message": "No endpoints found that support tool use. Try disabling \"search\".", "code": 404}}, "form", "", "tool use", TOOLS),
    Case("ollama tools", 400, error("registry.ollama.ai/library/gemma:2b does not support tools"), "form", "", "tools", TOOLS),
    Case("mistral tools", 400, {"object": "error", "message": "Function calling is not enabled for this model", "code": 3051}, "form", "", "not enabled", TOOLS),
    Case("unknown tools", 400, error("Unrecognized request argument supplied: tools"), "form", "", "tools", TOOLS),
    Case("vllm no parser", 400, error('"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set', 400, "BadRequestError"), "form", "", "parser", TOOLS),
    Case("openrouter endpoints", 404, {"error": {"message": "No endpoints found for x/y:free.", "code": 404}}, "model", "", "No endpoints", NAME),
    Case("deepseek", 400, error("Model Not Exist", "invalid_request_error"), "model", "", "Model Not Exist", NAME),
    Case("zhipu", 400, {"error": {"code": "1211", "message": "模型不存在，请检查模型代码。"}}, "model", "", "模型不存在", NAME),
    Case("dashscope", 404, error("The model `qwen-9` does not exist or you do not have access to it.", "model_not_found"), "model", "", "qwen-9", NAME),
    Case("litellm", 400, error("/chat/completions: Invalid model name passed in model=x. Call `/v1/models` to view available models.", "400", None), "model", "", "Invalid model name", NAME),
    Case("gemini", 404, google(404, "models/gemini-9 is not found for API version v1main.", "NOT_FOUND"), "model", "", "gemini-9", NAME),
    Case("groq retired", 400, error("The model `m` has been decommissioned and is no longer supported.", "model_decommissioned"), "model", "", "decommissioned", NAME),
    Case("gone", 410, error("The model 'x' has reached its end of life on 2026-09-01"), "model", "", "end of life", NAME),
    Case("no /v1", 404, {"detail": "Not Found"}, "model", "", "Not Found", "/v1"),
    Case("nginx no such path", 404, page("404 Not Found"), "model", "", "404 Not Found", "/v1"),
]
FORM_CASES = [
    Case("openai max_tokens", 400, error("Unsupported parameter: 'max_tokens' is not supported with this model. Use 'max_completion_tokens' instead.", "unsupported_parameter"), "form", "", "max_completion_tokens", FORM),
    Case("openai temperature", 400, error("Unsupported value: 'temperature' does not support 0.7 with this model. Only the default (1) value is supported.", "unsupported_value"), "form", "", "temperature", FORM),
    Case("openai completion limit", 400, error("max_tokens is too large: 100000. This model supports at most 16384 completion tokens.", "invalid_value"), "form", "", "too large", FORM),
    Case("azure argument", 400, error("Unrecognized request argument supplied: seed", None), "form", "", "seed", FORM),
    Case("vllm extra", 400, error(str([{"type": "extra_forbidden", "loc": ["body", "min_q"], "msg": "Extra inputs are not permitted"}]), 400, "BadRequestError"), "form", "", "min_q", FORM),
    Case("vllm template", 400, error("As of transformers v4.44, default chat template is no longer allowed, so you must provide a chat template", 400, "BadRequestError"), "form", "", "chat template", FORM),
    Case("vllm top_p", 400, error("top_p must be in (0, 1], got 2.0.", 400, "BadRequestError"), "form", "", "top_p", FORM),
    Case("sglang", 400, plain("temperature must be non-negative, got -1."), "form", "", "temperature", FORM),
    Case("tgi", 422, {"error": "Input validation error: `max_new_tokens` must be <= 192. Given: 500", "error_type": "validation"}, "form", "", "max_new_tokens", FORM),
    Case("mistral", 422, {"object": "error", "message": {"detail": [FORBIDDEN]}, "type": "invalid_request_error"}, "form", "", "body.seed: Extra inputs", FORM),
    Case("mistral old", 422, {"object": "error", "message": json.dumps({"detail": [FORBIDDEN | {"input": 0}]}), "type": "internal_error_proxy", "code": "1000"}, "form", "", "extra_forbidden", FORM),
    Case("fastapi echo", 422, {"detail": [{"type": "missing", "loc": ["body", "x"], "msg": "Field required", "input": {"messages": [{"content": ECHO}]}}]}, "form", "", "body.x: Field required", FORM),
    Case("deepseek", 400, error("Invalid max_tokens value, the valid range of max_tokens is [1, 8192]"), "form", "", "valid range", FORM),
    Case("dashscope", 400, error("Range of max_tokens should be [1, 8192]", "invalid_parameter_error"), "form", "", "Range of max_tokens", FORM),
    Case("zhipu", 400, {"error": {"code": "1210", "message": "API 调用参数有误，请检查文档。"}}, "form", "", "参数有误", FORM),
    Case("litellm", 400, error("litellm.UnsupportedParamsError: openai does not support parameters: {'seed': 1}", "400", None), "form", "", "seed", FORM),
    Case("gemini", 400, google(400, 'Invalid JSON payload received. Unknown name "seed": Cannot find field.', "INVALID_ARGUMENT"), "form", "", "Unknown name", FORM),
    Case("nginx size", 413, page("413 Request Entity Too Large"), "form", "", "413 Request Entity Too Large", "client_max_body_size"),
    Case("envoy size", 413, "Payload Too Large", "form", "", "Payload Too Large", "client_max_body_size"),
    Case("anthropic size", 413, {"type": "error", "error": {"type": "request_too_large", "message": "Request exceeds the maximum size"}}, "form", "", "maximum size", "limit on the size"),
]
ADDRESS = [
    Case("method", 405, {"detail": "Method Not Allowed"}, "address", "", "Method Not Allowed", "base URL"),
    Case("moved", 301, page("301 Moved Permanently"), "address", "", "301", "base URL"),
    Case("sign in", 302, "", "address", "", "status 302", "base URL"),
]
UNEXPLAINED = [
    Case("bare 400", 400, page("400 Bad Request"), "unexplained", "", "400 Bad Request", "objects to"),
    Case("empty 400", 400, "", "unexplained", "", "status 400"),
    Case("teapot", 418, "I'm a teapot", "unexplained", "", "teapot"),
]
PROMPT = [
    Case("openai", 400, error("This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.", "context_length_exceeded"), "prompt", TOO_LONG, "8192"),
    Case("openai window", 400, error("Your input exceeds the context window of this model.", "context_length_exceeded"), "prompt", TOO_LONG, "window"),
    Case("openai minute", 429, error("Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 40000.", "rate_limit_exceeded", "tokens"), "prompt", TOO_LONG, "Limit 30000"),
    Case("groq minute", 413, error("Request too large for model `m` on tokens per minute (TPM): Limit 6000, Requested 7000", "rate_limit_exceeded", "tokens"), "prompt", TOO_LONG, "Limit 6000"),
    Case("vllm", 400, error("This model's maximum context length is 512 tokens. However, you requested 1500 tokens. Please reduce the length of the messages.", 400, "BadRequestError"), "prompt", TOO_LONG, "512"),
    Case("vllm decoder", 400, plain("The decoder prompt (length 21535) is longer than the maximum model length of 16384."), "prompt", TOO_LONG, "21535"),
    Case("vllm output", 400, error("'max_tokens' or 'max_completion_tokens' is too large: 500. This model's maximum context length is 512 tokens and your request has 100 input tokens.", 400, "BadRequestError"), "prompt", TOO_LONG, "100 input tokens"),
    Case("sglang", 400, plain("The input (61709 tokens) is longer than the model's context length (40960 tokens)."), "prompt", TOO_LONG, "61709"),
    Case("tgi", 422, {"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 1512. Given: 1000 `inputs` tokens and 1024 `max_new_tokens`", "error_type": "validation"}, "prompt", TOO_LONG, "1512"),
    Case("llama.cpp", 400, {"error": {"code": 400, "message": "the request exceeds the available context size, try increasing it", "type": "exceed_context_size_error", "n_prompt_tokens": 14429, "n_ctx": 8192}}, "prompt", TOO_LONG, "context size"),
    Case("llama.cpp before", 500, {"error": {"code": 500, "message": "the request exceeds the available context size.", "type": "server_error"}}, "prompt", TOO_LONG, "context size"),
    Case("llama-cpp-python", 500, {"error": {"message": "Requested tokens (2285) exceed context window of 2048", "type": "internal_server_error"}}, "prompt", TOO_LONG, "2285"),
    Case("lm studio", 400, {"error": "The number of tokens to keep from the initial prompt is greater than the context length."}, "prompt", TOO_LONG, "context length"),
    Case("openrouter", 400, {"error": {"message": "This endpoint's maximum context length is 8192 tokens. However, you requested about 9000 tokens.", "code": 400}}, "prompt", TOO_LONG, "9000"),
    Case("openrouter raw", 400, {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": '{"message":"prompt is too long: 9 > 8"}', "provider_name": "P"}}}, "prompt", TOO_LONG, "prompt is too long"),
    Case("anthropic", 400, {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 209303 tokens > 200000 maximum"}}, "prompt", TOO_LONG, "209303"),
    Case("gemini", 400, google(400, "The input token count (1196265) exceeds the maximum number of tokens allowed (1048576).", "INVALID_ARGUMENT"), "prompt", TOO_LONG, "1196265"),
    Case("mistral", 400, {"object": "error", "message": "Prompt contains 40000 tokens, too large for model with 32768 maximum context length", "type": "invalid_request_error"}, "prompt", TOO_LONG, "40000"),
    Case("xai", 400, {"code": "Client specified an invalid argument", "error": "This model's maximum prompt length is 131072 but the request contains 537812 tokens."}, "prompt", TOO_LONG, "537812"),
    Case("dashscope", 400, error("Range of input length should be [1, 6000]", "invalid_parameter_error"), "prompt", TOO_LONG, "6000"),
    Case("zhipu", 400, {"error": {"code": "1261", "message": "Prompt 超长"}}, "prompt", TOO_LONG, "超长"),
    Case("kimi", 400, error("Invalid request: Your request exceeded model token limit: 8192"), "prompt", TOO_LONG, "8192"),
    Case("litellm", 400, error("litellm.ContextWindowExceededError: prompt is over the window", "400", None), "prompt", TOO_LONG, "ContextWindow"),
    Case("azure filter", 400, {"error": {"message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.", "type": None, "param": "prompt", "code": "content_filter", "status": 400, "innererror": {"code": "ResponsibleAIPolicyViolation"}}}, "prompt", FILTER, "content management policy"),
    Case("openai filter", 400, error("Invalid prompt: your prompt was flagged as potentially violating our usage policy.", "invalid_prompt"), "prompt", FILTER, "flagged"),
    Case("openrouter filter", 403, {"error": {"message": 'x/y requires moderation on P. Your input was flagged for "violence".', "code": 403, "metadata": {"reasons": ["violence"], "flagged_input": "..."}}}, "prompt", FILTER, "flagged"),
    Case("deepseek filter", 400, error("Content Exists Risk", "invalid_request_error"), "prompt", FILTER, "Content Exists Risk"),
    Case("deepseek filter before", 400, {"detail": "Content Exists Risk"}, "prompt", FILTER, "Content Exists Risk"),
    Case("dashscope filter", 400, error("Input data may contain inappropriate content.", "data_inspection_failed", "data_inspection_failed"), "prompt", FILTER, "inappropriate"),
    Case("dashscope algo", 400, error("<400> InternalError.Algo.DataInspectionFailed: Input text data may contain inappropriate content."), "prompt", FILTER, "inappropriate"),
    Case("zhipu filter", 400, {"error": {"code": "1301", "message": "系统检测到输入或生成内容可能包含不安全或敏感内容"}}, "prompt", FILTER, "敏感内容"),
    Case("litellm filter", 400, error("litellm.ContentPolicyViolationError: AzureException - filtered", "400", None), "prompt", FILTER, "filtered"),
]
PASSING = [
    Case("openai rate", 429, error("Rate limit reached for gpt-4o on requests per min (RPM).", "rate_limit_exceeded", "requests"), "passing", "busy", "Rate limit"),
    Case("azure rate", 429, {"error": {"code": "429", "message": "Requests have exceeded call rate limit of your current pricing tier. Please retry after 2 seconds."}}, "passing", "busy", "retry after"),
    Case("gemini minute", 429, google(429, QUOTA, "RESOURCE_EXHAUSTED", PER_MINUTE), "passing", "busy", "quota"),
    Case("openrouter provider", 429, {"error": {"message": "Provider returned error", "code": 429, "metadata": {"raw": "m is temporarily rate-limited upstream."}}}, "passing", "busy", "rate-limited"),
    Case("zhipu rate", 429, {"error": {"code": "1302", "message": "您当前使用该API的并发数过高"}}, "passing", "busy", "并发数过高"),
    Case("tgi overloaded", 429, {"error": "Model is overloaded", "error_type": "overloaded"}, "passing", "busy", "overloaded"),
    Case("github rate", 403, {"message": "You have exceeded a secondary rate limit."}, "passing", "server_error", "rate limit"),
    Case("tgi generation", 424, {"error": "Request failed during generation", "error_type": "generation"}, "passing", "server_error", "generation"),
    Case("llama.cpp loading", 503, {"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}, "passing", "busy", "Loading model"),
    Case("ollama busy", 503, error("server busy, please try again.  maximum pending requests exceeded", None, "api_error"), "passing", "busy", "busy"),
    Case("anthropic overloaded", 529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, "passing", "busy", "Overloaded"),
    Case("deepseek down", 503, error("Service is too busy.", "service_unavailable_error"), "passing", "busy", "too busy"),
    Case("vllm engine", 500, error("EngineCore encountered an issue.", 500, "InternalServerError"), "passing", "server_error", "EngineCore"),
    Case("envoy reset", 503, "upstream connect error or disconnect/reset before headers. reset reason: connection termination", "passing", "busy", "upstream connect"),
    Case("envoy healthy", 503, "no healthy upstream", "passing", "busy", "no healthy"),
    Case("nginx gateway", 502, page("502 Bad Gateway"), "passing", "server_error", "502 Bad Gateway"),
    Case("nginx timeout", 504, page("504 Gateway Time-out"), "passing", "server_error", "504"),
    Case("cloudflare timeout", 524, page("524: A timeout occurred", "cloudflare"), "passing", "server_error", "524"),
    Case("cloudflare empty", 520, "", "passing", "server_error", "status 520"),
    Case("groq capacity", 498, error("Flex tier capacity exceeded", "capacity_exceeded"), "passing", "busy", "capacity"),
    Case("timeout", 408, "", "passing", "server_error", "status 408"),
    Case("200 with a rate limit", 200, {"error": {"message": "Rate limit exceeded: free-models-per-min", "code": 429}}, "passing", "busy", "per-min"),
    Case("200 with an error", 200, {"error": {"message": "Network connection lost.", "code": 502}}, "passing", "server_error", "Network"),
    Case("200 with a bare error", 200, {"error": "upstream gone"}, "passing", "server_error", "upstream gone"),
    Case("200 of a proxy", 200, page("Sign in to the corporate proxy"), "passing", "bad_reply", "not a chat completion"),
    Case("200 and nothing", 200, "", "passing", "bad_reply", "not a chat completion"),
    Case("200 no choices", 200, {"object": "chat.completion", "choices": []}, "passing", "bad_reply", "IndexError"),
    Case("error beside choices", 200, {"choices": [{"message": {"content": "It is"}, "finish_reason": "stop"}], "error": {"message": "stream broke", "code": 400}}, "passing", "server_error", "stream broke"),
    Case("error in a choice", 200, {"choices": [{"message": {"content": "It is"}, "finish_reason": "error", "error": {"message": "provider down", "code": 402}}]}, "passing", "server_error", "provider down"),
]
ACCOUNT_IN_200 = [
    Case("200 with no credit", 200, {"error": {"message": "Insufficient credits", "code": 402}}, "account", "", "Insufficient credits", MONEY),
]
# fmt: on
REFUSALS = [
    *(ACCOUNT + MODEL + FORM_CASES + ADDRESS + UNEXPLAINED),
    *(PROMPT + PASSING + ACCOUNT_IN_200),
]
