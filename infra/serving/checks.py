"""What a server needs of this machine, checked before it starts: the Python that has vLLM, the model, free ports."""

import contextlib
import random
import socket
from pathlib import Path

from infra.errors import PrerequisiteError
from infra.models.tokens import resolve_model
from infra.recipe import Recipe, Serving


def check_serving_python(settings: Serving, section: str = "policy") -> str:
    """The interpreter that holds vLLM, for a section of the recipe. Raises PrerequisiteError with the remedy."""
    python = Path(settings.python)
    if not python.is_absolute():
        python = Path.cwd() / python
        if not python.exists():  # then beside the checkout that this file belongs to
            python = Path(__file__).resolve().parents[2] / settings.python
    if not python.exists():
        raise PrerequisiteError(
            f"{settings.python}: no such Python; `make setup` makes the environment for vLLM, "
            f"or set {section}.serve.python to one that has it, or give {section}.endpoints"
        )
    return str(python)


def check_model_path(settings: Serving, section: str = "policy") -> None:
    """Raises PrerequisiteError when the model is a folder that is not there; a hub name passes."""
    path = resolve_model(settings.model_path)
    if not Path(path).exists() and (path.startswith(("/", ".", "~")) or path.count("/") > 1):
        raise PrerequisiteError(
            f"{section}.serve.model_path: {path} does not exist; give the folder of a model, or its name on the hub"
        )


def check_port(port: int, section: str = "policy") -> None:
    """Raises PrerequisiteError when something else listens on 127.0.0.1:`port`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PrerequisiteError(
                f"port {port} on 127.0.0.1 is taken ({error.strerror}); stop what uses it, or set another port "
                f"({section}.serve.port=0 takes a free one)"
            ) from error


def free_port() -> int:
    """A port on 127.0.0.1 that is free now.

    None of those that the system itself gives out (from 32768 on): a server may take a minute until it listens, and an
    outgoing connection of anybody could have the port by then.
    """
    for port in random.SystemRandom().sample(range(10_000, 32_768), 100):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
    raise PrerequisiteError("100 ports of 127.0.0.1 below 32768 were tried and all are taken; end what has them")


def check_ports_differ(recipe: Recipe) -> None:
    """Raise PrerequisiteError when two servers are to listen on the same port."""
    sections: dict[int, str] = {}  # by port
    for section, model in recipe.models().items():
        if model.serve and model.serve.port and not model.endpoints:
            for port in range(model.serve.port, model.serve.port + model.serve.replicas):
                other = sections.setdefault(port, section)
                if other != section:
                    raise PrerequisiteError(
                        f"servers of {other}.serve and {section}.serve are both to listen on port {port}; give ports "
                        "that are further apart, or 0 to take free ones"
                    )
