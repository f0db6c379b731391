"""The production overlay on a real Kubernetes: it starts restricted, and loses nothing.

`make cluster` runs it. The tests share one deployment and run in their order; each ends with the
verdict on everything that was sent since the installation.
"""

import base64
import json
import subprocess
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from streams.runtime.exit_codes import ExitCode
from tests.cluster.installation import (
    SECRET_SECONDS,
    STAGES,
    WEBHOOK_SECRET,
    WEBHOOK_URL,
    Images,
    desk,
    let_it_write,
    roll_out,
    workloads,
    write_overlay,
)
from tests.cluster.kafka_logins import user_of, users
from tests.cluster.kubectl import REQUEST_SECONDS, ROLLOUT_SECONDS, Namespace, until
from tests.cluster.page import block
from tests.cluster.signatures import signed_with
from tests.cluster.traffic import Traffic, until_idle, verdict
from tests.faults.harness.load import SECRET

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]


def proven(namespace: Namespace, traffic: Traffic, what: str, began: float) -> None:
    """The verifier finds nothing lost and nothing reversed."""
    found = verdict(namespace, traffic)
    print(
        f"\n{what}: {time.monotonic() - began:.0f} s; "
        f"{len(traffic.acknowledged)} notifications acknowledged since the installation, "
        f"violations: {dict(found.violations) or 'none'}"
    )
    assert found.good, dict(found.examples)
    assert found.checked["notifications answered with 200"] == len(traffic.acknowledged) > 0


def uids(namespace: Namespace, component: str) -> set[str]:
    return {one["metadata"]["uid"] for one in namespace.pods(component)}


def is_ready(namespace: Namespace, component: str, least: int) -> bool:
    """Whether a stage has so many pods, or more, and all of them are ready."""
    states = [
        container["ready"]
        for pod in namespace.pods(component)
        for container in pod["status"].get("containerStatuses", [{"ready": False}])
    ]
    return len(states) >= least and all(states)


def test_every_pod_runs_under_the_restricted_profile(namespace: Namespace) -> None:
    labels = namespace.get("namespace", namespace.name)["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    for stage in (*STAGES, "console"):
        wanted = 1 if stage == "console" else 2
        # The autoscaler adds the second bridge, and perhaps more.
        until(partial(is_ready, namespace, stage, wanted), f"{stage} is ready")
    with pytest.raises(AssertionError, match="violates PodSecurity"):
        namespace.run("run", "root", "--image=busybox", "--restart=Never")
    writing = "open('/opt/contactstream/x', 'w')"
    for stage in STAGES:
        with pytest.raises(AssertionError, match="Read-only file system"):
            namespace.python(namespace.pod(stage), writing)


def test_the_page_fills_the_org_and_says_how_everything_is(
    namespace: Namespace, overlay: Path
) -> None:
    printed = desk(overlay).run(block("Install it", "run.sh contactstream doctor"))
    print(printed)
    waited = until_idle(namespace)
    state = nylas_state(namespace)
    status = namespace.status()
    by_status = status["outcomes"]["by_status"]
    print(f"\nfirst look: idle after {waited:.0f} s; outcomes {by_status}; calls {state['calls']}")
    assert by_status == {"planned": state["contacts"]}, "each contact is planned, and none written"
    assert written(namespace) == 0
    assert status["dead_letters"]["by_reason"] == {}


def test_the_page_lets_it_write_what_was_planned(namespace: Namespace, overlay: Path) -> None:
    began, contacts = time.monotonic(), nylas_state(namespace)["contacts"]
    printed = let_it_write(overlay)
    print(printed)
    assert f"{contacts:,} contacts" in printed, "that many are planned"
    until(lambda: not outcomes(namespace)["planned"], "each one that was planned is written")
    until_idle(namespace)
    found = outcomes(namespace)
    print(f"\nfirst sync: {time.monotonic() - began:.0f} s; outcomes {dict(found)}")
    assert found["failed"] == 0
    assert found.total() == contacts, "an outcome for each contact"
    assert written(namespace) > 0


def nylas_state(namespace: Namespace) -> dict[str, Any]:
    """What the simulator of Nylas holds, and what it was asked for."""
    nylas = f"http://{namespace.service('contactstream-nylas-simulator')}"
    found = httpx.get(f"{nylas}/_sim/state", params={"ids": "false"}, timeout=30.0)
    state: dict[str, Any] = found.raise_for_status().json()
    return state


def outcomes(namespace: Namespace) -> Counter[str]:
    """How many contacts have each outcome as their last one."""
    found: Counter[str] = Counter()
    for line in json.loads(namespace.command("outcomes", "--count", "--json")):
        found[line["outcome"]] += line["contacts"]
    return found


def written(namespace: Namespace) -> int:
    """How many writes the simulator of Salesforce has carried out."""
    org = f"http://{namespace.service('contactstream-salesforce-simulator')}"
    return len(httpx.get(f"{org}/_sim/writes", timeout=30.0).raise_for_status().json())


def test_the_templates_of_jobs_do_what_they_are_for(namespace: Namespace, overlay: Path) -> None:
    desk(overlay).run(block("Commands", "cronjob/contactstream-replay"))
    for job in ("backfill-1", "replay-1"):
        namespace.run(
            "wait",
            f"job/{job}",
            "--for=condition=complete",
            f"--timeout={ROLLOUT_SECONDS:.0f}s",
            seconds=ROLLOUT_SECONDS + REQUEST_SECONDS,
        )
    until_idle(namespace)


def test_a_rolling_update_of_every_stage_loses_nothing(
    namespace: Namespace, traffic: Traffic
) -> None:
    began = time.monotonic()
    before = {stage: uids(namespace, stage) for stage in STAGES}
    with traffic.flowing() as sender:
        for workload in workloads():
            namespace.run("rollout", "restart", workload)
            namespace.rolled_out(workload)
    print(f"\nrolling update: {sender.refused} posts were sent again")
    for stage in STAGES:
        assert not before[stage] & uids(namespace, stage), stage
    proven(namespace, traffic, "rolling update of every stage", began)


def test_a_drained_node_loses_nothing(namespace: Namespace, traffic: Traffic) -> None:
    """One node has no other to move to. So it takes pods again once the first were evicted.

    The disruption budgets then let the next ones go. Kafka and the simulators stay.
    """
    began = time.monotonic()
    node = namespace.get("nodes")["items"][0]["metadata"]["name"]
    before = {stage: uids(namespace, stage) for stage in STAGES}
    selector = f"app.kubernetes.io/component in ({', '.join(STAGES)})"
    with traffic.flowing():
        drain = subprocess.Popen(
            [
                *("kubectl", "drain", node, "--delete-emptydir-data", "--ignore-daemonsets"),
                *(f"--pod-selector={selector}", f"--timeout={ROLLOUT_SECONDS:.0f}s"),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            until(
                lambda: all(before[stage] - uids(namespace, stage) for stage in STAGES),
                "a pod of each stage was evicted",
            )
            for stage in STAGES:
                assert before[stage] & uids(namespace, stage), f"{stage} has no pod left"
            namespace.run("uncordon", node)
            output, _ = drain.communicate(timeout=ROLLOUT_SECONDS + REQUEST_SECONDS)
            assert drain.returncode == 0, output
        finally:
            drain.kill()
            namespace.run("uncordon", node)
        for workload in workloads():
            namespace.rolled_out(workload)
    for stage in STAGES:
        assert not before[stage] & uids(namespace, stage), stage
    proven(namespace, traffic, "drain", began)


def test_killed_pods_lose_nothing(namespace: Namespace, traffic: Traffic) -> None:
    began = time.monotonic()
    with traffic.flowing():
        for stage in STAGES:
            for pod in namespace.pods(stage):
                name = pod["metadata"]["name"]
                namespace.run("delete", "pod", name, "--grace-period=0", "--force")
            for workload in workloads():
                if workload.endswith(stage):
                    namespace.rolled_out(workload)
    proven(namespace, traffic, "both pods of every stage killed", began)


def test_a_rotated_webhook_secret_is_taken_over_beside_the_old_ones(
    namespace: Namespace, traffic: Traffic, overlay: Path
) -> None:
    began = time.monotonic()
    operator = desk(overlay)
    url = traffic.sender.urls[0]
    first, *_ = namespace.secret_value(WEBHOOK_SECRET, "secrets").splitlines()
    rotation = block("Change a secret", "webhooks rotate ID")
    with traffic.flowing():
        listed = namespace.command("webhooks", "list")
        (destination,) = (line.split()[0] for line in listed.splitlines() if WEBHOOK_URL in line)
        operator.run(rotation.replace("rotate ID", f"rotate {destination}"))
        new, *others = namespace.secret_value(WEBHOOK_SECRET, "secrets").splitlines()
        assert others == [first, f"{SECRET} # tests"]
        value, _, _ = new.partition(" # ")
        waited = until(
            lambda: signed_with(value, url) == 200, "the new secret counts", SECRET_SECONDS
        )
        for workload in workloads():
            namespace.rolled_out(workload)
    print(f"\nthe new secret counted after {waited:.0f} s")
    assert signed_with("an-unknown-secret", url) == 401
    proven(namespace, traffic, "secret rotated", began)


def test_a_new_password_for_kafka_restarts_every_process_which_logs_in_with_it(
    namespace: Namespace, traffic: Traffic
) -> None:
    """The node swaps the files of the Secret; each process ends by itself and starts with them."""
    began = time.monotonic()
    roles = (*STAGES, "console")
    before = {role: starts(namespace, role) for role in roles}
    kafka = users(namespace)
    with traffic.flowing():
        for role in roles:
            name = f"contactstream-kafka-{role}"
            password = f"second-password-of-{role}"
            encoded = base64.b64encode(password.encode()).decode()
            changed = json.dumps({"data": {"password": encoded}})
            namespace.run("patch", "secret", name, "--type=merge", f"--patch={changed}")
            kafka.add_scram_user(user_of(role), password)

        def all_ended_by_themselves() -> bool:
            # A bridge that the autoscaler adds meanwhile starts with the new password.
            return all(
                count > before[role][pod]
                for role in roles
                for pod, count in starts(namespace, role).items()
                if pod in before[role]
            )

        waited = until(all_ended_by_themselves, "every process has restarted", SECRET_SECONDS)
        for role in roles:
            wanted = 1 if role == "console" else 2
            until(partial(is_ready, namespace, role, wanted), f"{role} is ready")
            codes = exit_codes(namespace, role)
            print(f"\n{role}: exit codes {codes}")
            assert codes == {int(ExitCode.SECRETS_CHANGED)}
    print(f"\nevery process had restarted after {waited:.0f} s")
    proven(namespace, traffic, "passwords of Kafka changed", began)


def starts(namespace: Namespace, component: str) -> dict[str, int]:
    """How often the container of each pod was started again."""
    return {
        pod["metadata"]["uid"]: status["restartCount"]
        for pod in namespace.pods(component)
        for status in pod["status"].get("containerStatuses", ())
    }


def exit_codes(namespace: Namespace, component: str) -> set[int]:
    """What the containers of a stage ended with when they ended last."""
    return {
        status["lastState"]["terminated"]["exitCode"]
        for pod in namespace.pods(component)
        for status in pod["status"]["containerStatuses"]
        if status["lastState"]
    }


def test_a_bad_deploy_never_replaces_what_works_and_is_undone(
    namespace: Namespace, traffic: Traffic
) -> None:
    began = time.monotonic()
    deployment = "deployment/contactstream-sink"
    before = uids(namespace, "sink")
    with traffic.flowing():
        namespace.run("set", "env", deployment, "SINK_LINGER=soon")

        def fails() -> bool:
            states = [
                container["state"].get("waiting", {}).get("reason", "")
                for pod in namespace.pods("sink")
                for container in pod["status"].get("containerStatuses", ())
            ]
            return "CrashLoopBackOff" in states or "Error" in states

        until(fails, "the new pod fails")
        assert before <= uids(namespace, "sink"), "the old pods work on"
        namespace.run("rollout", "undo", deployment)
        namespace.rolled_out(deployment)
    assert uids(namespace, "sink") == before
    proven(namespace, traffic, "bad deploy and undo", began)


def test_the_autoscaler_adds_bridges_under_load(namespace: Namespace, traffic: Traffic) -> None:
    began = time.monotonic()
    until(lambda: len(namespace.pods("bridge")) == 2, "as many bridges as without load", 600.0)
    with traffic.flowing(rate=400.0):
        seconds = until(lambda: len(namespace.pods("bridge")) > 2, "a third bridge")
    print(f"\nthe autoscaler added a bridge after {seconds:.0f} s")
    proven(namespace, traffic, "autoscaler", began)


def test_versions_work_side_by_side_forward_and_back(
    namespace: Namespace, traffic: Traffic, images: Images
) -> None:
    if not images.previous:
        pytest.fail("--previous-image is missing: build the version before, and load it too")
    began = time.monotonic()
    new = write_overlay(images, images.new, "new")
    previous = write_overlay(images, images.previous, "previous")
    with traffic.flowing():
        for folder, image in (
            (previous, images.previous),
            (new, images.new),
            (previous, images.previous),
            (new, images.new),
        ):
            roll_out(folder)
            for stage in STAGES:
                for pod in namespace.pods(stage):
                    assert pod["spec"]["containers"][0]["image"] == image
    proven(namespace, traffic, "back, forward, back and forward again", began)
