// Fetches an X.509-SVID and a JWT-SVID from the SPIFFE Workload API and prints what they say.
import { X509Certificate } from "node:crypto";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const proto = fileURLToPath(new URL("workloadapi.proto", import.meta.url));
const { SpiffeWorkloadAPI } = grpc.loadPackageDefinition(protoLoader.loadSync(proto, { keepCase: true }));

// Every call carries this header, so that a browser or a proxy cannot be tricked into making one.
const metadata = new grpc.Metadata();
metadata.set("workload.spiffe.io", "true");

const utc = (date) => date.toISOString().replace(".000Z", "Z");

/** The X.509-SVIDs as they are now. The stream stays open in a real program: each change sends all of them anew. */
function fetchX509Svids(client) {
  return new Promise((resolve, reject) => {
    const stream = client.FetchX509SVID({}, metadata, { deadline: Date.now() + 30_000 });
    stream.once("data", (response) => {
      resolve(response.svids);
      stream.cancel();
    });
    stream.on("error", reject);
  });
}

function fetchJwtSvids(client, audience) {
  return new Promise((resolve, reject) => {
    client.FetchJWTSVID({ audience }, metadata, { deadline: Date.now() + 30_000 }, (error, response) =>
      error ? reject(error) : resolve(response.svids),
    );
  });
}

const socket = process.env.SPIFFE_ENDPOINT_SOCKET;
if (!socket) throw new Error("SPIFFE_ENDPOINT_SOCKET is not set");
const client = new SpiffeWorkloadAPI(socket, grpc.credentials.createInsecure());
try {
  // Of several identities, the first is the default one.
  const [x509] = await fetchX509Svids(client);
  // x509.x509_svid_key is the private key (PKCS #8, DER), x509.bundle holds the certificates to trust (DER).
  const leaf = new X509Certificate(x509.x509_svid);
  console.log("X.509-SVID:", x509.spiffe_id);
  console.log("valid until:", utc(new Date(leaf.validTo)));

  const [jwt] = await fetchJwtSvids(client, ["my-service"]);
  const claims = JSON.parse(Buffer.from(jwt.svid.split(".")[1], "base64url").toString());
  console.log("JWT-SVID:", jwt.spiffe_id, "for", [claims.aud].flat().join(", "));
  console.log("valid until:", utc(new Date(claims.exp * 1000)));
} finally {
  client.close();
}
