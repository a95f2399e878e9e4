"""gke_jobset.yaml: what Kubernetes reads in it."""

import math

import pytest
import yaml

from tests.launch.commands import LAUNCH


@pytest.fixture(scope="module")
def jobset():
    return yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())


@pytest.fixture(scope="module")
def job(jobset):
    [replicated] = jobset["spec"]["replicatedJobs"]
    return replicated["template"]["spec"]


def test_jobset_is_one(jobset):
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    assert set(jobset["spec"]) == {"failurePolicy", "replicatedJobs"}


def test_jobset_restarts_after_all_but_0_and_1(jobset, job):
    [rule] = job["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob"
    assert rule["onExitCodes"]["operator"] == "In" and rule["onExitCodes"]["values"] == [1]
    [container] = job["template"]["spec"]["containers"]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # podFailurePolicy asks for it
    assert (
        job["backoffLimit"] == 0
    )  # any other failure ends the job with another reason: all pods start again
    policy = jobset["spec"]["failurePolicy"]
    assert policy["maxRestarts"] >= 10
    [rule] = policy["rules"]
    assert rule["action"] == "FailJobSet" and rule["onJobFailureReasons"] == ["PodFailurePolicy"]


def test_jobset_has_a_pod_for_every_host(job):
    assert job["completionMode"] == "Indexed"
    assert job["completions"] == job["parallelism"]
    pod = job["template"]["spec"]
    resources = pod["containers"][0]["resources"]
    assert resources["requests"] == resources["limits"]
    topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
    chips = math.prod(int(side) for side in topology.split("x"))
    assert job["parallelism"] * resources["limits"]["google.com/tpu"] == chips


def test_jobset_signals_python_and_keeps_the_workdir(job):
    pod = job["template"]["spec"]
    [container] = pod["containers"]
    assert container["command"] == ["python", "-m", "ifanp_jax.main"]
    assert pod["terminationGracePeriodSeconds"] >= 60
    [mount] = container["volumeMounts"]
    [volume] = pod["volumes"]
    assert mount["name"] == volume["name"] and volume["persistentVolumeClaim"]["claimName"]
    [workdir] = [argument for argument in container["args"] if argument.startswith("--workdir=")]
    assert workdir.startswith(f"--workdir={mount['mountPath']}/")


def test_jobset_marks_every_place_to_fill_in():
    marked = [
        line.split("#")[0]
        for line in (LAUNCH / "gke_jobset.yaml").read_text().splitlines()
        if "# CHANGE" in line
    ]
    for name in ("completions", "parallelism", "accelerator", "topology", "image", "args", "claimName"):
        assert any(name in line for line in marked), name
