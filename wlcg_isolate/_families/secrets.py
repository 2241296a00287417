"""
Credentials and other secrets of the pilot.

A pattern is as wide as names of secrets are; it must not be wider than that:
``*TOKEN*`` would take ``TOKENIZERS_PARALLELISM``, and ``*KEY*`` a keyboard.
"""

from __future__ import annotations

from wlcg_isolate._families.row import Family

SECRETS: tuple[Family, ...] = (
    Family(
        "credential",
        "secret",
        "X509_USER_PROXY BEARER_TOKEN_FILE BEARER_TOKEN KRB5CCNAME",
        "is a credential: the payload gets its own by a private copy",
        "WLCG bearer token discovery; gwms 57",
    ),
    Family(
        "pilot-secret",
        "secret",
        "X509_USER_CERT X509_USER_KEY BEARER_TOKEN_* PANDA_AUTH_* OIDC_* _CONDOR_CREDS JALIEN_TOKEN_* "
        "ALIEN_JOB_TOKEN HARVESTER_TOKEN* RUCIO_AUTH_TOKEN* VAULT_* AWS_ACCESS_KEY_ID AWS_SECRET_* AWS_SESSION_* "
        "AWS_WEB_IDENTITY_* S3_ACCESS_KEY* S3_SECRET* KRB5_KTNAME KRB5_CLIENT_KTNAME KUBECONFIG NETRC MYSQL_PWD "
        "PGPASSFILE XrdSecCREDS XrdSecGSIUSER* XrdSecSSS* XrdSecsss* XrdSecPWD* XrdSecNETRC SSH_AUTH_SOCK "
        "SSH_AGENT_PID GPG_AGENT_INFO",
        "is a secret of the pilot, or leads to one",
        "panda-pilot util/https.py; gwms 57; HTCondor credd; xrootd 409",
    ),
    Family(
        "secret-name",
        "secret",
        "*PASSWORD* *PASSWD* *SECRET* *_TOKEN *_TOKENS *_TOKEN_FILE *_TOKEN_PATH *_API_KEY *_APIKEY *_PRIVATE_KEY* "
        "*_CREDENTIALS *password* *passwd* *secret* *_token *_api_key",
        "has the name of a secret",
        "conventions of GitHub, GitLab, cloud providers",
    ),
)
