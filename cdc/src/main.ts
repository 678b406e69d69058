import { serviceMain } from "@cascade/shared/service";
import packageJson from "../package.json";
import { captureService } from "./capture.ts";
import { readCdcConfig, unknownCdcVariables } from "./config.ts";

await serviceMain("cdc", packageJson.version, readCdcConfig, unknownCdcVariables, captureService);
