/** What can go wrong with a publish (runbook R3.4, R5.1). */
import type { FailureRows } from './failure.ts';

export const publishRows = {
  exitsNonZero: {
    situation: 'publish.sh ends with another status than 0',
    does: 'rests before the publish, with that server out of rotation; nothing is tried again by itself',
    sees: 'The publish of v1.3.8 to app1 ended with exit status 3. app1 receives no traffic, and nobody can say what it runs.',
    run: 'flow send ROLLBACK',
    exit: 6,
    rests: 'app1Drained',
    serving: ['app2'],
    versions: { app1: 'v1.3.7', app2: 'v1.3.7' },
  },
} as const satisfies FailureRows;
