/** Trouble in publish.sh and in the program it starts. */
import { expect } from 'vitest';
import { failures } from './failure.ts';
import { publishRows } from './publish.rows.ts';

failures('a publish', publishRows, {
  exitsNonZero: {
    async trouble(on) {
      await on.walkTo(await on.start(), 'app1Drained');
      await on.leave();
      await on.sandbox.publishKnobs({ EXIT_WITH: 3 });
      return await on.flow('send', 'NEXT', '--yes');
    },
    async mended(on) {
      await on.sandbox.publishKnobs(null);
      expect((await on.flow('send', 'ROLLBACK', '--yes')).status).toBe(7);
      expect(on.document().snapshot.context.runs).toEqual({ app1: 'old', app2: 'old' });
    },
  },
});
