"""Endpoints of other APIs, which clients may ask for, and what to use here."""

_CHAT = "use POST /v1/chat/completions"
_TEXT_ONLY = "this engine generates text only"
_INSTEAD = {
    "/v1/responses": f"{_CHAT}, which takes tools, reasoning_effort and response_format",
    "/v1/messages/count_tokens": "use POST /tokenize with messages",
    "/v1/messages": f"Anthropic's Messages API has no place here: {_CHAT}, which takes tools, too",
    "/v1/embeddings": "this engine computes no embeddings: run an embedding model in a server made for it",
    "/v1/rerank": "this engine does not rank texts: run a reranking model in a server made for it",
    "/v1/score": "this engine does not compare texts: run a reranking model in a server made for it",
    "/v1/moderations": _TEXT_ONLY,
    "/v1/images": _TEXT_ONLY,
    "/v1/audio": _TEXT_ONLY,
    "/v1/videos": _TEXT_ONLY,
    "/v1/realtime": f"{_TEXT_ONLY}: {_CHAT} with stream",
    "/v1/batches": "send the requests at once to POST /v1/chat/completions, which takes hundreds together",
    "/v1/files": "this engine keeps no files: put their text into messages",
    "/v1/assistants": f"this engine keeps no conversations: {_CHAT} with all messages",
    "/v1/threads": f"this engine keeps no conversations: {_CHAT} with all messages",
    "/v1/conversations": f"this engine keeps no conversations: {_CHAT} with all messages",
    "/v1/fine_tuning": "this engine does not train models",
    "/v1/load_lora_adapter": "this engine serves no adapters: merge it into the model",
    "/chat/completions": "the path begins with /v1: set the base URL to .../v1",
    "/completions": "the path begins with /v1: set the base URL to .../v1",
    "/models": "the path begins with /v1: set the base URL to .../v1",
    "/api/chat": f"Ollama's API is not served: {_CHAT}",
    "/api/generate": "Ollama's API is not served: use POST /v1/completions",
    "/v1/v1": "the path has /v1 twice: set the base URL to .../v1 once",
}


def instead_of(path: str) -> str | None:
    """What a client that asks for `path` should do; `None` where nothing is known of it."""
    found = [base for base in _INSTEAD if path == base or path.startswith(f"{base}/")]
    return f"{path} is not served: {_INSTEAD[max(found, key=len)]}" if found else None
