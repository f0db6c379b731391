"""The first section of the page: everything in an empty cluster, with simulators."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator

import httpx
import pytest

from deploy.local.broker import free_ports
from tests.cluster.installation import FOLDER, Images, image_override, remove
from tests.cluster.kubectl import Namespace, until
from tests.cluster.page import Desk, block
from tests.cluster.traffic import until_idle

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

DEV = Namespace("contactstream-dev")
TOKEN = "dev-console-token"
OVERLAY = "deploy/kubernetes/overlays/dev"
# The image is on the nodes already.
BUILD = "deploy/image/build.sh"
# It does not end, and the port of the page may be in use on this machine.
FORWARD = "port-forward"
FORWARD_SECONDS = 60.0


@pytest.fixture
def operator(images: Images) -> Iterator[Desk]:
    """A folder in which nobody has installed anything, and the overlay with the images given."""
    remove(DEV)
    folder = FOLDER / "dev"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [f"../../../{OVERLAY}"],
        "images": [
            image_override("localhost/contactstream", images.new),
            image_override("apache/kafka", images.kafka),
        ],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(kustomization))
    found = Desk(FOLDER / "dev-desk", {OVERLAY: str(folder)})
    found.set_up(os.environ["KUBECONFIG"], {})
    yield found
    remove(DEV)


def test_the_page_shows_everything_in_an_empty_cluster(operator: Desk) -> None:
    commands = block("Try it", BUILD).splitlines()
    printed = operator.run("\n".join(each for each in commands if not is_apart(each)))
    print(printed)
    assert "notifications sent" in printed
    # Ten minutes later the reader reads again what came before the addresses of the mailboxes did.
    until_idle(DEV, ("dedupe", "sink"))
    status = DEV.status()
    print(f"\n{status['outcomes']['by_status']}")
    assert status["outcomes"]["by_status"].get("failed", 0) == 0
    assert status["dead_letters"]["by_reason"] == {}
    (forward,) = (each for each in commands if FORWARD in each)
    (port,) = free_ports(1)
    with subprocess.Popen(
        forward.replace("8765", f"{port}:8765").split(), stdout=subprocess.DEVNULL
    ) as forwarding:
        try:
            until(lambda: login(port, TOKEN) == 303, "the console takes its token", FORWARD_SECONDS)
            assert login(port, "another-token-of-this-test") == 403
        finally:
            forwarding.terminate()


def is_apart(command: str) -> bool:
    """Whether the test runs a command otherwise than with the others of its block."""
    return BUILD in command or FORWARD in command


def login(port: int, token: str) -> int:
    """The status of the answer to a browser at http://localhost:8765/; 0 without an answer."""
    url = f"http://127.0.0.1:{port}/login"
    headers = {"Host": "localhost:8765", "Origin": "http://localhost:8765"}
    try:
        return httpx.post(url, data={"token": token}, headers=headers, timeout=10.0).status_code
    except httpx.TransportError:
        return 0
