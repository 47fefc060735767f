"""What a reward model thinks of each candidate.

From an endpoint with the `/rerank` of Jina, Cohere, vLLM and llama.cpp: a query and documents in, a score for each out.
vLLM serves reward models that way whose head has one number.

https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html#re-rank-api
"""

import asyncio
import json
import math
from collections.abc import Sequence

import httpx
from pydantic import SecretStr

from bot.contracts import Journal
from bot.errors import EndpointError
from bot.evaluation.functions import candidates_of, question
from bot.evaluation.samples import Sample
from bot.evaluation.tasks import FunctionTask
from bot.journal import once
from bot.records import Record

_TIMEOUT = 600.0  # seconds for all candidates of one task
_RETRIES = (1.0, 5.0, 20.0)  # seconds between attempts


class RewardModel(Record):
    """Where it is. `url`: with `/v1` where the endpoint has that."""

    url: str
    name: str
    key: SecretStr = SecretStr("")


class Scores(Record):
    """Of one task's candidates, in their order."""

    scores: tuple[float, ...]


async def with_rewards(
    task: FunctionTask, line: str, samples: Sequence[Sample], reward: RewardModel, journal: Journal
) -> str:
    """A line of `matrices.jsonl` with `rewards`, one for each candidate. Raises `EndpointError`. What the journal holds
    is not asked again."""
    codes = list(candidates_of(samples))

    async def make() -> Scores:
        return Scores(scores=await score(reward, question(task), codes))

    found = await once(journal, f"rewards/{reward.name}/{task.id}/{len(samples)}", Scores, make)
    return json.dumps(json.loads(line) | {"rewards": found.scores})


async def score(reward: RewardModel, query: str, documents: Sequence[str]) -> tuple[float, ...]:
    """The score of each document. Raises `EndpointError`."""
    key = reward.key.get_secret_value()
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    body = {"model": reward.name, "query": query, "documents": list(documents), "return_documents": False}
    async with httpx.AsyncClient(timeout=_TIMEOUT, headers=headers) as client:
        for wait in (*_RETRIES, None):
            try:
                answer = await client.post(f"{reward.url.rstrip('/')}/rerank", json=body)
                answer.raise_for_status()
                return _read(answer.json(), len(documents))
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                status = error.response.status_code if isinstance(error, httpx.HTTPStatusError) else 0
                if wait is None or 400 <= status < 500:
                    why = " ".join(str(error).split())[:200] or type(error).__name__
                    raise EndpointError(
                        f"the reward model at {reward.url} gives no scores ({why}): --reward takes the address of an "
                        "API with /rerank, such as vLLM's http://HOST:8000/v1, and the name of its model"
                    ) from None
            await asyncio.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def _read(answer: object, documents: int) -> tuple[float, ...]:
    """Raises `ValueError`, `KeyError` and `TypeError` for what is not one score for each document."""
    if not isinstance(answer, dict):
        raise TypeError("the answer is no JSON object")
    found = {int(one["index"]): float(one["relevance_score"]) for one in answer["results"]}
    if sorted(found) != list(range(documents)) or not all(map(math.isfinite, found.values())):
        raise ValueError(f"{len(found)} scores for {documents} candidates")
    return tuple(found[i] for i in range(documents))
