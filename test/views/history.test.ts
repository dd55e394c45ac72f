import { describe, expect, it } from 'vitest';
import { historyText, historyView, releasesText } from '../../src/views/history.ts';
import { plainPaint } from '../../src/views/text.ts';
import { Play } from '../machines/documents.ts';

describe('the history', () => {
  it('says when what happened, who did it, how long it took, and on what evidence', () => {
    const play = new Play().until('tested');
    play.send({ type: 'ABORT', reason: 'wrong\nversion' });
    expect(historyText(historyView(play.document), plainPaint)).toBe(
      [
        'quickpay v1.3.8   r-0001   aborting',
        '',
        'REV  TIME                 WHAT               WHO                       TOOK  NOTE',
        '1    2026-06-01 14:00:00  started → planned  li@bastion, command line',
        '2    2026-06-01 14:00:10  NEXT → testing     li@bastion, command line',
        '3    2026-06-01 14:00:20  done → tested                                10 s  develop merged into testing as abc1234567; the test server runs v1.3.8; 0 checks pass; published in 8.0 s',
        '4    2026-06-01 14:00:30  ABORT → aborting   li@bastion, command line        reason: wrong | version',
      ].join('\n'),
    );
  });

  it('names what was overridden, and defuses what failed', () => {
    const { document } = new Play().until('publishingApp1').fail('rejected', 'status\u001b[2J 3');
    const last = document.history.at(-1);
    if (last === undefined) throw new Error('there is no history');
    const forced = [{ id: 'notFrozen', ok: false, because: 'frozen' }];
    const text = historyText(historyView({ ...document, history: [{ ...last, forced }] }), plainPaint);
    expect(text).toMatch(/failed → app1Drained +10 s {2}status 3; overridden: notFrozen \(frozen\)$/);
  });

  it('is aligned whatever script the names are written in', () => {
    const { document } = new Play().until('testing');
    const [first, second] = document.history;
    if (first === undefined || second === undefined) throw new Error('there is no history');
    const history = [
      { ...first, by: { user: '李雷', host: 'bastion', via: '控制台' }, note: 'A' },
      { ...second, note: 'B' },
    ];
    const [, , , a = '', b = ''] = historyText(historyView({ ...document, history }), plainPaint).split('\n');
    // Five characters of two columns each stand before A, and none before B.
    expect(a).toContain('李雷@bastion, 控制台');
    expect(b.indexOf('B') - a.indexOf('A')).toBe(5);
  });

  it('is plain data with a schema version', () => {
    const view = historyView(new Play().document);
    expect(view).toMatchObject({ schemaVersion: 1, id: 'r-0001', version: 'v1.3.8', state: 'planned' });
    expect(JSON.parse(JSON.stringify(view))).toEqual(view);
  });
});

describe('the list of releases', () => {
  it('says how each ended, or that it runs', () => {
    const startedAt = new Date(2026, 5, 1, 14, 0).toISOString();
    const endedAt = new Date(2026, 5, 1, 15, 0).toISOString();
    const releases = [
      { id: 'r-0001', version: 'v1.3.7', startedAt, endedAt, state: 'allLive' },
      { id: 'r-0002', version: 'v1.3.8', startedAt: endedAt, endedAt: null, state: 'app1Live' },
    ];
    expect(releasesText(releases, plainPaint)).toBe(
      [
        'RELEASE  VERSION  STARTED              ENDED                STATE',
        'r-0001   v1.3.7   2026-06-01 14:00:00  2026-06-01 15:00:00  allLive',
        'r-0002   v1.3.8   2026-06-01 15:00:00  running              app1Live',
      ].join('\n'),
    );
  });

  it('explains itself when it is empty', () => {
    expect(releasesText([], plainPaint)).toBe('There has been no release yet. Plan one: flow start');
  });
});
