"""Fetches an X.509-SVID and a JWT-SVID from the SPIFFE Workload API and prints what they say."""

from datetime import datetime, timezone

from spiffe import WorkloadApiClient


def utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


# The socket is found by the environment variable SPIFFE_ENDPOINT_SOCKET.
with WorkloadApiClient(default_timeout=30) as client:
    x509 = client.fetch_x509_svid()
    print("X.509-SVID:", x509.spiffe_id)
    print("valid until:", utc(x509.leaf.not_valid_after_utc.timestamp()))

    jwt = client.fetch_jwt_svid(audience={"my-service"})
    print("JWT-SVID:", jwt.spiffe_id, "for", sorted(jwt.audience))
    print("valid until:", utc(jwt.expiry))
