"""The pages' addresses, and what each is made from."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from flows.view import details, labelling, listed, rendering
from flows.view.guard import Guard
from infra.errors import InputError, LongmillError, MissingError
from tasks.viewing.library import Library
from tasks.viewing.overview import Overviews, reports_of

Page = Callable[[Request], str]


def view_app(library: Library, token: str) -> Starlette:
    """The application. It closes the library when it ends."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        library.close()

    overviews = Overviews()

    def home(request: Request) -> str:
        reports: dict[str, Any] = {}
        for store in library.stores:
            reports.update(reports_of(store))
        datasets = []
        for entry in library.entries():
            figures = overviews.of(entry)
            report = reports.get(figures.get("sha256", ""))
            datasets.append({"entry": entry, "figures": figures, "report": report})
        return rendering.page("home", datasets=datasets, has_runs=bool(library.stores))

    def all_runs(request: Request) -> str:
        from flows.view.runs import runs_page  # it imports Prefect, which takes seconds

        return runs_page(library)

    def one_run(request: Request) -> str:
        from flows.view.runs import run_page

        return run_page(library, request.path_params["plan_id"])

    pages: dict[str, Page] = {
        "/": home,
        "/runs": all_runs,
        "/runs/{plan_id}": one_run,
        "/compare": lambda request: listed.compare_page(library, request),
        "/datasets/{version}": lambda request: details.dataset_page(library, overviews, request),
        "/datasets/{version}/pairs": lambda request: listed.list_page(library, request, "pairs"),
        "/datasets/{version}/questions": lambda request: listed.list_page(library, request, "questions"),
        "/datasets/{version}/drops": lambda request: listed.list_page(library, request, "drops"),
        "/datasets/{version}/pair": lambda request: details.pair_page(library, request),
        "/datasets/{version}/prompt": lambda request: details.prompt_page(library, request),
        "/datasets/{version}/blind": lambda request: labelling.blind_page(library, request),
        "/datasets/{version}/labels": lambda request: labelling.labels_page(library, request),
        "/datasets/{version}/question": lambda request: details.question_page(library, request),
    }

    async def label(request: Request) -> Response:
        try:
            return await labelling.take_label(library, request)
        except LongmillError as error:
            return _error_page(error)

    def metrics(request: Request) -> Response:
        from flows.view.metrics import CONTENT_TYPE, metrics_text

        return Response(metrics_text(library), media_type=CONTENT_TYPE)

    routes = [Route(path, _answering(make)) for path, make in pages.items()]
    routes.append(Route("/metrics", metrics))
    routes.append(Route("/favicon.ico", lambda request: Response(status_code=204)))  # browsers ask for it
    routes.append(Route("/datasets/{version}/label", label, methods=["POST"]))
    routes.append(Route("/view.css", lambda request: Response(rendering.style(), media_type="text/css")))
    routes.append(
        Route("/view.js", lambda request: Response(rendering.static("view.js"), media_type="text/javascript"))
    )
    return Starlette(routes=routes, middleware=[Middleware(Guard, token=token)], lifespan=lifespan)


def _answering(make: Page) -> Callable[[Request], Response]:
    """A page, or the page that says what is wrong: with 404 for what is not there."""

    def answer(request: Request) -> Response:
        try:
            return HTMLResponse(make(request))
        except LongmillError as error:
            return _error_page(error)

    return answer


def _error_page(error: LongmillError) -> Response:
    status = 404 if isinstance(error, MissingError) else 400 if isinstance(error, InputError) else 500
    return HTMLResponse(rendering.page("error", message=str(error)), status)
