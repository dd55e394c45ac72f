/** What can go wrong with the soak and the final watch (runbook R4.2, R5.2). */
import type { FailureRows } from './failure.ts';

const NEW_ON_APP1 = { app1: 'v1.3.8', app2: 'v1.3.7' };
const OLD_AGAIN = { app1: 'v1.3.7', app2: 'v1.3.7' };
const VERIFIED = { exit: 0, rests: 'verified', serving: ['app1'], versions: NEW_ON_APP1, run: 'flow send NEXT' };
const ROLLED_BACK = { exit: 7, rests: 'rolledBack', serving: ['app1', 'app2'], versions: OLD_AGAIN };
const ASKS = { exit: 6, rests: 'askingSoak', serving: ['app1'], versions: NEW_ON_APP1 };

export const soakRows = {
  moreErrors: {
    situation: 'The new version writes more errors into its log than the old one did',
    does: 'rolls back by itself: traffic first, then the old version on that server; the version is marked bad',
    sees: 'v1.3.8 writes more errors than the version before:',
    run: 'flow start',
    ...ROLLED_BACK,
  },
  moreErrorsHeld: {
    thorough: true,
    situation: 'The same, with verify.onBad: hold',
    does: 'rests with the traffic where it was, and leaves the decision to you',
    sees: 'Nothing is rolled back by itself: traffic stays on app1.',
    run: 'flow send ROLLBACK',
    exit: 6,
    rests: 'app1Live',
    serving: ['app1'],
    versions: NEW_ON_APP1,
  },
  errorsAsBefore: {
    thorough: true,
    situation: 'The new version writes errors and answers 5xx as often as the old one did',
    does: 'goes on: they are counted, shown, and judged against the share before the release',
    sees: 'errors in the logs',
    ...VERIFIED,
    clientsMayFail: 'both versions answer some requests with 500 themselves',
  },
  healthOnce: {
    thorough: true,
    situation: 'A health check fails now and then, never more often in a row than verify.failuresTolerated',
    does: 'goes on; a soak never ends on a failed check, it waits for the next one',
    sees: 'failed; 0 errors in the logs',
    ...VERIFIED,
  },
  healthGone: {
    thorough: true,
    situation: 'The health check of the new version fails and goes on failing',
    does: 'rolls back by itself',
    sees: 'answered 503, expected 200 (2 times in a row).',
    run: 'flow start',
    ...ROLLED_BACK,
  },
  slow: {
    thorough: true,
    situation: 'The new version is slower through the proxy than a check allows (within)',
    does: 'rolls back by itself',
    sees: 'ms, allowed 150 ms (2 times in a row).',
    run: 'flow start',
    ...ROLLED_BACK,
  },
  failingRequests: {
    situation: 'Nginx answers more requests with 5xx than before the release',
    does: 'rolls back by itself, also when no log and no check says anything',
    sees: 'More requests fail with v1.3.8 than before: Nginx answered',
    run: 'flow start',
    ...ROLLED_BACK,
    clientsMayFail: 'the new version answers every third request with 500 until the traffic has moved back',
  },
  unreadable: {
    situation: 'The log cannot be read for longer than verify.blind',
    does: 'asks, and rolls nothing back: unreadable is neither good nor bad; a shorter while only makes the soak longer',
    sees: 'quickpay.log) cannot be read: after',
    run: 'flow send ANSWER again',
    ...ASKS,
  },
  missing: {
    thorough: true,
    situation: 'The log is not there for longer than verify.blind',
    does: 'asks, and rolls nothing back',
    sees: 'quickpay.log) is missing: after',
    run: 'flow send ANSWER accept',
    ...ASKS,
  },
  rotated: {
    situation: 'The log is rotated in the middle of a soak, by renaming or by copying and emptying',
    does: 'goes on in the new file; no line is lost or counted twice',
    sees: '30 errors in the logs',
    ...VERIFIED,
  },
  emptied: {
    thorough: true,
    situation:
      'The log is emptied in the middle of a soak, and binary data and a line without an end are written to it',
    does: 'goes on, and says that lines may be missing',
    sees: 'the log of app1 was rotated or emptied, and the rest of it was not found',
    ...VERIFIED,
  },
  noTraffic: {
    thorough: true,
    situation: 'No request comes in during the whole soak, and no checks are configured',
    does: 'asks: silence proves nothing',
    sees: 'no checks are configured (verify.checks): the soak can say neither good nor bad.',
    run: 'flow send ANSWER rollback',
    ...ASKS,
  },
  checksAlone: {
    thorough: true,
    situation: 'No request comes in during the whole soak, and checks are configured',
    does: 'goes on when they pass, and says that they alone judged. No access log is needed',
    sees: 'no traffic was seen: judged by the checks alone',
    ...VERIFIED,
  },
} as const satisfies FailureRows;
