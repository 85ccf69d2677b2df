"""Which pieces of responses become targets."""

from heretic.engine.learning.targets import baseline_targets, behaviour_end_of, response_targets
from heretic.engine.protocol import Response
from heretic.evaluation.behaviour import behaviour_of


def response(tokens: list[int]) -> Response:
    return Response("", len(tokens), complete=True, tokens=tuple(tokens))


def test_a_repetitive_answer_gives_the_piece_that_repeats() -> None:
    """The first three tokens that stood in the answer before, overlaps included."""
    tokens = [5, 6, 7, 8, 9, 7, 8, 9, 7, 8, 9]
    found = response_targets([[1, 2]], [response(tokens)], lambda _: None, 3, is_sound=lambda _: False)
    assert [each.places for each in found.loops] == [(5, 6, 7)]
    assert found.loops[0].tokens == (7, 8, 9)
    assert (found.bad, found.refusals) == ((), ())


def test_an_answer_that_repeats_no_whole_piece_gives_nothing() -> None:
    found = response_targets([[1, 2]], [response(list(range(20)))], lambda _: None, 3, is_sound=lambda _: False)
    assert (found.bad, found.loops) == ((), ())


def test_a_sound_answer_is_kept_although_it_repeats_a_piece() -> None:
    found = response_targets([[1, 2]], [response([3, 4, 3, 4, 3, 4])], lambda _: None, 2)
    assert len(found.bad) == 1
    assert not found.loops


def test_a_refusal_without_a_marker_gives_the_piece_that_ends_with_its_opening() -> None:
    words = ["", "Good", " day", ".", " I'm", " afraid", " it", " is", " late", "."]
    shown = behaviour_of(["sorry"], ["i'm afraid"])
    end = behaviour_end_of(shown, lambda rows: ["".join(words[token] for token in row) for row in rows])
    declined = Response("".join(words), len(words) - 1, complete=True, tokens=tuple(range(1, len(words))))
    found = response_targets([[7]], [declined], end, 3)
    assert [each.places for each in found.refusals] == [(2, 3, 4)]
    assert found.bad == ()


def test_the_share_of_responses_with_the_behaviour() -> None:
    prompts, given = [[1], [2], [3], [4]], [response([5, 6]), response([7]), response([8]), response([9])]
    found = response_targets(prompts, given, lambda each: 1 if each.tokens[0] in (5, 7, 8) else None, 2)
    assert found.shown == 0.75
    assert baseline_targets([], [], prompts, given, lambda _: 1, 2).shown is None
