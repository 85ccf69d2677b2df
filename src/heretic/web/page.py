"""The page: the front, a trial in detail, chats side by side, export."""

import html
from collections.abc import Iterator
from typing import Any

from ..config import ExportName
from ..engine.chat_stream import Turn
from ..engine.sampling import Sampling
from ..errors import UserError
from ..export.public_names import model_name
from ..printable import printable
from ..report.text import baseline_text, metrics_text
from ..study.pareto import knee, pareto_front
from ..study.schema import BASELINE, TrialRecord
from ..ui.flags import default_output
from .charts import front_svg, kernels_svg
from .service import StudyService

SECONDS_BETWEEN_LOOKS = 2.0
# A point is found by its trial, since the picture is redrawn; Enter and space act as a click.
CLICKED = """
const choose = (target) => {
  const point = target.closest('[data-trial]');
  if (point) trigger('click', {trial: Number(point.dataset.trial)});
};
element.addEventListener('click', (event) => choose(event.target));
element.addEventListener('keydown', (event) => {
  if (event.key === 'Enter' || event.key === ' ') { event.preventDefault(); choose(event.target); }
});
"""
# A table fits on a phone if its words may break.
NARROW = "font-size: 0.85em; overflow-wrap: anywhere; max-width: 100%"
LEAST_WIDTH = 240
Messages = list[dict[str, Any]]


def build_page(service: StudyService) -> Any:
    """The Gradio application."""
    import gradio as gr

    with gr.Blocks(title="heretic", analytics_enabled=False) as page:
        selected = gr.State(_first(service))
        status = gr.Markdown(status_text(service), elem_id="status")
        with gr.Row():
            with gr.Column(scale=3):
                front = gr.HTML(_front(service, _first(service)), js_on_load=CLICKED, elem_id="front")
            with gr.Column(scale=2):
                detail = gr.HTML(detail_html(service, _first(service)), elem_id="detail")
                examples = gr.Button("Show examples", elem_id="show-examples")
                shown = gr.HTML("", elem_id="examples")
        choose = gr.Dropdown(service.names(), value=_name(_first(service)), label="Trial", elem_id="choose")

        def select(number: int | None) -> tuple[Any, ...]:
            trial = None if number is None else service.trial(f"trial {number}")
            number = None if trial is None else trial.number
            return number, _front(service, number), detail_html(service, number), "", _name(number)

        def clicked(event: gr.EventData) -> tuple[Any, ...]:
            return select(event.trial)

        def chosen(name: str) -> tuple[Any, ...]:
            return select(None if name == BASELINE else int(name.removeprefix("trial ")))

        views = [selected, front, detail, shown, choose]
        front.click(clicked, None, views, show_progress="hidden")
        choose.input(chosen, choose, views, show_progress="hidden")
        examples.click(lambda number: examples_html(service, number), selected, shown)

        def look(number: int | None) -> tuple[Any, ...]:
            return status_text(service), _front(service, number), gr.update(choices=service.names())

        gr.Timer(SECONDS_BETWEEN_LOOKS).tick(look, selected, [status, front, choose], show_progress="hidden")
        with gr.Tab("Chat side by side"):
            _chat(gr, service, choose)
        with gr.Tab("Export"):
            _export(gr, service, selected)
    return page


def _first(service: StudyService) -> int | None:
    front = pareto_front(service.study.trials, service.study.baseline)
    return knee(front, service.study.baseline).number if front else None


def _name(number: int | None) -> str:
    return BASELINE if number is None else f"trial {number}"


def _front(service: StudyService, number: int | None) -> str:
    return front_svg(service.study.trials, service.study.baseline, number)


def status_text(service: StudyService) -> str:
    study = service.study
    states = study.count_by_state()
    running = " · a search is running" if states.get("running") else ""
    name, front = _escaped(model_name(study.record)), pareto_front(study.trials, study.baseline)
    return (
        f"**{name}** · {states.get('complete', 0)} trials{running} · {len(front)} on the front "
        f"· {baseline_text(study.baseline)}"
    )


def detail_html(service: StudyService, number: int | None) -> str:
    """Metrics, parameters and kernels of a trial."""
    study = service.study
    trial = next((each for each in study.trials if each.number == number), None)
    if trial is None:
        return "<p>Click a point: its parameters, kernels and examples show here.</p>"
    return (
        f"<h3>Trial {trial.number}</h3><p>{metrics_text(trial, study.baseline)}</p>"
        f"{parameters_html(trial)}{kernels_svg(trial, service.n_layers)}"
    )


def parameters_html(trial: TrialRecord) -> str:
    parameters = trial.parameters
    names = ("max_weight", "max_weight_position", "min_weight", "min_weight_distance")
    head = "".join(f"<th>{_escaped(component)}</th>" for component in ("", *parameters.kernels))
    rows = "".join(
        f"<tr><td>{name}</td>"
        f"{''.join(f'<td>{getattr(kernel, name):.2f}</td>' for kernel in parameters.kernels.values())}</tr>"
        for name in names
    )
    table = f"<table style='{NARROW}'><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    table = table if parameters.kernels else ""
    facts = "; ".join(f"{name.lower()}: {_escaped(value)}" for name, value in parameters.facts().items())
    return f"<p>{facts}</p>{table}"


def examples_html(service: StudyService, number: int | None) -> str:
    """Prompts with the answers of the baseline and of the trial."""
    if number is None:
        return "<p>Choose a trial first.</p>"
    trial = service.trial(f"trial {number}")
    assert trial is not None
    try:
        examples = service.examples(trial)
    except UserError as error:
        return f"<p>{_escaped(str(error))}</p>"
    return "".join(
        f"<h4>{_escaped(prompt)}</h4><p><b>{BASELINE}:</b> {_escaped(unedited)}</p>"
        f"<p><b>trial {number}:</b> {_escaped(edited)}</p>"
        for prompt, unedited, edited in examples
    )


def _chat(gr: Any, service: StudyService, choose: Any) -> None:
    with gr.Row():
        left_name, right_name = (
            gr.Dropdown(
                service.names(), value=value, label=label, elem_id=f"{label.lower()}-name", min_width=LEAST_WIDTH
            )
            for label, value in (("Left", BASELINE), ("Right", _name(_first(service))))
        )
    with gr.Row():
        left, right = (
            gr.Chatbot(label=label, height=360, elem_id=label.lower(), render_markdown=False, buttons=["copy"])
            for label in ("Left", "Right")
        )
    text = gr.Textbox(label="Say to both", elem_id="say", lines=1)
    with gr.Row():
        send = gr.Button("Send", variant="primary", elem_id="send")
        stop = gr.Button("Stop")
        reset = gr.Button("New conversation", elem_id="anew")
    with gr.Accordion("Settings", open=False):
        system = gr.Textbox(label="System prompt (empty: the study's own)")
        temperature = gr.Slider(0, 2, value=0, step=0.1, label="Temperature (0: always the likeliest token)")
        top_p = gr.Slider(0.05, 1, value=1, step=0.05, label="Top-p")
        tokens = gr.Slider(16, 1024, value=200, step=16, label="Most tokens of an answer")

    def answer(
        said: str, a: str, b: str, first: Messages, second: Messages, s: str, t: float, p: float, n: float
    ) -> Iterator[Any]:
        how = (s or None, Sampling(t, p), int(n))
        yield from _talk(gr, service, said, (a, b), (first or [], second or []), how)

    inputs = [text, left_name, right_name, left, right, system, temperature, top_p, tokens]
    events = [trigger(answer, inputs, [left, right, text]) for trigger in (send.click, text.submit)]
    stop.click(None, cancels=events)
    reset.click(lambda: ([], []), None, [left, right])
    choose.change(
        lambda name: (gr.update(value=name, choices=service.names()), gr.update(choices=service.names()), [], []),
        choose,
        [right_name, left_name, left, right],
    )


def _talk(
    gr: Any, service: StudyService, said: str, names: tuple[str, str], both: tuple[Messages, Messages], how: Any
) -> Iterator[Any]:
    """Yields the left history, the right history and the empty text box while the two models answer in turn."""
    if not said.strip():
        yield (*both, said)
        return
    histories = [[*history, {"role": "user", "content": said}] for history in both]
    yield (*histories, "")
    for side, name in enumerate(names):
        turns = [Turn(message["role"], _plain(message["content"])) for message in histories[side]]
        try:
            for answer in service.reply(name, turns, *how):
                grown = [*histories[side], {"role": "assistant", "content": printable(answer)}]
                shown = [grown if number == side else history for number, history in enumerate(histories)]
                yield (*shown, "")
            histories[side] = grown
        except UserError as error:
            raise gr.Error(str(error)) from error


def _export(gr: Any, service: StudyService, selected: Any) -> None:
    choices = [(form.label[0].upper() + form.label[1:], form.name) for form in service.formats()]
    kind = gr.Radio(choices, value=choices[0][1], label="What to write")
    output = gr.Textbox(default_output(service.study.record.model), label="Directory to write to", elem_id="output")
    write = gr.Button("Write the chosen trial", variant="primary", elem_id="write")
    log = gr.Textbox(label="What happened", lines=10, elem_id="log", interactive=False)

    def run(number: int | None, export: ExportName, directory: str) -> Iterator[str]:
        trial = None if number is None else service.trial(f"trial {number}")
        if trial is None or not directory.strip():
            yield "Choose a trial and name a directory first."
            return
        yield from service.export(trial, export, directory.strip())

    write.click(run, [selected, kind, output], log)


def _plain(content: Any) -> str:
    """The text of a message in Gradio's format."""
    if isinstance(content, str):
        return content
    return "".join(str(part.get("text", "")) if isinstance(part, dict) else str(part) for part in content)


def _escaped(text: str) -> str:
    return html.escape(printable(text))
