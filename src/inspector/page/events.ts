/** Server-sent events out of a stream of text. Only what the inspector sends: `data:` lines, one JSON value each. Pure. */
import type { Message } from '../wire.ts';

export interface EventReader {
  /** The messages that are complete with this piece; what is not JSON is left out. */
  read(piece: string): Message[];
}

export function eventReader(): EventReader {
  let rest = '';
  return {
    read(piece) {
      const events = (rest + piece).split('\n\n');
      rest = events.pop() ?? '';
      return events.flatMap((event) => {
        const data = event
          .split('\n')
          .filter((line) => line.startsWith('data:'))
          .map((line) => line.slice(5).trimStart())
          .join('\n');
        try {
          return [JSON.parse(data) as Message];
        } catch {
          return [];
        }
      });
    },
  };
}
