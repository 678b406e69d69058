import type { Statement } from "../dialect.ts";
import type { Work } from "../replica.ts";

/**
 * `attempt` is one transaction: with as few statements as possible, and when a constraint refuses those, once more with every mutation by
 * itself in order. Rejects with what the last attempt rejects with.
 */
export async function applyWork(
  work: Work,
  isConstraintError: (error: unknown) => boolean,
  attempt: (statements: readonly Statement[]) => Promise<void>,
): Promise<void> {
  try {
    await attempt(work.statements);
  } catch (error) {
    if (!isConstraintError(error)) throw error;
    await attempt(work.inOrder());
  }
}
