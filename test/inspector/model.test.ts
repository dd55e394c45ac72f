/** What the page knows, message by message. */
import { describe, expect, test } from 'vitest';
import { chartOf } from '../../src/inspector/chart.ts';
import { eventReader } from '../../src/inspector/page/events.ts';
import { EMPTY, heard, marksOf, type Model, serversAt, shownOf, titleOf } from '../../src/inspector/page/model.ts';
import { recordingOf } from '../../src/inspector/recording.ts';
import type { Message } from '../../src/inspector/wire.ts';
import { statusView } from '../../src/views/status.ts';
import { Play } from '../machines/documents.ts';

const NOW = { ms: 1_000, time: '14:00:00' };
function status(play: Play): Message {
  const { document } = play;
  const recording = recordingOf(document, chartOf(document.snapshot.context.topology));
  const view = statusView({ document, driver: null, live: null, now: play.now });
  return { type: 'status', status: view, recording, releases: [] };
}
const after = (...messages: Message[]): Model => messages.reduce((model, message) => heard(model, message, NOW), EMPTY);

describe('the page', () => {
  test('shows the newest frame, and any other while it is stepped through', () => {
    const model = after(status(new Play().until('app1Published')));
    expect(shownOf(model)?.state).toBe('app1Published');
    const { recording } = model;
    if (recording === null) throw new Error('there is no recording');
    const index = recording.frames.findIndex(({ state }) => state === 'app1Drained');
    const shown = shownOf({ ...model, replay: { recording, index } });
    expect([shown?.state, shown?.isReplay, shown?.frames.length]).toEqual(['app1Drained', true, index + 1]);
    expect(shown?.servers.find(({ name }) => name === 'app1')).toMatchObject({ traffic: 'drained', runs: 'old' });
  });

  test('takes the active state from the chart itself, and forgets it when another release begins', () => {
    const play = new Play().until('tested');
    const model = { ...after(status(play)), active: 'tagging' };
    expect(shownOf(heard(model, status(play), NOW))?.state).toBe('tagging');
    const other = new Play({ id: 'r-0002' }).until('planned');
    expect(shownOf(heard(model, status(other), NOW))?.state).toBe('planned');
  });

  test('marks a step that failed until it was tried again', () => {
    const play = new Play().until('publishingApp1').fail('rejected', 'status 3');
    const failed = after(status(play)).recording?.frames ?? [];
    expect(marksOf(failed, 'app1Drained').get('publishingApp1')?.is).toBe('failed');
    play.send({ type: 'NEXT' }).end();
    const again = after(status(play)).recording?.frames ?? [];
    expect(marksOf(again, 'app1Published').get('publishingApp1')).toMatchObject({ is: 'done', times: 2 });
  });

  test('keeps the last two thousand lines of each source, and says how many it left out', () => {
    const lines = Array.from({ length: 1_500 }, (_, index) => `line ${index}`);
    const text: Message = { type: 'text', source: 'app1 log', lines, dropped: 3 };
    const { printed } = after(text, text);
    expect([printed['app1 log']?.lines.length, printed['app1 log']?.dropped]).toEqual([2_000, 1_006]);
    expect(after(text, { type: 'hello', allowSend: false, project: 'p', host: 'h' }).printed).toEqual({});
  });

  test('keeps two minutes of rates, and knows an unreadable log from a silent one', () => {
    const rates = (app1: number | null): Message => ({
      type: 'rates',
      rates: { at: '', servers: { app1 }, step: null, soak: null },
    });
    const model = after(...Array.from({ length: 200 }, () => rates(3)), rates(null), rates(0));
    expect(model.sparks.app1).toHaveLength(120);
    expect(model.sparks.app1?.slice(-3)).toEqual([3, null, 0]);
  });

  test('tells in the title of its tab what is wrong, and where the release stands', () => {
    expect(titleOf(EMPTY)).toBe('flow');
    const play = new Play().until('app1Drained');
    const driven = (message: Message): Message =>
      message.type === 'status' && message.status.release !== null
        ? { ...message, status: { ...message.status, release: { ...message.status.release, unwatched: null } } }
        : message;
    expect(titleOf(after(driven(status(play))))).toBe('app1Drained · quickpay v1.3.8 · flow');
    play.send({ type: 'NEXT' }).fail('rejected', 'status 3');
    expect(titleOf(after(driven(status(play))))).toBe('✖ app1Drained · quickpay v1.3.8 · flow');
  });

  test('folds the servers of frames that tell only what changed', () => {
    const frames = after(status(new Play().until('allLive'))).recording?.frames ?? [];
    expect(serversAt(frames).map(({ name, traffic, runs }) => [name, traffic, runs])).toEqual([
      ['app1', 'inRotation', 'new'],
      ['app2', 'inRotation', 'new'],
    ]);
  });
});

describe('server-sent events', () => {
  test('are read however the stream is cut, and what is no message is left out', () => {
    const text = 'data: {"type":"beat","at":"1"}\n\ndata: nonsense\n\n: comment\n\ndata: {"type":"beat","at":"2"}\n\n';
    for (let size = 1; size < text.length; size += 7) {
      const reader = eventReader();
      const pieces = Array.from({ length: Math.ceil(text.length / size) }, (_, at) =>
        text.slice(at * size, (at + 1) * size),
      );
      expect(pieces.flatMap((piece) => reader.read(piece))).toEqual([
        { type: 'beat', at: '1' },
        { type: 'beat', at: '2' },
      ]);
    }
  });
});
