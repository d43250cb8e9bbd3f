"""The replies of the stub server: pure functions of the request, so that the same request has the same reply."""

import hashlib
from typing import Any

MODEL = "stub"
_WEIGHTS = (0, 0, 0, 0, 1, 1, 1, 2, 2, 3)  # candidate chosen by the last digit of a seed's hash


def stub_answer(content: str, seed: int | None) -> str:
    """One of four candidate answers made of the prompt's last words; the same for the same prompt and seed."""
    words = [word for word in content[-2000:].split() if word.isalnum()] or ["nothing"]
    weight = hashlib.sha256(str(seed).encode()).digest()[0] % len(_WEIGHTS)
    digest = hashlib.sha256(f"{_WEIGHTS[weight]}|".encode() + content.encode("utf-8", "surrogatepass")).digest()
    return "The answer is " + " ".join(words[byte % len(words)] for byte in digest[:6]) + "."


def stub_embedding(text: str, dimensions: int = 32) -> list[float]:
    """A bag of hashed words, L2-normalised: texts that share words lie close."""
    vector = [0.0] * dimensions
    for word in text.split() or [""]:
        digest = hashlib.sha256(word.encode("utf-8", "surrogatepass")).digest()
        vector[digest[0] % dimensions] += 1.0 if digest[1] % 2 else -1.0
    norm = sum(value * value for value in vector) ** 0.5 or 1.0
    return [value / norm for value in vector]


def completion(model: str, text: str, max_tokens: int, raw: bytes, prompt_tokens: int) -> dict[str, Any]:
    """A chat completion of `text`, cut at `max_tokens` words. It holds no time, so its bytes are always the same."""
    words = text.split()
    cut = len(words) > max_tokens
    message = {"role": "assistant", "content": " ".join(words[:max_tokens]) if cut else text}
    tokens = min(len(words), max_tokens)
    return {
        "id": "chatcmpl-" + hashlib.sha256(raw).hexdigest()[:16],
        "object": "chat.completion",
        "created": 0,
        "model": model,
        "choices": [{"index": 0, "message": message, "finish_reason": "length" if cut else "stop", "logprobs": None}],
        "usage": {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": prompt_tokens + tokens,
        },
    }
