"""A prediction as a notebook shows it: buttons or a text box before, and the comparison afterwards."""

from __future__ import annotations

import html
import textwrap
from collections.abc import Mapping
from typing import Any

from labkit.errors import KitError
from labkit.exercises.predictions import Prediction
from labkit.exercises.progress import ProgressFile
from labkit.views.drawing.colours import BLUE, GREEN, ORANGE
from labkit.views.live import bundle
from labstack.lifecycle.report import in_notebook

COLOURS = {"open": BLUE, "predicted": BLUE, "late": BLUE, "as predicted": GREEN, "otherwise": ORANGE}
SHORT = 70
"""Characters of all choices together that fit beside each other."""
WIDTH = 100
"""Characters of a line of text."""


class Guess:
    """The place where a learner commits to a guess, with buttons or in code.

    Its text is the same whether or not there is a guess, so that a notebook's output can be compared.

    Parameters
    ----------
    prediction : Prediction
        What is asked. The question stands above the buttons, and in the text.
    progress : ProgressFile
        Where the guess is kept.
    caller : str
        The notebook's name for the object that asks, for the text: ``tasks`` or ``step``.
    """

    def __init__(self, prediction: Prediction, progress: ProgressFile, caller: str = "tasks") -> None:
        self.prediction = prediction
        self._progress = progress
        self._caller = caller
        self._widget: Any = None

    def commit(self, guess: object) -> None:
        """Keep a guess, unless the answer was shown and there is a guess already.

        Raises
        ------
        KitError
            The guess is none of the choices, or empty.
        """
        text = " ".join(str(guess).split())
        if not text:
            raise KitError("The prediction is empty.", next_step="write what you expect, in a few words")
        if choices := self.prediction.choices:
            found = [choice for choice in choices if choice.casefold() == text.casefold()]
            found = found or [choice for choice in choices if choice.casefold().startswith(text.casefold())]
            if len(found) != 1:
                raise KitError(
                    f"{text!r} is none of the choices.", next_step=f"use one of {', '.join(map(repr, choices))}"
                )
            (text,) = found
        self._progress.record_guess(self.prediction.key, text)

    @property
    def entry(self) -> Mapping[str, Any]:
        """The entry in the learner's progress; empty if there is none."""
        return self._progress.entries().get(self.prediction.key, {})

    @property
    def status(self) -> str:
        """Where the guess stands, in a sentence."""
        guess, late = self.entry.get("guess", ""), self.entry.get("late")
        if not guess:
            return "○ Not predicted yet."
        if late:
            return f"– {guess}. Too late to count: the answer had been shown."
        return f"✎ You predict: {guess}"

    def __repr__(self) -> str:
        name, choices = self.prediction.name, self.prediction.choices
        lines = textwrap.wrap(self.prediction.question, WIDTH)
        if not choices:
            return "\n".join([*lines, f'Your prediction, in a few words: {self._caller}.predict("{name}", "...")'])
        lines.append(f'Your prediction, with a click or as {self._caller}.predict("{name}", "{choices[0]}"):')
        return "\n".join([*lines, *(f"○ {choice}" for choice in choices)])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, Any]:
        if self._widget is None:
            self._widget = self._build()
        return bundle(self._widget, repr(self))

    def _build(self) -> Any:
        import ipywidgets as widgets

        question = widgets.HTML(f"<b>{html.escape(self.prediction.question)}</b>")
        state = widgets.HTML()
        state.add_class("lk-guess")
        if self.prediction.choices:
            buttons = {choice: widgets.Button(description=choice, tooltip=choice) for choice in self.prediction.choices}
        else:
            box = widgets.Textarea(
                value=self.entry.get("guess", ""),
                placeholder="What do you expect, and why?",
                layout={"width": "auto", "height": "4em"},
            )
            buttons = {"": widgets.Button(description="Keep this prediction", tooltip="Keep this prediction")}

        def refresh() -> None:
            guess = self.entry.get("guess")
            for choice, button in buttons.items():
                button.button_style = "info" if choice and choice == guess else ""
            state.value = html.escape(self.status)

        def keep(button: Any) -> None:
            try:
                self.commit(button.description if self.prediction.choices else box.value)
            except KitError as error:
                state.value = html.escape(str(error.problem))
            else:
                refresh()

        for button in buttons.values():
            button.layout.width = "auto"
            button.on_click(keep)
        refresh()
        if not self.prediction.choices:
            return widgets.VBox([question, box, widgets.HBox([*buttons.values(), state])])
        beside = sum(map(len, self.prediction.choices)) <= SHORT
        row = (widgets.HBox if beside else widgets.VBox)(list(buttons.values()), layout={"align_items": "flex-start"})
        return widgets.VBox([question, row, state])


class Comparison:
    """A guess beside what happened.

    Parameters
    ----------
    prediction : Prediction
        What was asked.
    entry : mapping
        The entry in the learner's progress; empty if there is none.
    """

    def __init__(self, prediction: Prediction, entry: Mapping[str, Any]) -> None:
        self.state = prediction.state(entry)
        guess, happened = entry.get("guess", ""), entry.get("happened") or prediction.answer
        if not prediction.choices:
            self.words = {
                "open": f"○ Not predicted. {happened}",
                "late": f"– You wrote afterwards: {guess}\n{happened}",
            }.get(self.state, f"✎ You wrote: {guess}\nIt was: {happened}")
        else:
            self.words = {
                "open": f"○ Not predicted. It was: {happened}.",
                "late": f"– You chose {guess} after the answer had been shown. It was: {happened}.",
                "as predicted": f"✓ As you predicted: {happened}.",
            }.get(self.state, f"≠ You predicted {guess}. It was: {happened}.")
        if happened != prediction.answer:
            self.words += f" The notebook expects {prediction.answer}."
        elif prediction.why:
            self.words += f" {prediction.why}"

    @property
    def data(self) -> dict[str, str]:
        """The output of the cell, by MIME type."""
        text = "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in self.words.splitlines())
        lines = "<br>".join(html.escape(line) for line in self.words.splitlines())
        style = f"border-left:0.4em solid {COLOURS[self.state]};padding:0.2em 0.8em"
        return {"text/plain": text, "text/html": f'<div style="{style}">{lines}</div>'}


def ask(prediction: Prediction, progress: ProgressFile, guess: Any = ..., *, caller: str = "tasks") -> Guess:
    """Return the question for a notebook; with a guess, commit to it first."""
    asked = Guess(prediction, progress, caller)
    if guess is not ...:
        asked.commit(guess)
        print(asked.status)
    return asked


def compare(prediction: Prediction, progress: ProgressFile, happened: Any = None) -> None:
    """Record that the answer is shown, and show a prediction beside what happened."""
    progress.record_shown(prediction.key, "" if happened is None else as_text(happened))
    entry = progress.entries()[prediction.key]
    # nbval compares an output as it was first shown, so that it does not depend on this learner's guess.
    without_guess = Comparison(prediction, {"happened": entry["happened"], "shown": True}).data
    show_in_two_steps(without_guess, Comparison(prediction, entry).data)


def as_text(value: object) -> str:
    """Return what happened as the text of a choice: yes and no for truth, and commas between the items of a list."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(as_text, value))
    return str(value)


def show_in_two_steps(first: dict[str, str], then: dict[str, str]) -> None:
    """Show an output in a notebook and replace it at once; in a terminal, print the second one."""
    if not in_notebook():
        print(then["text/plain"])
        return
    from IPython.display import display

    handle: Any = display(first, raw=True, display_id=True)
    if then != first:
        handle.update(then, raw=True)
