"""The link by which the owner of a mailbox signs in again, at Nylas' hosted page."""

from urllib.parse import urlencode


def sign_in_link(
    api_url: str, client_id: str, redirect_uri: str, provider: str, address: str = ""
) -> str:
    """The address of Nylas' hosted sign-in for a mailbox.

    Nylas keeps one grant for each address of an application. A sign-in with the address of an
    expired grant makes that grant valid again, under the same ID. `redirect_uri` has to be one of
    the application's callback URIs; the program behind it exchanges the code. Without `address` the
    owner chooses the account, which has to be the same one.

    https://developer.nylas.com/docs/reference/api/authentication-apis/get_oauth2_flow/
    """
    parameters = {
        "client_id": client_id,
        "redirect_uri": redirect_uri,
        "response_type": "code",
        # contactstream reads with the API key, and needs no refresh token.
        "access_type": "online",
        "provider": provider,
        "login_hint": address,
    }
    given = {name: value for name, value in parameters.items() if value}
    return f"{api_url.rstrip('/')}/v3/connect/auth?{urlencode(given)}"
