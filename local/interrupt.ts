/**
 * Calls back once when this program is to end: on SIGINT, SIGTERM or SIGHUP, and when the npm that started it has died.
 * npm hands signals to a shell, which dies of them and tells nobody.
 */
export function onInterrupt(end: (signal: NodeJS.Signals) => void): void {
  let asked = false;
  const once = (signal: NodeJS.Signals): void => {
    if (asked) return;
    asked = true;
    end(signal);
  };
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(signal, () => once(signal));
  if (process.env.npm_lifecycle_event === undefined) return;
  const parent = process.ppid;
  const watch = setInterval(() => {
    if (process.ppid !== parent) once("SIGTERM");
  }, 500);
  watch.unref();
}
