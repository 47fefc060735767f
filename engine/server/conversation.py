"""The conversation of a request: messages, tools, and what else its prompt depends on."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from engine.errors import RequestError
from engine.server.fields import Closed, Listed
from engine.server.neutral import NeutralFields
from engine.text.chat_template import Chat, ChatTemplate
from engine.text.replies.pieces import Schemas

MAX_TOOLS = 1024
ToolName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_.-]{1,128}$")]
Effort = Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"]
_NO_PLACE = {"function_call": "use tool_calls", "audio": "text only"}  # fields of messages in OpenAI's API
_HARMONY_EFFORTS = ("low", "medium", "high")


class ContentPart(BaseModel):
    """A part of a message; only text is served."""

    model_config = ConfigDict(extra="allow")  # of parts of other types, which are refused by their type

    type: str
    text: str | None = None


class CalledFunction(BaseModel):
    """What an earlier reply called."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(min_length=1)
    arguments: str | dict[str, Any] | None = None


class GivenCall(BaseModel):
    """A call of an earlier reply."""

    model_config = ConfigDict(extra="allow")

    id: str | None = None
    type: Literal["function"] | None = "function"
    function: CalledFunction


class Message(BaseModel):
    """One message of a conversation. Other fields reach the chat template as they are."""

    model_config = ConfigDict(extra="allow")

    role: str = Field(min_length=1, max_length=64)
    content: str | Listed[ContentPart] | None = None
    tool_calls: Listed[GivenCall] | None = None

    def plain(self) -> dict[str, Any]:
        """The message in OpenAI's form, with its text in one string.

        Raises:
            RequestError: a part is not text, or is where no template looks for it.
        """
        for name, instead in _NO_PLACE.items():
            if (self.model_extra or {}).get(name) is not None:
                raise RequestError(f"{name} of a message is not supported: {instead}", "messages")
        found = self.model_dump()
        if isinstance(self.content, list):
            for part in self.content:
                if part.type != "text":
                    raise RequestError(f"content parts of type {part.type!r} are not supported: text only", "messages")
                if part.text is None:
                    raise RequestError("a content part of type 'text' has no text", "messages")
                for name in part.model_extra or ():
                    raise RequestError(f"unknown field {name!r} of a content part", "messages")
            found["content"] = "".join(part.text or "" for part in self.content)
        return found


class Function(Closed):
    """A function that the model may call."""

    name: ToolName
    description: str | None = None
    parameters: dict[str, Any] | None = None  # a JSON schema
    strict: StrictBool | None = None  # calls that are demanded follow the schema in any case, others never surely


class Tool(Closed):
    """A tool; only functions are served."""

    type: Literal["function"]
    function: Function


class NamedFunction(Closed):
    """A function by its name."""

    name: ToolName


class NamedTool(Closed):
    """A tool by its name."""

    type: Literal["function"]
    function: NamedFunction


class Conversation(NeutralFields):
    """What a prompt is rendered from."""

    messages: Listed[Message] | None = Field(default=None, min_length=1, max_length=10_000)
    tools: Listed[Tool] | None = Field(default=None, max_length=MAX_TOOLS)
    add_generation_prompt: StrictBool | None = None  # default: true, except with continue_final_message
    continue_final_message: StrictBool | None = None
    chat_template_kwargs: dict[str, Any] | None = None

    @property
    def offered(self) -> Sequence[Tool]:
        """The tools that the prompt shows."""
        return self.tools or ()

    @property
    def schemas(self) -> Schemas:
        """The parameters of each tool that the prompt shows."""
        return {tool.function.name: tool.function.parameters or {} for tool in self.offered}

    @property
    def prefill(self) -> str | None:
        """The text that the reply continues, if it does not begin anew."""
        if not self.continue_final_message or not self.messages:
            return None
        return str(self.messages[-1].plain()["content"] or "")

    def options(self, template: ChatTemplate) -> dict[str, Any]:
        """Variables for the chat template.

        Raises:
            RequestError: the template has none for what is asked.
        """
        return dict(self.chat_template_kwargs or {})

    def chat(self, template: ChatTemplate) -> Chat:
        """The conversation for a chat template.

        Raises:
            RequestError: it has no place for a part of it.
        """
        return Chat(
            [message.plain() for message in self.messages or ()],
            [tool.model_dump(exclude_none=True) for tool in self.offered],
            self.options(template),
            answers=self.add_generation_prompt is not False and not self.continue_final_message,
            continues=bool(self.continue_final_message),
        )

    def check_conversation(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            RequestError: with the field's name.
        """
        if len({tool.function.name for tool in self.tools or ()}) != len(self.tools or ()):
            raise RequestError("two tools have the same name", "tools")
        if self.continue_final_message:
            if self.add_generation_prompt:
                raise RequestError(
                    "continue_final_message continues a reply, add_generation_prompt begins one: leave one of them out",
                    "continue_final_message",
                )
            if not self.messages or self.messages[-1].role != "assistant" or not (self.prefill or "").strip():
                raise RequestError(
                    "continue_final_message needs a last message of the assistant with a text", "continue_final_message"
                )


def effort_options(effort: Effort | None, template: ChatTemplate) -> dict[str, Any]:
    """Variables that set how long a model thinks.

    Raises:
        RequestError: its template has none.
    """
    if effort is None:
        return {}
    if "reasoning_effort" in template.variables:
        if "<|channel|>" in template.source and effort not in _HARMONY_EFFORTS:
            raise RequestError(f"this model knows {', '.join(_HARMONY_EFFORTS)}", "reasoning_effort")
        return {"reasoning_effort": effort}
    if {"enable_thinking", "thinking"} & template.variables:
        return {"enable_thinking": effort != "none", "thinking": effort != "none"}
    if effort == "none":
        return {}
    raise RequestError(
        "the chat template of this model has no setting for reasoning_effort: leave it out", "reasoning_effort"
    )
