"""Rules for the manifests: Pod Security `restricted`, bounds, probes, budgets, network policies.

An exception is written here, with its reason.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from deploy.kubernetes.generator.manifests import Manifest
from tests.support.manifests import (
    COMBINATIONS,
    Pod,
    name_of,
    of_kind,
    pod,
    pods,
    rendered,
    selects,
)

EVERY_COMBINATION = pytest.mark.parametrize("combination", COMBINATIONS)

# Volumes of Pod Security `restricted`. hostPath is not among them.
VOLUMES = {"configMap", "emptyDir", "secret", "projected", "persistentVolumeClaim"}

# Pods whose image is not ours.
FOREIGN_USERS = {"kafka": 1000}

# Containers that no probe watches, with the reason.
NO_PROBES = {
    "topics": "a Job: it ends by itself, and its deadline ends it otherwise",
    "backfill": "a Job",
    "replay": "a Job",
    "operator": "a Job",
}

# Pods of which there may be one, or none in a disruption, with the reason.
NO_BUDGET = {
    "console": "one pod; nothing is lost while it moves",
    "nylas-simulator": "its state is in memory",
    "salesforce-simulator": "its state is in memory",
    "kafka": "one node, for trying it out",
    **NO_PROBES,
}


def test_an_exception_is_for_something_that_exists() -> None:
    components = {each.component for combination in COMBINATIONS for each in pods(combination)}
    assert components >= set(NO_PROBES) | set(NO_BUDGET) | set(FOREIGN_USERS)


@EVERY_COMBINATION
def test_pods_are_restricted(combination: str) -> None:
    for each in pods(combination):
        spec = each.spec
        assert not any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")), each.name
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, each.name
        user = FOREIGN_USERS.get(each.component, 10001)
        assert (security["runAsUser"], security["runAsGroup"]) == (user, user), each.name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, each.name
        for volume in spec["volumes"]:
            (kind,) = set(volume) - {"name"}
            assert kind in VOLUMES, f"{each.name}: {volume}"


@EVERY_COMBINATION
def test_containers_are_restricted_and_cannot_write_to_their_image(combination: str) -> None:
    for each in pods(combination):
        for container in each.containers:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }, each.name
            assert not any("hostPort" in port for port in container.get("ports", ())), each.name


@EVERY_COMBINATION
def test_the_namespace_refuses_other_pods(combination: str) -> None:
    for each in of_kind(combination, "Namespace"):
        labels = each["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@EVERY_COMBINATION
def test_no_pod_has_a_token_for_the_api(combination: str) -> None:
    accounts = of_kind(combination, "ServiceAccount")
    assert all(each["automountServiceAccountToken"] is False for each in accounts)
    names = {each["metadata"]["name"] for each in accounts}
    for each in pods(combination):
        assert each.spec["automountServiceAccountToken"] is False, each.name
        assert each.spec.get("serviceAccountName", "default") in {*names, "default"}, each.name
    used = {each.spec.get("serviceAccountName") for each in pods(combination)}
    assert names <= used


@EVERY_COMBINATION
def test_services_set_no_variables(combination: str) -> None:
    # KAFKA_PORT of a Service would look like a setting.
    assert all(each.spec["enableServiceLinks"] is False for each in pods(combination))


@EVERY_COMBINATION
def test_an_image_says_which_one_it_is(combination: str) -> None:
    for each in pods(combination):
        for container in each.containers:
            image = container["image"]
            _, colon, tag = image.rpartition("/")[2].partition(":")
            assert "@sha256:" in image or (colon and tag and tag != "latest"), image
            assert container["imagePullPolicy"] == "IfNotPresent", each.name


@EVERY_COMBINATION
def test_memory_is_bounded_and_processors_are_not(combination: str) -> None:
    # A limit on processors slows down a process that could go on; what is requested divides them.
    for each in pods(combination):
        for container in each.containers:
            resources = container["resources"]
            assert set(resources["requests"]) == {"cpu", "memory"}, each.name
            assert set(resources["limits"]) == {"memory"}, each.name


@EVERY_COMBINATION
def test_what_can_be_written_is_bounded(combination: str) -> None:
    for each in pods(combination):
        for volume in each.spec["volumes"]:
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"].endswith("Mi"), each.name
        mounts = {mount["mountPath"]: mount for mount in each.main["volumeMounts"]}
        assert "/tmp" in mounts, each.name
        read_only = [path for path, mount in mounts.items() if mount.get("readOnly")]
        assert {path for path in mounts if path.startswith(("/run/", "/etc/"))} == set(read_only)


@EVERY_COMBINATION
def test_every_process_that_stays_is_probed(combination: str) -> None:
    for each in pods(combination):
        wanted = set() if each.component in NO_PROBES else {"livenessProbe", "readinessProbe"}
        assert {"livenessProbe", "readinessProbe"} & set(each.main) == wanted, each.name


@EVERY_COMBINATION
def test_secrets_are_files_for_the_group_only(combination: str) -> None:
    for each in pods(combination):
        for container in each.containers:
            assert "secretKeyRef" not in str(container.get("env", "")), each.name
            assert all("secretRef" not in source for source in container.get("envFrom", ()))
        for volume in each.spec["volumes"]:
            if "secret" in volume:
                assert volume["secret"]["defaultMode"] == 0o440, each.name


@EVERY_COMBINATION
def test_production_brings_no_secrets(combination: str) -> None:
    secrets = of_kind(combination, "Secret")
    assert bool(secrets) == (combination == "overlays/dev")


@EVERY_COMBINATION
def test_several_pods_keep_one_in_a_disruption(combination: str) -> None:
    budgets = of_kind(combination, "PodDisruptionBudget")
    for each in budgets:
        assert each["spec"]["maxUnavailable"] == 1
        assert each["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"
    for running in pods(combination):
        covering = [one for one in budgets if selects(one["spec"]["selector"], running.labels)]
        assert len(covering) == (0 if running.component in NO_BUDGET else 1), running.name
        if running.component in NO_BUDGET:
            assert running.workload["spec"].get("replicas", 1) == 1, running.name


@EVERY_COMBINATION
def test_pods_are_spread_over_nodes_and_zones(combination: str) -> None:
    for each in pods(combination):
        if each.component in NO_BUDGET:
            continue
        constraints = each.spec["topologySpreadConstraints"]
        keys = [constraint["topologyKey"] for constraint in constraints]
        assert keys == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
        for constraint in constraints:
            # On a cluster of one node everything starts all the same.
            assert constraint["whenUnsatisfiable"] == "ScheduleAnyway"
            assert selects(constraint["labelSelector"], each.labels), each.name


def test_only_the_bridge_is_scaled_by_load() -> None:
    scaled = [
        each["spec"]["scaleTargetRef"]["name"]
        for each in of_kind("overlays/production", "HorizontalPodAutoscaler")
    ]
    assert scaled == ["contactstream-bridge"]
    assert "replicas" not in pod("overlays/production", "bridge").workload["spec"]


@EVERY_COMBINATION
def test_a_new_version_does_not_replace_one_that_works_before_it_is_ready(combination: str) -> None:
    for each in of_kind(combination, "Deployment"):
        if "simulator" in each["metadata"]["name"]:
            continue
        assert each["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    for each in of_kind(combination, "StatefulSet"):
        assert each["spec"].get("podManagementPolicy", "OrderedReady") == "OrderedReady"


@EVERY_COMBINATION
def test_ports_are_named_and_services_find_them(combination: str) -> None:
    for service in of_kind(combination, "Service"):
        selector = {"matchLabels": service["spec"]["selector"]}
        (selected,) = [each for each in pods(combination) if selects(selector, each.labels)]
        names = {port["name"] for port in selected.main["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= names
    for ingress in of_kind(combination, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                wanted = path["backend"]["service"]
                (service,) = [
                    each
                    for each in of_kind(combination, "Service")
                    if each["metadata"]["name"] == wanted["name"]
                ]
                assert wanted["port"]["name"] in {port["name"] for port in service["spec"]["ports"]}


@EVERY_COMBINATION
def test_labels_say_what_an_object_is(combination: str) -> None:
    for each in rendered(combination):
        if each["kind"] in ("Namespace", "Secret"):
            continue
        labels = each["metadata"].get("labels", {})
        assert labels.get("app.kubernetes.io/part-of") == "contactstream", name_of(each)
    for running in pods(combination):
        metadata = running.workload["metadata"]
        assert running.labels["app.kubernetes.io/name"] == "contactstream"
        assert metadata["name"] == f"contactstream-{running.component}"
        assert metadata["labels"]["app.kubernetes.io/component"] == running.component
        selector = running.workload["spec"].get("selector")
        if selector is not None:
            # A selector cannot be changed later, so that the version is not in it.
            assert set(selector["matchLabels"]) == {
                "app.kubernetes.io/name",
                "app.kubernetes.io/component",
            }
            assert selects(selector, running.labels)


def policies(combination: str) -> Iterator[tuple[Manifest, list[Pod]]]:
    """Each network policy with the pods that it is for."""
    for each in of_kind(combination, "NetworkPolicy"):
        chosen = each["spec"]["podSelector"]
        yield each, [one for one in pods(combination) if selects(chosen, one.labels)]


def guarded() -> list[str]:
    return [
        combination
        for combination in COMBINATIONS
        if any(
            each["metadata"]["name"] == "contactstream-default"
            for each in of_kind(combination, "NetworkPolicy")
        )
    ]


def test_production_is_guarded() -> None:
    assert {"overlays/production", "overlays/dev"} <= set(guarded())


@pytest.mark.parametrize("combination", guarded())
def test_a_network_policy_is_for_pods_that_exist(combination: str) -> None:
    for each, chosen in policies(combination):
        assert chosen, name_of(each)
        for rule in each["spec"].get("ingress", ()):
            for port in rule.get("ports", ()):
                for one in chosen:
                    assert port["port"] in {each["name"] for each in one.main["ports"]}, one.name
            for peer in rule.get("from", ()):
                if "podSelector" in peer:
                    assert any(
                        selects(peer["podSelector"], one.labels) for one in pods(combination)
                    )


@pytest.mark.parametrize("combination", guarded())
def test_every_pod_is_closed_but_for_what_is_named(combination: str) -> None:
    (default, closed), *_ = [
        (each, chosen)
        for each, chosen in policies(combination)
        if each["metadata"]["name"] == "contactstream-default"
    ]
    assert default["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in default["spec"]
    assert [each.name for each in closed] == [each.name for each in pods(combination)]


def reachable(combination: str, component: str) -> dict[str, Any]:
    """By port, from where a pod is reached: the `from` of the policies, None for everywhere."""
    found: dict[str, Any] = {}
    for each, chosen in policies(combination):
        if component in {one.component for one in chosen}:
            for rule in each["spec"].get("ingress", ()):
                for port in rule.get("ports", ({"port": "any"},)):
                    found[port["port"]] = rule.get("from")
    return found


def test_only_the_webhook_is_open_to_everybody() -> None:
    production = "overlays/production"
    open_ports = {
        (component, port)
        for component in ("bridge", "dedupe", "reader", "sink", "console")
        for port, sources in reachable(production, component).items()
        if sources is None
    }
    assert open_ports == {("bridge", "http")}
    for component in ("bridge", "dedupe", "reader", "sink", "console"):
        assert reachable(production, component)["ops"], component


# The address that Kubernetes' documentation gives to the DNS cache of a node.
NODE_DNS_CACHE = "169.254.20.10/32"


def test_only_who_calls_nylas_or_salesforce_reaches_the_internet() -> None:
    reaching = {
        one.component
        for each, chosen in policies("overlays/production")
        for rule in each["spec"].get("egress", ())
        for peer in rule.get("to", ())
        if "ipBlock" in peer and peer["ipBlock"]["cidr"] != NODE_DNS_CACHE
        for one in chosen
    }
    assert reaching == {"reader", "sink", "console", "operator"}
