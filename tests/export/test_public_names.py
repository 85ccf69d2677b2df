"""A name is the hub's if it was found there, whatever it looks like."""

from typing import Any

import pytest

from heretic.export.public_names import PublicModel, dataset_name, hub_id, model_name, public_model
from heretic.study.schema import PromptRecord
from tests.support import study_toys as toys


@pytest.mark.parametrize(
    ("model", "repository"), [("owner/name", "owner/name"), ("gpt2", "gpt2"), ("owner/name/q4.gguf", "owner/name")]
)
def test_what_was_downloaded_has_an_id(model: str, repository: str) -> None:
    record = toys.record(model=model, model_revision="abc")
    assert (hub_id(record), model_name(record)) == (repository, model)


@pytest.mark.parametrize("model", ["owner/name", "/home/me/owner/name", "./name", "~/name", "../owner/name/"])
def test_a_local_directory_is_known_by_its_last_part(model: str) -> None:
    record = toys.record(model=model, model_revision=None)
    assert (hub_id(record), model_name(record)) == (None, "name")


@pytest.mark.parametrize("model", [".", ".."])
def test_a_directory_without_a_name_is_named_as_its_resolved_path(model: str) -> None:
    assert model_name(toys.record(model=model, model_path="/home/me/base", model_revision=None)) == "base"


def test_a_local_model_is_named_as_the_user_says() -> None:
    local = toys.record(model="models/mine", model_revision=None)
    assert public_model(local) == PublicModel("mine", None, None)
    assert public_model(local, "owner/name") == PublicModel("owner/name", "owner/name", None)


def test_a_commit_belongs_to_the_repository_that_was_downloaded() -> None:
    downloaded = toys.record(model="owner/name", model_revision="abc")
    assert public_model(downloaded, "owner/name") == PublicModel("owner/name", "owner/name", "abc")
    assert public_model(downloaded, "first/source") == PublicModel("first/source", "first/source", None)


def prompts(dataset: str, **changes: Any) -> PromptRecord:
    return PromptRecord(source={"dataset": dataset}, count=1, digest="aa", **changes)


def test_prompts_of_the_hub_keep_their_id_and_local_ones_lose_their_folder() -> None:
    assert dataset_name(prompts("owner/name", public=True)) == "owner/name"
    assert dataset_name(prompts("data/private.txt", public=False)) == "private.txt"
    assert dataset_name(prompts("packaged:refusal", public=False)) == "packaged:refusal"


def test_records_that_do_not_say_are_judged_by_the_name() -> None:
    """What older versions wrote."""
    assert dataset_name(prompts("owner/name")) == "owner/name"
    assert dataset_name(prompts("/home/me/prompts.txt")) == "prompts.txt"
    assert dataset_name(prompts("C:\\me\\prompts.txt")) == "prompts.txt"


def test_a_copy_in_the_hubs_cache_is_known_by_its_repository() -> None:
    path = "/home/me/.cache/huggingface/hub/models--acme--tiny-1.5/snapshots/" + 40 * "a"
    record = toys.record(model=path, model_path=path, model_revision=None)
    assert (hub_id(record), model_name(record)) == ("acme/tiny-1.5", "acme/tiny-1.5")
