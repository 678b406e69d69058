/** Codes of Node's TLS errors, which the drivers pass on. */
const TLS_CODE = /^(?:ERR_TLS_|ERR_SSL_|CERT_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|HOSTNAME_MISMATCH)/;

/** What kept a connection from being encrypted as was asked: a certificate of an unknown authority, of another name, ...; null for any other error. */
export function tlsErrorCode(error: unknown): string | null {
  const code = error instanceof Error && "code" in error ? error.code : null;
  return typeof code === "string" && TLS_CODE.test(code) ? code : null;
}
