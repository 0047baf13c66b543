"""Requests and answers of the server as types, and its OpenAPI document, which is made from them."""

from importlib.metadata import version
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator
from pydantic.json_schema import models_json_schema

MAX_BODY = 2**20
"""Bytes of a request's body."""
MAX_TEXTS = 256
MAX_CHARACTERS = 100_000
"""Characters of a text."""

Text = Annotated[str, StringConstraints(max_length=MAX_CHARACTERS)]


class PredictRequest(BaseModel):
    """One text or several."""

    model_config = ConfigDict(
        extra="forbid", strict=True, json_schema_extra={"example": {"texts": ["A fine film.", "I wanted to like it."]}}
    )
    text: Text | None = Field(None, description="a text, instead of `texts`")
    texts: Annotated[list[Text], Field(min_length=1, max_length=MAX_TEXTS)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "PredictRequest":
        if (self.text is None) == (self.texts is None):
            raise ValueError('give either "text" or "texts"')
        return self

    def all_texts(self) -> list[str]:
        """Return the texts, at least one."""
        return self.texts if self.texts is not None else [self.text or ""]


class Answer(BaseModel):
    """What the model says of a text: `label`, or `labels` where a text may have several."""

    label: str | None = Field(None, description="the most probable class")
    labels: list[str] | None = Field(None, description="all classes that are likely, where a text may have several")
    probabilities: dict[str, float] = Field(description="of each class, by name")


class PredictResponse(BaseModel):
    """An answer for each text, in their order."""

    predictions: list[Answer]


class Health(BaseModel):
    """The server answers, and the model that it serves."""

    status: str
    model: str
    classes: list[str]


class Refusal(BaseModel):
    """One sentence that says what is wrong."""

    error: str


def sentence(error: ValidationError) -> str:
    """Return what is wrong with a request, without its text."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(map(str, first["loc"]))
    message = first["msg"].removeprefix("Value error, ")
    return f"{place}: {message}." if place else f"{message}."


REFUSALS = {
    "400": "The body is not JSON.",
    "408": "The body took too long to arrive.",
    "413": f"The body is larger than {MAX_BODY:,} bytes.",
    "422": f"A wrong type, no text, more than {MAX_TEXTS} texts, or one of more than {MAX_CHARACTERS:,} characters.",
    "503": "Too many requests, or no answer in time; send it again after Retry-After seconds.",
}


def document() -> dict[str, Any]:
    """Return the OpenAPI document (https://spec.openapis.org/oas/v3.1.0)."""
    types: list[type[BaseModel]] = [PredictRequest, PredictResponse, Health, Refusal]
    _, schemas = models_json_schema(
        [(kind, "validation") for kind in types], ref_template="#/components/schemas/{model}"
    )
    refusals = {code: _content(why, "Refusal") for code, why in REFUSALS.items()}
    answer = _content("An answer for each text.", "PredictResponse")
    predict = {
        "summary": "Label one text or several",
        "operationId": "predict",
        "requestBody": {"required": True, **_content("The texts.", "PredictRequest")},
        "responses": {"200": answer, **refusals},
    }
    health = {"summary": "Whether the server answers", "operationId": "health"}
    metrics = {"summary": "Metrics for Prometheus", "operationId": "metrics"}
    text = {
        "200": {
            "description": "The text format, version 0.0.4.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        }
    }
    return {
        "openapi": "3.1.0",
        "info": {"title": "textrnn serve", "version": version("textrnn")},
        "paths": {
            "/predict": {"post": predict},
            "/health": {"get": {**health, "responses": {"200": _content("It does; its model.", "Health")}}},
            "/metrics": {"get": {**metrics, "responses": text}},
        },
        "components": {"schemas": schemas["$defs"]},
    }


def _content(description: str, schema: str) -> dict[str, Any]:
    reference = {"schema": {"$ref": f"#/components/schemas/{schema}"}}
    return {"description": description, "content": {"application/json": reference}}
