"""OpenID Connect (Core 1.0), the authorization code flow with PKCE: the broker as a relying party of one provider.

flow (one sign-in) · fetching (what the provider says over HTTP) · id_token (whose word it is) ← provider. What does not
belong here: pages and cookies (`broker.web.sign_on`), who the account is (`broker.store.identities`).
"""
