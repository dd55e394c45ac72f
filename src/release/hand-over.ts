/** Handing an event to the driver that is already at work, and following along until it rests. */
import { EXIT, FlowError, LockHeldError } from '../errors.ts';
import { connect } from '../store/channel.ts';
import { readLiveDriver } from './read.ts';
import type { Decision } from './engine.ts';
import type { Request, Told } from './drive.ts';

/**
 * Hands the request to the live driver; `tell` hears what it does until it rests. Resolves with the decision, or with null when
 * the driver was gone before it decided (the caller may become the driver then).
 * Throws LockHeldError when there is a driver that takes no events (yet), and FlowError NOT_TAKEN when it could not decide.
 */
export async function handOver(
  stateDir: string,
  request: Request,
  tell: (told: Told) => void,
  signal: AbortSignal,
): Promise<Decision | null> {
  const driver = readLiveDriver(stateDir);
  if (driver === null) return null;
  const who = `${driver.who} (process ${driver.pid} on ${driver.host}, since ${driver.since}) is ${driver.doing}`;
  if (driver.socket === null)
    throw new LockHeldError(`${who}, and takes no events. Nothing was changed. Try again in a moment: flow status`);
  let channel;
  try {
    channel = await connect(driver.socket);
  } catch {
    return null;
  }
  const stop = () => {
    channel.close();
  };
  if (signal.aborted) stop();
  signal.addEventListener('abort', stop, { once: true });
  let decision: Decision | null = null;
  try {
    channel.send(request);
    for await (const told of channel.messages as AsyncIterable<Told>) {
      if (told.kind === 'decision') {
        decision = told.decision;
        if (!decision.accepted) break;
      } else if (told.kind === 'problem') {
        throw new FlowError(
          'NOT_TAKEN',
          EXIT.locked,
          `${who}, and could not take ${request.event.type}: ${told.message}. Where the release stands: flow status`,
        );
      } else {
        tell(told);
      }
    }
  } finally {
    signal.removeEventListener('abort', stop);
    channel.close();
  }
  return decision;
}
