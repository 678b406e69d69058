import { CascadeError } from "./errors.ts";

/** Why a service is not ready; empty when it is. */
export type Reasons = readonly string[];

export interface HttpOptions {
  readonly host: string;
  readonly port: number;
  readonly readiness: () => Reasons;
  readonly status: () => object;
  readonly metrics: () => Promise<string>;
}

export interface HttpServer extends AsyncDisposable {
  readonly port: number;
}

/** `/health/live`, `/health/ready`, `/status` and `/metrics` (contract.md §5). Throws CascadeError HTTP_PORT (refuse) when it cannot listen. */
export function serveHttp(options: HttpOptions): HttpServer {
  const server = listen(options, {
    // Answering at all is the proof: a process that cannot go on by itself ends.
    "/health/live": () => Response.json({ status: "live" }),
    "/health/ready": () => {
      const reasons = options.readiness();
      return Response.json(
        { status: reasons.length === 0 ? "ready" : "not ready", reasons },
        { status: reasons.length === 0 ? 200 : 503 },
      );
    },
    "/status": () => Response.json(options.status()),
    "/metrics": async () =>
      new Response(await options.metrics(), { headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" } }),
  });
  return { port: server.port ?? options.port, [Symbol.asyncDispose]: () => server.stop(true) };
}

type Route = () => Response | Promise<Response>;
type Routes = Readonly<Record<string, Route>>;

const READING = ["GET", "HEAD"];

/** There is nothing to be changed over HTTP. */
const readOnly =
  (route: Route) =>
  (request: Request): Response | Promise<Response> =>
    READING.includes(request.method)
      ? route()
      : Response.json({ allowed: READING }, { status: 405, headers: { allow: READING.join(", ") } });

function listen({ host, port }: HttpOptions, routes: Routes) {
  try {
    return Bun.serve({
      hostname: host,
      port,
      routes: Object.fromEntries(Object.entries(routes).map(([path, route]) => [path, readOnly(route)])),
      fetch: readOnly(() => Response.json({ routes: Object.keys(routes) }, { status: 404 })),
      error: () => new Response("internal error", { status: 500 }),
    });
  } catch (error) {
    throw new CascadeError({
      code: "HTTP_PORT",
      verdict: "refuse",
      message: `cannot listen on ${host}:${port} (${(error as NodeJS.ErrnoException).code ?? "unknown reason"})`,
      advice: "give the service a free HTTP_PORT (0 takes any) and an address of this machine as HTTP_HOST",
    });
  }
}
