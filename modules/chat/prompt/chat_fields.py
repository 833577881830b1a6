"""The fields of a chat from an API client, declared once for the API's body and for `client_chat`, which builds the
prompt. Equivalent fields of several programs are read by one method each. It knows nothing of HTTP.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, FailFast, Field
from typing_extensions import Self, TypeAliasType

from errors import InvalidInput
from modules.chat.prompt.build import Mode

# A named type: reporting an error for every element of a long list would block the server for seconds.
Objects = TypeAliasType("Objects", Annotated[list[dict[str, Any]], FailFast()])


class ModelChoice(BaseModel):
    """The field of all requests that a model answers."""

    model: str = Field("", description="With --max-models, --load-on-demand or --strict-model: the model to answer.")


class ClientChat(ModelChoice):
    """A client's chat. Empty texts mean the defaults."""

    messages: Objects = Field(description="The conversation, oldest message first.")
    tools: Objects = Field([], description="Functions that the model may call.")
    tool_choice: str | dict[str, Any] | None = Field(None, description="auto, none, required, or one function.")
    functions: Objects | None = Field(None, description="Older form of tools; the reply then contains function_call.")
    function_call: str | dict[str, Any] | None = Field(None, description="auto, none, or a function's name.")
    thinking_budget: int | None = Field(None, ge=0, description="End the reasoning after this many tokens.")
    thinking_budget_tokens: int | None = Field(None, ge=0, description="Same as thinking_budget.")
    thinking: dict[str, Any] | None = Field(None, description="type (enabled or disabled) and budget_tokens.")
    reasoning: dict[str, Any] | None = Field(None, description="effort, same as reasoning_effort.")
    add_generation_prompt: bool | None = Field(None, description="Always on: a new reply is started.")
    mode: Mode = Field("instruct", description="How the prompt is built.")
    character: str = Field("", description="The character that replies in the chat modes.")
    name1: str = Field("", description="The user's name (alias: user_name).")
    name2: str = Field("", description="The character's name (alias: bot_name).")
    user_bio: str = Field("", description="What the model should know about the user in the chat modes.")
    user_name: str = ""
    bot_name: str = ""
    context: str = Field("", description="Replaces the character's context.")
    greeting: str = Field("", description="Replaces the character's greeting.")
    instruction_template: str = Field("", description="Name of an instruction template; replaces the model's own.")
    instruction_template_str: str = Field("", description="Text of an instruction template.")
    chat_template_str: str = Field("", description="Template of the chat modes.")
    chat_instruct_command: str = Field("", description="The instruction used in chat-instruct mode.")
    continue_: bool = Field(False, description="Continue the last message, which must be the assistant's.")
    continue_final_message: bool = Field(False, description="Same as continue_.")
    chat_template_kwargs: dict[str, Any] = Field({}, description="Additional variables for the template.")
    enable_thinking: bool | None = Field(None, description="For templates that support it.")
    reasoning_effort: str | None = Field(None, description="For templates that support it.")

    @property
    def your_name(self) -> str:
        """The user's name, from any of the fields."""
        return self.name1 or self.user_name

    @property
    def bots_name(self) -> str:
        """The character's name, from any of the fields."""
        return self.name2 or self.bot_name

    @property
    def continues(self) -> bool:
        """Whether the last message is to be continued."""
        return self.continue_ or self.continue_final_message

    def template_values(self) -> dict[str, Any]:
        """The client's variables for the template, from any of the fields."""
        enabled = {"enabled": True, "disabled": False}.get(str((self.thinking or {}).get("type")))
        effort = (self.reasoning or {}).get("effort")
        values = {
            "enable_thinking": self.enable_thinking if self.enable_thinking is not None else enabled,
            "reasoning_effort": self.reasoning_effort or (effort if isinstance(effort, str) else None),
        }
        return {**self.chat_template_kwargs, **{name: value for name, value in values.items() if value is not None}}

    def find_thinking_budget(self) -> int | None:
        """The most tokens of reasoning, from any of the fields; None if not given."""
        tokens = (self.thinking or {}).get("budget_tokens")
        nested = tokens if type(tokens) is int and tokens >= 0 else None
        fields = (self.thinking_budget, self.thinking_budget_tokens, nested)
        return next((budget for budget in fields if budget is not None), None)

    def convert_functions(self) -> Self:
        """The same with `functions` and `function_call` as tools and tool_choice. Raises: InvalidInput."""
        if self.functions is None and self.function_call is None:
            return self
        if self.functions is None:
            raise InvalidInput("function_call requires functions. Use tools and tool_choice instead.")
        if self.tools or self.tool_choice is not None:
            raise InvalidInput("functions and tools cannot be combined. Send only one of them.")
        choice = self.function_call
        if isinstance(choice, dict) and isinstance(choice.get("name"), str):
            choice = {"type": "function", "function": {"name": choice["name"]}}
        elif choice not in (None, "auto", "none"):
            raise InvalidInput('function_call must be "auto", "none" or {"name": ...}.')
        tools = [{"type": "function", "function": function} for function in self.functions]
        return self.model_copy(update={"tools": tools, "tool_choice": choice})
