"""Asks a bridge whether it knows a secret of the webhook."""

import hashlib
import hmac
import json

import httpx


def signed_with(key: str, url: str) -> int:
    """The status of the answer to a notification that is not ours, signed with this secret."""
    body = json.dumps({"type": "message.created", "id": "x", "data": {"object": {}}}).encode()
    signature = hmac.new(key.encode(), body, hashlib.sha256).hexdigest()
    headers = {"X-Nylas-Signature": signature, "Content-Type": "application/json"}
    return httpx.post(url, content=body, headers=headers, timeout=10.0).status_code
