"""The errors that end all waiting calls of a model, in words: what happened, with the server's own, and what to do."""

from collections.abc import Sequence

from infra.errors import ModelError, RefusedError
from infra.models.protocol import Failure
from infra.models.sending.call_settings import RequestManner
from infra.models.sending.endpoint import Endpoint
from infra.models.sending.transport import Refused

_NAMED = 3  # of what failed calls were about
_LEDGER = "the replies that arrived are in the ledger."


def unreachable_error(endpoints: Sequence[Endpoint], attempts: int, manner: RequestManner) -> ModelError:
    """No endpoint responds, or one's server is not started again any more."""
    for endpoint in endpoints:
        if endpoint.given_up:
            return ModelError(endpoint.last_error)
    causes = "; ".join(f"{endpoint.url} ({endpoint.last_error})" for endpoint in endpoints)
    return ModelError(
        f"no endpoint can be reached after {attempts} tries of each: {manner.redact(causes)}. Start the server or "
        f"correct `endpoints` in the recipe, then run again; {_LEDGER}"
    )


def refused_error(url: str, model: str, failure: Refused, manner: RequestManner) -> RefusedError:
    """An endpoint refuses the account, the model or the form of its requests."""
    remedy = failure.refusal.remedy.format(api_key_env=manner.api_key_env)
    return RefusedError(
        f"{url} refuses model {model!r}: {manner.redact(failure.detail).rstrip('.')}; {remedy}. "
        "Nothing is dropped for this, and what was paid for is in the ledger: then the same command goes on"
    )


def failed_error(failures: Sequence[Failure], names: Sequence[str], calls: str = "calls") -> ModelError:
    """Calls that have used up their attempts. `names`: what each was about, "" where that is not said."""
    first = failures[0]
    subjects: dict[str, None] = dict.fromkeys(filter(None, names))
    about = "; ".join(list(subjects)[:_NAMED]) + ("; ..." if len(subjects) > _NAMED else "")
    place = f" by {first.endpoint}" if first.endpoint else ""
    return ModelError(
        f"{len(failures)} {calls} failed after all attempts; the first{place}: {first.reason}: {first.detail}"
        f"{f' ({about})' if about else ''}. "
        "The replies that arrived are in the ledger; when the endpoint is well again, re-run the failed shards. "
        "If it never is for these, --drop-failed leaves them out"
    )


def rate_error(endpoint: Endpoint, detail: str, manner: RequestManner) -> ModelError:
    """Every endpoint has refused all calls for its rate, pause after pause."""
    return ModelError(
        f"{endpoint.url} takes no call, pause after pause: {manner.redact(detail)}. Ask the provider for a higher "
        f"limit, or run again later; {_LEDGER}"
    )
