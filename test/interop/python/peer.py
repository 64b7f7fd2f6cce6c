"""A workload for the interoperability tests. Each command prints JSON, one value per line.

peer.py x509                 the X.509 context: SVIDs with chains, bundles
peer.py jwt AUDIENCE         JWT-SVIDs, each validated by the Workload API and by the bundle
peer.py watch                one line per update of the X.509 context, until it is killed
peer.py serve CLIENT_ID      an mTLS server on a free port; prints its address, then the ID of each client
peer.py dial ADDRESS ID      connects by mTLS to a server of that ID; prints the answer
"""

import base64
import json
import os
import socket
import ssl
import sys
import tempfile
import threading

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from spiffe import JwtSvid, WorkloadApiClient


def print_line(value):
    print(json.dumps(value), flush=True)


def der(certificate):
    return base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()


def describe(context):
    described = []
    for svid in context.x509_svids:
        bundle = context.x509_bundle_set.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
        described.append(
            {
                "id": str(svid.spiffe_id),
                "serial": str(svid.leaf.serial_number),
                "chain": [der(certificate) for certificate in svid.cert_chain],
                "bundle": [der(certificate) for certificate in bundle.x509_authorities],
            }
        )
    return described


def print_x509(client):
    print_line(describe(client.fetch_x509_context()))


def print_jwt(client, audience):
    bundles = client.fetch_jwt_bundles()
    described = []
    for svid in client.fetch_jwt_svids(audience={audience}):
        by_api = client.validate_jwt_svid(svid.token, audience)
        bundle = bundles.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
        by_bundle = JwtSvid.parse_and_validate(svid.token, bundle, {audience})
        described.append(
            {
                "id": str(svid.spiffe_id),
                "token": svid.token,
                "audience": sorted(svid.audience),
                "validated_by": {"api": str(by_api.spiffe_id), "bundle": str(by_bundle.spiffe_id)},
            }
        )
    print_line(described)


def watch(client):
    def fail(error):
        print(error, file=sys.stderr, flush=True)

    client.stream_x509_contexts(lambda context: print_line(describe(context)), fail)
    threading.Event().wait()


def tls_context(client, side):
    """A TLS context of the default SVID that trusts the SVID's own trust domain and wants a certificate."""
    x509_context = client.fetch_x509_context()
    svid = x509_context.default_svid
    bundle = x509_context.x509_bundle_set.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
    context = ssl.SSLContext(side)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    with tempfile.TemporaryDirectory() as folder:
        chain, key = os.path.join(folder, "chain.pem"), os.path.join(folder, "key.pem")
        svid.save(chain, key, Encoding.PEM)
        context.load_cert_chain(chain, key)
    for authority in bundle.x509_authorities:
        context.load_verify_locations(cadata=authority.public_bytes(Encoding.DER))
    return context


def peer_id(connection):
    """The SPIFFE ID of a certificate that TLS has verified: its one URI name."""
    certificate = x509.load_der_x509_certificate(connection.getpeercert(binary_form=True))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1:
        raise ValueError(f"expected one URI name, not {uris}")
    return uris[0]


def expect(connection, spiffe_id):
    found = peer_id(connection)
    if found != spiffe_id:
        raise ValueError(f"expected {spiffe_id}, not {found}")


def serve(client, client_id):
    context = tls_context(client, ssl.PROTOCOL_TLS_SERVER)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print_line("%s:%d" % listener.getsockname())
        while True:
            raw, _ = listener.accept()
            with context.wrap_socket(raw, server_side=True) as connection:
                expect(connection, client_id)
                print_line(client_id)
                line = connection.makefile("r").readline()
                connection.sendall(f"{client_id} says {line}".encode())


def dial(client, address, server_id):
    context = tls_context(client, ssl.PROTOCOL_TLS_CLIENT)
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port))) as raw:
        with context.wrap_socket(raw) as connection:
            expect(connection, server_id)
            connection.sendall(b"hello\n")
            print_line(connection.makefile("r").readline())


COMMANDS = {"x509": print_x509, "jwt": print_jwt, "watch": watch, "serve": serve, "dial": dial}

if __name__ == "__main__":
    with WorkloadApiClient(default_timeout=60) as workload_api:
        COMMANDS[sys.argv[1]](workload_api, *sys.argv[2:])
