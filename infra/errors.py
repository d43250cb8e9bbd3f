"""All errors of Longmill, in one tree.

    LongmillError
    ├── InputError          the user's questions, documents or dataset cannot be read as they stand
    │   └── UnreadableError one document cannot be read: a counted drop, which stops nothing
    ├── RecipeError         a recipe key is unknown, missing, or contradicts another
    │   └── UsageError      words on the command line that a verb has not, or that contradict one another
    ├── PrerequisiteError   something that the machine must have is missing: Python, CPU, port, disk
    ├── StoreError          the store cannot be reached, or refuses a read or a write
    │   ├── MissingError    there is no file with this path
    │   └── LedgerError     the ledger cannot be read; the run stops rather than pay again
    ├── HubError            the hub cannot be reached, or refuses the token, the name or a file
    ├── ModelError          a model endpoint is unreachable or refuses every call
    │   └── RefusedError    a server refuses the account, the model or the form of the request; a person must act
    ├── JudgeError          half of a judge's first replies cannot be used; the run stops before more is spent
    ├── BudgetReached       the recipe's budget is spent; the replies so far are in the ledger
    ├── YieldError          too many questions gave no pair for a fault, or none gave one; nothing is published
    ├── ShardError          a shard has failed; the error that it comes from says why
    ├── BusyError           another build works on the same plan
    ├── StoppedError        a person or the platform stops the run; nothing has failed
    ├── ServingError        a server that Longmill starts did not come up, or went down
    ├── BalanceError        questions do not equal pairs + drops: a bug, never published
    ├── TrainingError       a row would be cut, or the loss is not finite or does not change
    └── EvaluationError     nothing to evaluate, or the model cannot be served
        └── ContaminationError  evaluation questions were trained on

A message names the thing, the cause and the remedy. The command line prints the message without a traceback (with
one under `--debug`), then `page`, where the documentation says more, and exits with the `exit_code` of the class; it
exits with WARNED where a dataset was published with more drops than `execution.warn_drop_share`.
"""

WARNED = 3


class LongmillError(Exception):
    """Base of all errors of Longmill."""

    exit_code = 1
    page = ""  # of the documentation, in the repository; empty where none says more; one error may have its own


class InputError(LongmillError):
    """Questions, documents or a dataset that cannot be read; names file, row, field and remedy."""

    exit_code = 2


class UnreadableError(InputError):
    """One document that cannot be read: a drop with this `reason`, a word, and the message as its detail."""

    page = "docs/documents.md#documents"

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class RecipeError(LongmillError):
    """An unknown, missing or contradictory recipe key."""

    exit_code = 2
    page = "docs/recipes.md"


class UsageError(RecipeError):
    """Words on the command line that a verb has not, or that contradict one another."""

    page = "docs/verbs.md"


class PrerequisiteError(LongmillError):
    """Something the machine must have before work starts."""

    exit_code = 6
    page = "docs/operate.md#set-up"


class StoreError(LongmillError):
    """The store cannot be reached, or refuses a read or a write."""

    page = "docs/operate.md#what-lies-in-the-store"


class MissingError(StoreError):
    """There is no file with this path in the store."""


class LedgerError(StoreError):
    """The ledger cannot be read: the run stops, it never pays again because of a fault."""


class HubError(LongmillError):
    """The hub cannot be reached, or refuses the token, the name or a file. What was sent is not sent again."""

    page = "docs/share.md#to-a-model-hub"


class ModelError(LongmillError):
    """A model endpoint that is unreachable or refuses every call."""

    page = "docs/models.md#a-call-that-fails-every-time"


class RefusedError(ModelError):
    """A server refuses the account, the model, or the form of the request. Nothing is dropped or recorded for it."""

    page = "docs/models.md#when-a-server-refuses"


class JudgeError(LongmillError):
    """A judge whose replies cannot be used: the message shows some. Other prompts, limits or another judge help."""

    page = "docs/longreward.md#judges-manners"


class BudgetReached(LongmillError):
    """The budget is spent. What was paid for is in the ledger; raise the budget and run again."""

    exit_code = 5
    page = "docs/operate.md#plan-run-go-on"


class YieldError(LongmillError):
    """The yield gate: nothing is published. What was paid for is in the ledger; mend the cause, or raise the limit."""

    exit_code = 4
    page = "docs/operate.md#the-yield-gate"


class ShardError(LongmillError):
    """A shard has failed: the message is that of its cause, with how to run it again."""

    page = "docs/operate.md#when-a-shard-fails"


class BusyError(LongmillError):
    """Another build works on the same plan: this one has waited long enough, or its work was taken over."""

    exit_code = 7
    page = "docs/operate.md#two-builds-of-one-plan"


class StoppedError(LongmillError):
    """A person or the platform stops the run. What was paid for is in the ledger; the same command goes on."""

    exit_code = 130


class ServingError(LongmillError):
    """A server that Longmill starts did not come up, or went down."""

    page = "docs/operate.md#servers-that-longmill-starts"


class BalanceError(LongmillError):
    """Questions do not equal pairs + drops."""


class TrainingError(LongmillError):
    """A row that would be cut, or a loss that is not finite or does not change."""

    page = "docs/training.md#steps-and-rows-that-are-too-long"


class EvaluationError(LongmillError):
    """Nothing to evaluate, or a model that cannot be served."""

    page = "docs/evaluate.md"


class ContaminationError(EvaluationError):
    """Evaluation questions that the model was trained on; names some, and where they stand in the training data."""

    page = "docs/evaluation-report.md#questions-that-were-trained-on"
