"""The token endpoint: the logins that it accepts, and the documented errors of others."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from typing import Any, Final

import jwt

from .world import INTEGRATION_USER, Auth, Token, World

_JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_MAX_AHEAD_SECONDS: Final = 300


class LoginRefused(Exception):
    """An answer of status 400 with `error` and `error_description`."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error
        self.description = description


def login(
    world: World, form: Mapping[str, str], authorization: str, base_url: str
) -> dict[str, Any]:
    """Check a login and issue a token. Raises LoginRefused."""
    auth = world.auth
    grant_type = form.get("grant_type", "")
    if grant_type == _JWT_BEARER:
        _check_assertion(auth, form.get("assertion", ""), base_url)
    elif grant_type == "client_credentials":
        _check_client(auth, form, authorization)
    elif grant_type == "refresh_token":
        _check_reuse(world, form.get("refresh_token", ""))
        _check_client(auth, form, authorization, secret=bool(form.get("client_secret")))
        if not form.get("refresh_token") or (
            auth.refresh_token and form["refresh_token"] != auth.refresh_token
        ):
            raise LoginRefused("invalid_grant", "expired access/refresh token")
    else:
        raise LoginRefused("unsupported_grant_type", "grant type not supported")
    world.tokens_issued += 1
    if grant_type == "refresh_token" and auth.rotate_refresh_token:
        auth.void_refresh_tokens.add(form["refresh_token"])
        auth.refresh_token = f"5Aep{world.tokens_issued:06d}.simulated"
    token = f"{world.org_id[:15]}!AQ{world.tokens_issued:06d}.simulated"
    world.tokens[token] = Token(time.monotonic())
    answer = {
        "access_token": token,
        "scope": "api",
        "instance_url": world.settings.instance_url or base_url,
        "id": f"https://login.salesforce.com/id/{world.org_id}/{INTEGRATION_USER}",
        "token_type": "Bearer",
    }
    if grant_type == "refresh_token" and auth.rotate_refresh_token:
        answer["refresh_token"] = auth.refresh_token
    if grant_type != _JWT_BEARER:
        answer |= {"issued_at": str(int(time.time() * 1000)), "signature": "c2ltdWxhdGVk"}
    return answer


def _check_reuse(world: World, refresh_token: str) -> None:
    """A void token that is used again revokes the current one and its access tokens.

    [Help article 005316711: Refresh Token Rotation]
    """
    if refresh_token in world.auth.void_refresh_tokens:
        world.auth.refresh_token = "revoked until a person logs in again"
        world.tokens.clear()
        raise LoginRefused("invalid_grant", "expired access/refresh token")


def _check_client(
    auth: Auth, form: Mapping[str, str], authorization: str, *, secret: bool = True
) -> None:
    client_id, client_secret = form.get("client_id", ""), form.get("client_secret", "")
    if authorization.startswith("Basic "):
        try:
            client_id, _, client_secret = (
                base64.b64decode(authorization[6:], validate=True).decode().partition(":")
            )
        except ValueError:
            raise LoginRefused("invalid_client", "invalid client credentials") from None
    if not client_id or (auth.client_id and client_id != auth.client_id):
        raise LoginRefused("invalid_client_id", "client identifier invalid")
    if secret and (
        not client_secret or (auth.client_secret and client_secret != auth.client_secret)
    ):
        raise LoginRefused("invalid_client", "invalid client credentials")


def _check_assertion(auth: Auth, assertion: str, base_url: str) -> None:
    try:
        header = jwt.get_unverified_header(assertion)
        claims: dict[str, Any] = jwt.decode(assertion, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        raise LoginRefused("invalid_grant", "invalid assertion") from None
    if header.get("alg") != "RS256":
        raise LoginRefused("invalid_grant", "invalid assertion")
    if auth.public_key:
        try:
            jwt.decode(
                assertion,
                auth.public_key,
                algorithms=["RS256"],
                options={
                    "verify_aud": False,
                    "verify_exp": False,
                    "verify_iat": False,
                    "verify_nbf": False,
                },
            )
        except jwt.InvalidTokenError:
            raise LoginRefused("invalid_grant", "invalid assertion") from None
    if not claims.get("iss") or (auth.client_id and claims["iss"] != auth.client_id):
        raise LoginRefused("invalid_client_id", "client identifier invalid")
    audience = str(claims.get("aud", "")).rstrip("/")
    if audience not in (*auth.audiences, base_url.rstrip("/")):
        raise LoginRefused("invalid_grant", "audience is invalid")
    expires = claims.get("exp")
    # Expired and too far ahead give the same words.
    if not isinstance(expires, int | float) or not 0 < expires - time.time() <= _MAX_AHEAD_SECONDS:
        raise LoginRefused("invalid_grant", "expired authorization code")
    if not claims.get("sub") or (auth.username and claims["sub"] != auth.username):
        raise LoginRefused("invalid_grant", "user hasn't approved this consumer")
