import { dirname, join } from "node:path";

export const repository = dirname(import.meta.dir);

/** Everything this package makes is below it; git ignores it. */
export const stateFolder = join(repository, ".cascade");
