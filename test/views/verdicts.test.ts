import { describe, expect, it } from 'vitest';
import { verdictsOn } from '../../machines/guards.ts';
import type { Facts } from '../../machines/events.ts';
import { plainPaint } from '../../src/views/text.ts';
import { refusalText, whyText, whyView } from '../../src/views/verdicts.ts';
import { asks, Play } from '../machines/documents.ts';

function refusalOf(play: Play, changed: Partial<Facts>) {
  const { document } = play;
  const { value: state, context } = document.snapshot;
  const verdicts = verdictsOn(state, context, { type: 'NEXT', facts: { ...play.facts, ...changed } });
  return refusalText({ verdicts, because: null, rev: document.rev, state }, document, 'NEXT', plainPaint);
}

const frozen = { freeze: { because: 'the weekend', until: new Date(2026, 5, 1, 20, 0).toISOString() } };

describe('a refusal', () => {
  it('shows every verdict, the refusing ones first, with what would unblock them', () => {
    const text = refusalOf(new Play().until('app1Drained'), {
      drained: { app1: { ok: false, because: '2 old workers' } },
    });
    expect(text).toBe(
      [
        '✖ NEXT refused at app1Drained. Nothing changed (rev 7).',
        '  ✖  drained             app1 is not proven drained: 2 old workers',
        '                         to unblock: wait until its last requests have ended, then: flow send NEXT',
        '  ✔  proxyAsBelieved     the proxy serves app2',
        '  ✔  outOfRotation       app1 is in no route that may be live',
        '  ✔  versionsAsBelieved  no server runs anything else than this release believes',
        '  ✔  tagAsPushed         v1.3.8 is at def1234567, as pushed',
        '  See  flow status',
      ].join('\n'),
    );
  });

  it('offers the override of what may be overridden, and says when it opens by itself', () => {
    const text = refusalOf(new Play().until('tagged'), frozen);
    expect(text).toContain('opens by itself at 2026-06-01 20:00:00\n');
    expect(text).toContain('  Override  flow send NEXT --force=notFrozen --reason "…"   (recorded)\n');
  });

  it('offers no override that would be of no use', () => {
    const text = refusalOf(new Play().until('tagged'), { ...frozen, proxy: null });
    expect(text).toContain('  No override  proxyAsBelieved cannot be overridden\n');
    expect(text).not.toContain('--force');
  });

  it('names the choices of the open question to a wrong answer', () => {
    const play = new Play().until('drainingApp1').end(asks('drainOverdue', 'overdue', 'wait', 'proceed'));
    const { document } = play;
    const { value: state, context } = document.snapshot;
    const verdicts = verdictsOn(state, context, { type: 'ANSWER', question: 'drainOverdue.1', choice: 'hurry' });
    const refusal = { verdicts, because: 'no\u001b[2J', rev: document.rev, state };
    const text = refusalText(refusal, document, 'ANSWER', plainPaint);
    expect(text).toContain('"hurry" is not a choice\n');
    expect(text).toContain('    flow send ANSWER wait     does wait\n    flow send ANSWER proceed  does proceed\n');
    expect(text).toContain('\n  no\n');
  });
});

describe('why', () => {
  it('tells of every event that the state takes, by the verdicts the chart decides by', () => {
    const play = new Play().until('app1Drained');
    const facts = { ...play.facts, drained: { app1: { ok: false, because: '2 old workers' } } };
    const view = whyView({ document: play.document, event: null, facts });
    expect(view.events.map(({ event, passes }) => [event, passes])).toEqual([
      ['NEXT', false],
      ['ROLLBACK', true],
    ]);
    expect(view.events[0]?.verdicts).toEqual(
      verdictsOn('app1Drained', play.document.snapshot.context, { type: 'NEXT', facts }),
    );
    const text = whyText(view, plainPaint);
    expect(text).toContain('r-0001 at app1Drained (rev 7)\n');
    expect(text).toContain('✖ NEXT refused: publish v1.3.8 to app1\n  ✖  drained ');
    expect(text).toContain('✔ ROLLBACK passes: traffic to app1 and app2 at once');
    expect(whyView({ document: play.document, event: 'NEXT', facts: play.facts }).events[0]?.passes).toBe(true);
  });

  it('lets a forced guard pass, and only that', () => {
    const play = new Play().until('tagged');
    const passes = (facts: Facts, force: string[]) =>
      whyView({ document: play.document, event: 'NEXT', facts, force }).events[0]?.passes;
    expect(passes({ ...play.facts, ...frozen }, ['notFrozen'])).toBe(true);
    expect(passes({ ...play.facts, proxy: null }, ['proxyAsBelieved'])).toBe(false);
  });

  it('says why an event means nothing', () => {
    const becauseOf = (play: Play, event: 'NEXT' | 'ABORT') =>
      whyView({ document: play.document, event, facts: null }).events[0]?.because;
    expect(becauseOf(new Play().until('verifying'), 'NEXT')).toBe('verifying is at work; possible now: ROLLBACK');
    expect(becauseOf(new Play().until('verified'), 'ABORT')).toBe(
      'ABORT gives a release up that has not touched production, and this one has; possible now: NEXT, ROLLBACK. To go back to the old version: flow send ROLLBACK',
    );
    expect(becauseOf(new Play().until('allLive'), 'NEXT')).toBe('the release has ended (allLive)');
    expect(
      whyText(whyView({ document: new Play().until('allLive').document, event: null, facts: null }), plainPaint),
    ).toContain('nothing can be sent to it now');
  });

  it('says what an answer can be', () => {
    const play = new Play().until('drainingApp1').end(asks('drainOverdue', 'It is overdue.', 'wait', 'proceed'));
    const [answer] = whyView({ document: play.document, event: 'ANSWER', facts: null }).events;
    expect(answer).toMatchObject({
      passes: true,
      because: 'It is overdue. Choose: wait (does wait), proceed (does proceed)',
    });
  });
});
