import { serviceMain } from "@cascade/shared/service";
import packageJson from "../package.json";
import { readRouterConfig, unknownRouterVariables } from "./config.ts";
import { routingService } from "./routing.ts";

await serviceMain("shard-router", packageJson.version, readRouterConfig, unknownRouterVariables, routingService);
