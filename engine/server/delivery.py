"""Runs requests and sends what they say, whole or as server-sent events, as long as the client listens."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Sequence
from functools import partial
from typing import Any, TypeVar

from fastapi import Request as HttpRequest
from fastapi import Response
from fastapi.responses import StreamingResponse

from engine.errors import ServingError
from engine.schedule.sequence import Output, Request
from engine.server.answers import Answer, Choice
from engine.server.long_json import write_json
from engine.server.protocol import Generation
from engine.server.service import Service

T = TypeVar("T")

_STREAM = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}  # nginx, too, sends events as they come
TOGETHER = 64  # outputs whose events are made before others have their turn: each may have 20 log-probabilities


async def deliver(
    service: Service, http: HttpRequest, body: Generation, requests: list[Request], answer: Answer
) -> Response:
    """Run requests to the end, whole or as a stream. The choices of request `i` have indices `i * n` and up."""
    queue: asyncio.Queue[Output] = asyncio.Queue()
    for request in requests:
        service.loop.core.check(request)
        request.notify = queue.put_nowait
    firsts = {id(request): place * body.choices for place, request in enumerate(requests)}
    for request in requests:
        service.loop.submit(request)
    if body.stream:
        include_usage = bool(body.stream_options and body.stream_options.include_usage)
        events = _stream(service, queue, requests, firsts, answer, include_usage)
        return StreamingResponse(events, media_type="text/event-stream", headers=_STREAM)
    try:
        choices = await _unless_disconnected(http, _collect(queue, requests, firsts))
    finally:
        _abort(service, requests)
    if choices is None:
        return Response(status_code=499)  # the client is gone
    # It may take seconds.
    text = await asyncio.to_thread(lambda: "".join(answer.written(choices, requests)).encode())
    return Response(text, media_type="application/json")


async def _collect(queue: asyncio.Queue[Output], requests: list[Request], firsts: dict[int, int]) -> list[Choice]:
    choices = [Choice(index) for index in range(sum(request.n for request in requests))]
    missing = len(choices)
    while missing:
        output = await queue.get()
        if output.error is not None:
            raise output.error
        choices[firsts[id(output.request)] + output.index].add(output)
        missing -= output.finish_reason is not None
    return choices


async def _stream(
    service: Service,
    queue: asyncio.Queue[Output],
    requests: list[Request],
    firsts: dict[int, int],
    answer: Answer,
    include_usage: bool,
) -> AsyncIterator[str]:
    """Server-sent events. Closing the generator, as the server does when the client is gone, aborts the requests."""
    missing = sum(request.n for request in requests)
    try:
        while missing:
            outputs = [await queue.get()]
            while not queue.empty() and len(outputs) < TOGETHER:  # a step's choices leave together
                outputs.append(queue.get_nowait())
            make = partial(_events, outputs, firsts, answer, requests)
            yield await asyncio.to_thread(make) if answer.long else make()
            if any(output.error is not None for output in outputs):
                return
            missing -= sum(output.finish_reason is not None for output in outputs)
            await asyncio.sleep(0)  # let other tasks run even if the queue never gets empty
        if include_usage:
            yield _event(answer.last_chunk(requests))
        yield "data: [DONE]\n\n"
    finally:
        _abort(service, requests)


def _events(outputs: Sequence[Output], firsts: dict[int, int], answer: Answer, requests: list[Request]) -> str:
    """The events of some outputs, up to the first that is an error."""
    events = []
    for output in outputs:
        if output.error is not None:
            failure = output.error if isinstance(output.error, ServingError) else ServingError(str(output.error))
            events.append(_event(failure.body()))
            break
        choice = Choice(firsts[id(output.request)] + output.index)
        choice.add(output)
        events += [_event(chunk, answer.long) for chunk in answer.chunks(choice, requests)]
    return "".join(events)


def _event(body: dict[str, Any], long: bool = False) -> str:
    return f"data: {write_json(body) if long else json.dumps(body, ensure_ascii=False)}\n\n"


def _abort(service: Service, requests: list[Request]) -> None:
    for request in requests:
        if not (request.sequences and request.finished):
            service.loop.abort(request)


async def _unless_disconnected(http: HttpRequest, work: Awaitable[T]) -> T | None:
    """The result of `work`, or `None` if the client hung up first."""

    async def gone() -> None:
        while (await http.receive())["type"] != "http.disconnect":
            pass

    working, watching = asyncio.ensure_future(work), asyncio.ensure_future(gone())
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else None
    finally:
        for task in (working, watching):
            task.cancel()
