/** What `flow doctor` says of one thing that it looked at. */
import { codeOf, messageOf } from '../../errors.ts';

export interface Finding {
  /** What it is about, as flow.yaml calls it: a host, a server, a proxy, `project`. */
  about: string;
  /** What was looked at, in a few words. */
  what: string;
  /** `told`: worth knowing, and no obstacle. `bad`: a release would be refused, or fail. */
  verdict: 'ok' | 'told' | 'bad';
  because: string;
  /** What a person runs to mend it. */
  mend?: string;
}

/** One look; whatever it throws is its finding. */
export async function look(
  about: string,
  what: string,
  work: () => Promise<Omit<Finding, 'about' | 'what'>>,
): Promise<Finding> {
  try {
    return { about, what, ...(await work()) };
  } catch (error) {
    // Said once, of the host itself.
    const because = codeOf(error) === 'HOST_UNREACHABLE' ? 'its host cannot be reached' : messageOf(error);
    return { about, what, verdict: 'bad', because };
  }
}
