"""The deployment that all tests of the cluster share; see installation.py."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.installation import (
    NAMESPACE,
    Images,
    install,
    let_it_write,
    remove,
    write_overlay,
)
from tests.cluster.kubectl import Namespace
from tests.cluster.traffic import Traffic
from tests.faults.harness.load import Sender


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("cluster", "a real Kubernetes, which KUBECONFIG names")
    group.addoption("--image", help="image of this checkout, as the nodes know it")
    group.addoption("--previous-image", default="", help="image of the version before")
    group.addoption("--kafka-image", default="apache/kafka:4.3.1", help="image of Kafka")
    group.addoption(
        "--keep", action="store_true", help="leave the deployment there, and take one that is there"
    )


@pytest.fixture(scope="session")
def images(request: pytest.FixtureRequest) -> Images:
    """The images of the options. Fails with the remedy where one is missing."""
    option = request.config.getoption
    if not option("--image"):
        pytest.fail("--image is missing: make image, load it into the nodes, and name it here")
    return Images(option("--image"), option("--kafka-image"), option("--previous-image"))


@pytest.fixture(scope="session")
def overlay(images: Images) -> Path:
    """The folder of the overlay of this checkout."""
    return write_overlay(images, images.new)


@pytest.fixture(scope="session")
def namespace(overlay: Path, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """The production overlay of this checkout, with Kafka and the simulators."""
    keep = request.config.getoption("--keep")
    found = Namespace(NAMESPACE)
    there = "console" in found.run(
        "get", "deployment", "contactstream-console", "--ignore-not-found", "--output=name"
    )
    yield found if keep and there else install(overlay)
    if not keep:
        remove(found)


@pytest.fixture(scope="session")
def traffic(namespace: Namespace, overlay: Path) -> Traffic:
    """The traffic of the whole session: the verifier is asked about all of it."""
    if namespace.status()["mode"]["mode"] != "mirror":  # a test that was chosen alone
        let_it_write(overlay)
    return Traffic(namespace, Sender([f"http://{namespace.service('contactstream-bridge')}/"]))
