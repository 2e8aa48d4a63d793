"""OpenID Connect (Core 1.0), the authorization code flow with PKCE: the broker as a relying party of one provider.

fetching (what the provider says over HTTP) · id_token (whose word it is) ← provider (the flow). What does not belong
here: pages and cookies (`broker.web.sign_on`), who the account is (`broker.store.identities`).
"""
