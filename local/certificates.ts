import { chmodSync, chownSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { run } from "./command.ts";
import type { ServerUser } from "./server-user.ts";

/** Certificates of an authority of our own, made by openssl: files, as servers want them. */
export interface Certificates {
  readonly ca: string;
  readonly certificate: string;
  readonly key: string;
  /** Key and certificate in one file, as Kafka wants its key store. */
  readonly keyStore: string;
}

export interface CertificateOptions {
  /** Made if missing. */
  readonly dir: string;
  /** Host names and addresses of the server, as openssl writes them: "DNS:localhost,IP:127.0.0.1". */
  readonly names: string;
  /** Who reads the key; others may not. */
  readonly owner?: ServerUser;
}

/** Makes an authority, and a server's certificate signed by it. */
export async function makeCertificates({ dir, names, owner = null }: CertificateOptions): Promise<Certificates> {
  mkdirSync(dir, { recursive: true });
  const file = (name: string): string => join(dir, name);
  const [ca, caKey, certificate, key] = ["ca.pem", "ca.key", "server.pem", "server.key"].map(file) as [
    string,
    string,
    string,
    string,
  ];
  const openssl = (...options: readonly string[]) => run(["openssl", ...options]);
  const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  await openssl("req", "-x509", "-days", "2", "-subj", "/CN=Cascade test authority", ...newKey, "-keyout", caKey, "-out", ca);
  await openssl("req", "-subj", "/CN=server", ...newKey, "-keyout", key, "-out", file("server.csr"));
  writeFileSync(file("names.ext"), `subjectAltName=${names}\n`);
  const signing = ["-CA", ca, "-CAkey", caKey, "-CAcreateserial", "-days", "2", "-extfile", file("names.ext")];
  await openssl("x509", "-req", "-in", file("server.csr"), ...signing, "-out", certificate);
  const keyStore = file("store.pem");
  writeFileSync(keyStore, `${readFileSync(key, "utf8")}${readFileSync(certificate, "utf8")}`);
  for (const secret of [key, keyStore]) {
    chmodSync(secret, 0o600);
    if (owner !== null) chownSync(secret, owner.uid, owner.gid);
  }
  return { ca, certificate, key, keyStore };
}
