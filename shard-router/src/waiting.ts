import { CascadeError } from "@cascade/shared/errors";

/** Nothing is wrong: what must come first has not been applied yet, by this router or another. Only this partition waits. */
export class WaitingError extends CascadeError {
  override readonly name = "WaitingError";
  /** Tells one wait from the next, where the messages are alike. */
  readonly at: string;

  constructor(message: string, at = "") {
    super({
      code: "WAITING",
      verdict: "retry",
      message,
      advice:
        "nothing to do while what it waits for goes on: this goes on by itself; look at the other topic, or partition, if that is held",
    });
    this.at = at;
  }
}
