"""The examples load without a warning, hold all that a run needs, and keep their parts apart."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from heretic.cli.search import build_parser
from heretic.config import load_settings
from heretic.prompts.partition import SIMILAR, similarities
from heretic.session.prompts import load_heldout_prompts, load_run_prompts

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.toml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_needs_nothing_but_its_file(path: Path) -> None:
    settings, warnings = load_settings({}, path)
    assert warnings == []
    prompts = load_run_prompts(settings, settings.over_refusal_objective)
    part = load_heldout_prompts(settings, settings, settings.is_about_refusals, prompts)
    assert part is not None
    assert part.over_refusal is None  # it is not about refusing
    sets = {**prompts.sets(), **part.sets()}
    for side in ("good", "bad"):
        own = [(name, prompt.text) for name, each in sets.items() if name.startswith(side) for prompt in each]
        alike = similarities([text for _, text in own])
        for i, (one, _) in enumerate(own):
            for j, (other, _) in enumerate(own):
                assert one == other or alike[i, j] <= SIMILAR, (own[i], own[j])


def test_there_are_examples() -> None:
    assert EXAMPLES


def test_the_job_of_kubernetes_has_the_fields_of_kuberay_and_a_command_that_parses() -> None:
    text = (Path(__file__).parents[1] / "examples" / "kuberay.yaml").read_text()
    claim, job = yaml.safe_load_all(text)
    # Fields of RayJobSpec and RayClusterSpec in KubeRay's api ray.io/v1, those without a default being required there.
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec: dict[str, Any] = job["spec"]
    assert set(spec) <= {
        "backoffLimit", "entrypoint", "rayClusterSpec", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished"
    }  # fmt: skip
    cluster = spec["rayClusterSpec"]
    assert set(cluster) == {"rayVersion", "headGroupSpec", "workerGroupSpecs"}
    assert set(cluster["headGroupSpec"]) == {"rayStartParams", "template"}
    [group] = cluster["workerGroupSpecs"]
    assert set(group) == {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
    assert all(isinstance(each, str) for each in cluster["headGroupSpec"]["rayStartParams"].values())
    pods = [each["template"]["spec"] for each in (cluster["headGroupSpec"], group)]
    assert {each["image"] for pod in pods for each in pod["containers"]} == {"IMAGE"}
    [volume] = [each for each in pods[0]["volumes"] if "persistentVolumeClaim" in each]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    pinned = re.search(r"^ray==(.+)$", (Path(__file__).parents[1] / "constraints.txt").read_text(), re.M)
    assert pinned is not None
    assert cluster["rayVersion"] == pinned[1]
    program, *words = shlex.split(spec["entrypoint"])
    assert program == "heretic"
    assert build_parser().parse_args(words)
